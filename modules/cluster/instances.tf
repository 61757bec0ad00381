locals {
  scales = var.max_instances > var.min_instances

  # What the kernel leaves of an instance's memory, rounded down, and what of that ECS must not give to tasks.
  instance_memory_mib = {
    "t2.micro"  = 900
    "t3.micro"  = 900
    "t3.small"  = 1850
    "t3.medium" = 3750
  }
  reserved_memory_mib = 128

  # A group tags its instances itself: the provider's default tags stop at the group.
  instance_tags = merge(data.aws_default_tags.current.tags, var.instance_tags, {
    Name             = "${var.name}-flask"
    AmazonECSManaged = "true" # the capacity provider puts it there; unsaid, every plan would take it off again
  })
}

data "aws_default_tags" "current" {}

data "aws_ssm_parameter" "ami" {
  name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
}

resource "aws_launch_template" "this" {
  name                   = "${var.name}-flask-lt"
  image_id               = nonsensitive(data.aws_ssm_parameter.ami.value) # public, though every parameter is marked
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

  # Version 2 only, and one hop: a container (one hop further) cannot take the instance's role.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 30 # the image's own size: a smaller disk is refused
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

  # The mission's value. It looks only at balancers attached to the group, and none is: the service's target group,
  # attached here, would register every instance on a port that nothing listens on, find it unhealthy for ever and
  # replace the instance again and again. ECS replaces tasks; the group's own EC2 checks replace instances.
  health_check_type         = "ELB"
  health_check_grace_period = 300

  # Destroy need not wait for the instances one by one; the service has been scaled to zero before.
  force_delete = true

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  # A new machine image or instance type replaces the instances one at a time, each drained first.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage = 50
      skip_matching          = true
    }
  }

  dynamic "tag" {
    for_each = local.instance_tags

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  # On destroy the instances keep their permissions until they are gone, so the agent can still drain and deregister.
  depends_on = [aws_iam_role_policy.ecs_agent, aws_iam_role_policy.session_manager]

  lifecycle {
    create_before_destroy = true
  }
}
