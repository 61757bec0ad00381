# tests/infra also reads these plans, from the output of `terraform test -json -verbose`.

mock_provider "aws" {
  source = "../../tests/infra/mocks"

  override_data {
    target = module.cluster.data.aws_default_tags.current
    values = { tags = { project_name = "day02", environment = "prod" } }
  }
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "../../tests/infra/mocks"

  override_data {
    target = module.billing_alarm.data.aws_region.current
    values = { name = "us-east-1" }
  }
}

variables {
  image                   = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/day02@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  data_bucket_name        = "day02-data"
  allowed_cidrs           = ["203.0.113.0/24"]
  domain_name             = "files.example.com"
  zone_id                 = "Z0123456789ABCDEFGHIJ"
  access_logs_bucket_name = "day02-access-logs"
  alarm_email             = "oncall@example.com"
}

# A count must not depend on the unknown ARN of the certificate that the same plan issues.
run "plan" {
  command = plan

  assert {
    condition     = output.url == "https://files.example.com"
    error_message = "The URL is the name of the certificate."
  }
}

run "create" {
  assert {
    condition     = output.url == "https://files.example.com"
    error_message = "The URL is the name of the certificate."
  }
}

run "change" {
  command = plan

  variables {
    image         = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/day02@sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
    allowed_cidrs = ["198.51.100.0/24"]
  }
}

run "replace" {
  command = plan

  plan_options {
    replace = [
      module.network.aws_vpc.this,
      module.load_balancer.aws_lb.this,
      module.cluster.aws_ecs_cluster.this,
      module.cluster.aws_autoscaling_group.this,
      module.registry.aws_ecr_repository.this,
      module.service.aws_iam_role.task,
      module.service.aws_cloudwatch_log_group.this,
      module.billing_alarm.aws_sns_topic.this,
    ]
  }
}

run "refuses_a_bucket_without_the_prefix" {
  command = plan

  variables {
    data_bucket_name = "other-data"
  }

  expect_failures = [var.data_bucket_name]
}

run "takes_an_existing_certificate" {
  command = plan

  variables {
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
    zone_id         = null
  }

  assert {
    condition     = output.url == "https://files.example.com"
    error_message = "The URL is the name of the certificate."
  }
}

run "refuses_a_certificate_of_another_region" {
  command = plan

  variables {
    certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.certificate_arn]
}
