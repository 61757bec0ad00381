locals {
  scales = var.max_instances > var.min_instances

  # By architecture and type, the memory that the kernel leaves, rounded down; and the part of it that ECS must not give
  # to tasks. `make deploy` reads the file too. Accounts on the free plan may start t3.micro, t3.small, t4g.micro,
  # t4g.small and the types in -flex.
  memory              = jsondecode(file("${path.module}/memory.json"))
  instance_memory_mib = local.memory.instances
  reserved_memory_mib = local.memory.reserved

  # The provider's default tags do not reach the instances of a group, so they are added here.
  instance_tags = merge(data.aws_default_tags.current.tags, var.instance_tags, {
    Name             = "${var.name}-flask"
    AmazonECSManaged = "true" # the capacity provider adds this tag; without this line every plan would remove it
  })
}

data "aws_default_tags" "current" {}

data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0

  # docs.aws.amazon.com/AmazonECS/latest/developerguide/retrieve-ecs-optimized_AMI.html
  name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/${var.architecture == "arm64" ? "arm64/" : ""}recommended/image_id"
}

resource "aws_launch_template" "this" {
  name                   = "${var.name}-flask-lt"
  image_id               = var.ami_id == null ? nonsensitive(data.aws_ssm_parameter.ami[0].value) : var.ami_id # public, but marked as sensitive
  instance_type          = var.instance_type
  key_name               = one(var.ssh[*].key_name)
  vpc_security_group_ids = [aws_security_group.this.id]
  update_default_version = true

  user_data = base64encode(<<-SHELL
    #!/bin/bash
    cat >> /etc/ecs/ecs.config <<'CONFIG'
    ECS_CLUSTER=${aws_ecs_cluster.this.name}
    ECS_RESERVED_MEMORY=${local.reserved_memory_mib}
    ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=15m
    CONFIG
  SHELL
  )

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  # IMDSv2 only, with a hop limit of 1, so that a container, which is one hop further, cannot use the instance's role.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 30 # the size of the image; EC2 refuses a smaller disk
      encrypted             = true
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "volume"
    tags          = local.instance_tags
  }
}

resource "aws_autoscaling_group" "this" {
  name_prefix         = "${var.name}-flask-asg-"
  min_size            = var.min_instances
  max_size            = var.max_instances
  vpc_zone_identifier = var.subnet_ids

  # The course asks for ELB. It checks only balancers that are attached to the group, and none is attached. The
  # service's target group, if attached, would register each instance on a port where nothing listens, and the group would replace
  # healthy instances again and again. ECS replaces tasks, and the group's EC2 checks replace instances.
  health_check_type         = "ELB"
  health_check_grace_period = 300

  # Destroy does not wait for the instances: `make destroy` has stopped all tasks before.
  force_delete = true

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  # No `instance_refresh`: Terraform would start one inside any deployment that changes the template and would not wait
  # for it. `make refresh` gives the group the new template and replaces the running instances.

  dynamic "tag" {
    for_each = local.instance_tags

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  # On destroy, the instances keep their permissions to the end, so that the agent can drain and deregister.
  depends_on = [aws_iam_role_policy.ecs_agent, aws_iam_role_policy.session_manager]

  lifecycle {
    create_before_destroy = true

    # `make refresh` gives the group a newer version of the template, and the earlier one again if that fails.
    ignore_changes = [launch_template[0].version]
  }
}
