mock_provider "aws" {
  source = "../../tests/infra/mocks"
}

variables {
  name              = "day02"
  cidr              = "10.0.0.0/16"
  data_bucket_names = ["day02-data"]
  public_subnets = {
    1 = { cidr = "10.0.1.0/24", availability_zone = "eu-west-1a" }
    2 = { cidr = "10.0.2.0/24", availability_zone = "eu-west-1b" }
  }
}

run "plan" {
  command = plan

  assert {
    condition     = aws_vpc.this.cidr_block == "10.0.0.0/16" && aws_vpc.this.enable_dns_hostnames && aws_vpc.this.enable_dns_support
    error_message = "The VPC has the given range and DNS names."
  }

  assert {
    condition     = aws_vpc.this.tags.Name == "day02-vpc"
    error_message = "The VPC is named."
  }

  assert {
    condition     = { for key, subnet in aws_subnet.public : subnet.tags.Name => "${subnet.cidr_block} ${subnet.availability_zone}" } == { day02-sn-pub-1 = "10.0.1.0/24 eu-west-1a", day02-sn-pub-2 = "10.0.2.0/24 eu-west-1b" }
    error_message = "Each subnet has its name, range and zone."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch])
    error_message = "Instances get a public address, without which they could not reach AWS."
  }

  assert {
    condition     = aws_route.internet.destination_cidr_block == "0.0.0.0/0"
    error_message = "The default route leads to the internet."
  }

  assert {
    condition     = keys(aws_route_table_association.public) == ["1", "2"]
    error_message = "Both subnets use the route table."
  }

  assert {
    condition     = aws_internet_gateway.this.tags.Name == "day02-igw" && aws_route_table.public.tags.Name == "day02-rt"
    error_message = "The gateway and the route table are named."
  }

  # The provider leaves rules that are not given as they are computed, so none may be given.
  assert {
    condition     = aws_default_security_group.this.tags.Name == "day02-unused"
    error_message = "The default security group is managed."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-west-1.s3"
    error_message = "The S3 endpoint is a gateway endpoint of the region."
  }

  assert {
    condition     = jsondecode(aws_vpc_endpoint.s3.policy).Statement[0].Resource == ["arn:aws:s3:::day02-data", "arn:aws:s3:::day02-data/*"]
    error_message = "The S3 endpoint allows the data bucket and no other bucket of a user."
  }

  assert {
    condition = alltrue([for bucket in ["prod-eu-west-1-starport-layer-bucket", "al2023-repos-eu-west-1-de612dc2"] :
      contains(jsondecode(aws_vpc_endpoint.s3.policy).Statement[1].Resource, "arn:aws:s3:::${bucket}/*")
    ])
    error_message = "The S3 endpoint allows the layers of ECR and the packages of AL2023."
  }

  assert {
    condition     = length(aws_flow_log.this) == 0
    error_message = "Flow logs are off by default."
  }
}

run "wired" {
  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.vpc_id == aws_vpc.this.id]) && aws_internet_gateway.this.vpc_id == aws_vpc.this.id && aws_route_table.public.vpc_id == aws_vpc.this.id
    error_message = "Everything is in the VPC."
  }

  assert {
    condition     = aws_route.internet.gateway_id == aws_internet_gateway.this.id && aws_route.internet.route_table_id == aws_route_table.public.id
    error_message = "The default route leads to the gateway."
  }

  assert {
    condition     = alltrue([for key, subnet in aws_subnet.public : aws_route_table_association.public[key].subnet_id == subnet.id && aws_route_table_association.public[key].route_table_id == aws_route_table.public.id])
    error_message = "Each subnet is associated with the route table."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.route_table_ids == toset([aws_route_table.public.id])
    error_message = "The S3 endpoint is on the subnets' route table."
  }

  assert {
    condition     = output.vpc_id == aws_vpc.this.id && length(output.public_subnet_ids) == 2
    error_message = "The outputs name the VPC and both subnets."
  }
}

run "two_buckets_during_a_move" {
  command = plan

  variables {
    data_bucket_names = ["day02-data", "day02-old"]
  }

  assert {
    condition     = jsondecode(aws_vpc_endpoint.s3.policy).Statement[0].Resource == ["arn:aws:s3:::day02-data", "arn:aws:s3:::day02-data/*", "arn:aws:s3:::day02-old", "arn:aws:s3:::day02-old/*"]
    error_message = "During a move to another bucket, the S3 endpoint allows both."
  }
}

run "flow_logs" {
  command = plan

  variables {
    flow_log_retention_days = 365
  }

  assert {
    condition     = aws_flow_log.this[0].traffic_type == "ALL" && aws_cloudwatch_log_group.flow_logs[0].retention_in_days == 365
    error_message = "Flow logs record all traffic and have the given retention."
  }

  assert {
    condition = one(jsondecode(aws_iam_role.flow_logs[0].assume_role_policy).Statement).Condition == {
      StringEquals = { "aws:SourceAccount" = "123456789012" }
      ArnLike      = { "aws:SourceArn" = "arn:aws:ec2:eu-west-1:123456789012:vpc-flow-log/*" }
    }
    error_message = "Only flow logs of this account and region can use the role."
  }
}

# The actions are those of "Create an IAM role for publishing flow logs to CloudWatch Logs"
# (docs.aws.amazon.com/vpc/latest/userguide/flow-logs-iam-role.html).
run "flow_logs_may_be_written" {
  variables {
    flow_log_retention_days = 365
  }

  assert {
    condition = toset(flatten(jsondecode(aws_iam_role_policy.flow_logs[0].policy).Statement[*].Action)) == toset([
      "logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents"
    ])
    error_message = "The role of flow logs has the actions that AWS documents, and no others."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.flow_logs[0].policy).Statement[0].Resource == [aws_cloudwatch_log_group.flow_logs[0].arn, "${aws_cloudwatch_log_group.flow_logs[0].arn}:*"]
    error_message = "Flow logs are written to this log group only."
  }
}

run "refuses_a_vpc_range_that_aws_does_not_support" {
  command = plan

  variables {
    cidr = "10.0.0.0/8"
  }

  expect_failures = [var.cidr]
}

run "refuses_one_availability_zone" {
  command = plan

  variables {
    public_subnets = {
      1 = { cidr = "10.0.1.0/24", availability_zone = "eu-west-1a" }
      2 = { cidr = "10.0.2.0/24", availability_zone = "eu-west-1a" }
    }
  }

  expect_failures = [var.public_subnets]
}

run "refuses_a_subnet_outside_the_vpc" {
  command = plan

  variables {
    public_subnets = {
      1 = { cidr = "10.0.1.0/24", availability_zone = "eu-west-1a" }
      2 = { cidr = "10.1.2.0/24", availability_zone = "eu-west-1b" }
    }
  }

  expect_failures = [var.public_subnets]
}

run "refuses_a_retention_that_aws_does_not_support" {
  command = plan

  variables {
    flow_log_retention_days = 31
  }

  expect_failures = [var.flow_log_retention_days]
}
