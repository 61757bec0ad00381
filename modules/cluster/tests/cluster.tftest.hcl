mock_provider "aws" {
  source = "../../tests/infra/mocks"

  override_data {
    target = data.aws_default_tags.current
    values = { tags = { project_name = "day02" } }
  }
}

variables {
  name                            = "day02"
  vpc_id                          = "vpc-0123456789abcdef0"
  subnet_ids                      = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  load_balancer_security_group_id = "sg-0123456789abcdef0"
  architecture                    = "x86_64"
  instance_type                   = "t2.micro"
  min_instances                   = 2
  max_instances                   = 2
  instance_tags                   = { "Autoscaling Flask" = "flask-asg" }
}

run "plan" {
  command = plan

  assert {
    condition     = aws_autoscaling_group.this.min_size == 2 && aws_autoscaling_group.this.max_size == 2 && aws_autoscaling_group.this.health_check_type == "ELB"
    error_message = "The group has the given size and the health check of the course."
  }

  assert {
    condition     = aws_autoscaling_group.this.vpc_zone_identifier == toset(var.subnet_ids)
    error_message = "The group uses the given subnets."
  }

  assert {
    condition     = { for tag in aws_autoscaling_group.this.tag : tag.key => tag.value if tag.propagate_at_launch } == { "Autoscaling Flask" = "flask-asg", AmazonECSManaged = "true", Name = "day02-flask", project_name = "day02" }
    error_message = "Instances have the given tags and the default tags."
  }

  assert {
    condition     = length(aws_autoscaling_group.this.instance_refresh) == 0 && aws_autoscaling_group.this.force_delete
    error_message = "No deployment starts an instance refresh, and destroy does not wait for the instances."
  }

  assert {
    condition     = aws_launch_template.this.instance_type == "t2.micro" && aws_launch_template.this.image_id == "ami-0123456789abcdef0" && aws_launch_template.this.key_name == null
    error_message = "Instances have the given type, the recommended image and no key pair."
  }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "A container cannot use the instance's role."
  }

  assert {
    condition     = aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true" && aws_launch_template.this.block_device_mappings[0].ebs[0].volume_type == "gp3"
    error_message = "Disks are encrypted gp3."
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.this.user_data), "\nECS_CLUSTER=day02\nECS_RESERVED_MEMORY=128\n") && startswith(base64decode(aws_launch_template.this.user_data), "#!/bin/bash\n")
    error_message = "Instances join the cluster and reserve 128 MiB for themselves."
  }

  assert {
    condition     = aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_draining == "ENABLED" && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_termination_protection == "DISABLED"
    error_message = "Tasks leave an instance before its termination, and no protection prevents the destruction of the group."
  }

  assert {
    condition     = aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_scaling[0].status == "DISABLED"
    error_message = "A group of fixed size is not scaled."
  }

  assert {
    condition     = aws_security_group.this.name_prefix == "day02-flask-sg-" && aws_security_group.this.tags.Name == "day02-flask-sg" && length(aws_vpc_security_group_ingress_rule.ssh) == 0
    error_message = "The instances' security group is named, and SSH is closed."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.load_balancer.referenced_security_group_id == "sg-0123456789abcdef0" && aws_vpc_security_group_ingress_rule.load_balancer.from_port == 32768 && aws_vpc_security_group_ingress_rule.load_balancer.to_port == 65535
    error_message = "Only the load balancer can reach the ports of the tasks."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443
    error_message = "Instances can only use HTTPS to the outside."
  }

  assert {
    condition     = one([for setting in aws_ecs_cluster.this.setting : setting.value if setting.name == "containerInsights"]) == "disabled"
    error_message = "Container Insights are off by default."
  }

  assert {
    condition     = output.task_memory_mib == 772
    error_message = "A t2.micro offers 772 MiB to tasks."
  }

  assert {
    condition     = toset(flatten(jsondecode(aws_iam_role_policy.session_manager.policy).Statement[*].Action)) == toset(["ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"])
    error_message = "Session Manager is on, with the permissions that AWS documents as its minimum and no others."
  }

  assert {
    condition     = { for statement in jsondecode(aws_iam_role_policy.ecs_agent.policy).Statement : statement.Sid => statement.Resource } == { Endpoint = "*", Cluster = "arn:aws:ecs:eu-west-1:123456789012:cluster/day02", Instances = "*" }
    error_message = "An instance can join only this cluster."
  }

  assert {
    condition     = one([for statement in jsondecode(aws_iam_role_policy.ecs_agent.policy).Statement : statement.Condition if statement.Sid == "Instances"]) == { ArnEquals = { "ecs:cluster" = "arn:aws:ecs:eu-west-1:123456789012:cluster/day02" } }
    error_message = "The agent can poll only this cluster."
  }
}

run "wired" {
  assert {
    condition     = aws_ecs_capacity_provider.this.name == "day02-flask" && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].auto_scaling_group_arn == aws_autoscaling_group.this.arn
    error_message = "The capacity provider uses the group and has a name that is known at plan time."
  }

  assert {
    condition     = aws_ecs_cluster_capacity_providers.this.capacity_providers == toset([output.capacity_provider_name]) && aws_ecs_cluster_capacity_providers.this.cluster_name == output.name
    error_message = "The cluster uses the capacity provider."
  }

  assert {
    condition     = aws_launch_template.this.iam_instance_profile[0].arn == aws_iam_instance_profile.this.arn && aws_iam_instance_profile.this.role == aws_iam_role.instance.name
    error_message = "Instances have the instance role."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.load_balancer.security_group_id == "sg-0123456789abcdef0" && aws_vpc_security_group_egress_rule.load_balancer.referenced_security_group_id == aws_security_group.this.id
    error_message = "The load balancer can reach only the instances."
  }
}

# The names of the parameters are those of docs.aws.amazon.com/AmazonECS/latest/developerguide/retrieve-ecs-optimized_AMI.html.
run "x86_64_image" {
  command = plan

  assert {
    condition     = data.aws_ssm_parameter.ami[0].name == "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
    error_message = "The machine image is that of x86_64."
  }
}

run "arm64" {
  command = plan

  variables {
    architecture  = "arm64"
    instance_type = "t4g.micro"
  }

  assert {
    condition     = data.aws_ssm_parameter.ami[0].name == "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id"
    error_message = "The machine image is that of arm64."
  }

  assert {
    condition     = aws_launch_template.this.instance_type == "t4g.micro" && output.task_memory_mib == 772 && output.architecture == "arm64"
    error_message = "The instances are t4g.micro, with as much memory as a t2.micro."
  }
}

run "refuses_a_type_of_the_other_architecture" {
  command = plan

  variables {
    instance_type = "t4g.micro"
  }

  expect_failures = [var.instance_type]
}

run "refuses_an_x86_64_type_for_arm64" {
  command = plan

  variables {
    architecture = "arm64"
  }

  expect_failures = [var.instance_type]
}

run "refuses_an_unknown_architecture" {
  command = plan

  variables {
    architecture = "amd64"
  }

  expect_failures = [var.architecture]
}

run "scaling_and_ssh" {
  command = plan

  variables {
    max_instances      = 4
    container_insights = true
    ssh                = { cidr = "203.0.113.7/32", key_name = "owner" }
  }

  assert {
    condition     = aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_scaling[0].status == "ENABLED"
    error_message = "A group whose maximum exceeds its minimum scales."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.ssh[0].cidr_ipv4 == "203.0.113.7/32" && aws_vpc_security_group_ingress_rule.ssh[0].from_port == 22 && aws_launch_template.this.key_name == "owner"
    error_message = "SSH is open to the given range, with the given key pair."
  }

  assert {
    condition     = one([for setting in aws_ecs_cluster.this.setting : setting.value if setting.name == "containerInsights"]) == "enabled"
    error_message = "Container Insights are on."
  }
}

run "refuses_a_type_of_unknown_memory" {
  command = plan

  variables {
    instance_type = "t2.nano"
  }

  expect_failures = [var.instance_type]
}

run "pinned_image" {
  command = plan

  variables {
    ami_id = "ami-0fedcba9876543210"
  }

  assert {
    condition     = aws_launch_template.this.image_id == "ami-0fedcba9876543210" && length(data.aws_ssm_parameter.ami) == 0
    error_message = "A pinned image is used, and AWS is not asked for its recommendation."
  }
}

run "refuses_an_image_that_is_no_id" {
  command = plan

  variables {
    ami_id = "al2023"
  }

  expect_failures = [var.ami_id]
}

run "refuses_no_instances" {
  command = plan

  variables {
    min_instances = 0
  }

  expect_failures = [var.min_instances]
}

run "refuses_a_maximum_below_the_minimum" {
  command = plan

  variables {
    max_instances = 1
  }

  expect_failures = [var.max_instances]
}

run "refuses_ssh_from_everywhere" {
  command = plan

  variables {
    ssh = { cidr = "0.0.0.0/0", key_name = "owner" }
  }

  expect_failures = [var.ssh]
}
