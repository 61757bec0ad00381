mock_provider "aws" {
  source = "../../tests/infra/mocks"
}

variables {
  name              = "day02"
  image             = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/day02@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  data_bucket_names = ["day02-data"]
  task_role_name    = "s3_access"
  tasks             = { min = 2, max = 2 }
  environment       = { ALLOW_ANONYMOUS = "true" }
  secrets           = { SIGNING_KEY = "/day02/signing_key" }

  cluster = {
    name                   = "day02"
    capacity_provider_name = "day02-flask"
    task_memory_mib        = 772
    architecture           = "x86_64"
  }

  load_balancer = {
    arn_suffix              = "app/day02-alb/0123456789abcdef"
    target_group_arn        = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/day02-tg/0123456789abcdef"
    target_group_arn_suffix = "targetgroup/day02-tg/0123456789abcdef"
    idle_timeout_seconds    = 900
    firewall_rules          = null
  }
}

run "deployment" {
  command = plan

  assert {
    condition     = aws_ecs_service.this.desired_count == 2 && aws_ecs_service.this.deployment_minimum_healthy_percent == 100 && aws_ecs_service.this.deployment_maximum_percent == 200
    error_message = "Two tasks run, and never fewer during a deployment."
  }

  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback
    error_message = "A deployment whose tasks do not start is rolled back."
  }

  assert {
    condition     = aws_ecs_service.this.alarms[0].enable && aws_ecs_service.this.alarms[0].rollback && aws_ecs_service.this.alarms[0].alarm_names == toset(["day02-target-5xx"])
    error_message = "A deployment whose tasks answer with errors is rolled back."
  }

  assert {
    condition     = aws_ecs_service.this.wait_for_steady_state
    error_message = "Apply waits until the service is steady."
  }

  # github.com/hashicorp/terraform-provider-aws/pull/25641: without it, an update ends after 20 minutes.
  assert {
    condition     = aws_ecs_service.this.timeouts.update == "45m"
    error_message = "Apply waits for two rounds of tasks that finish their requests for 900 seconds."
  }

  assert {
    condition     = one(aws_ecs_service.this.capacity_provider_strategy).capacity_provider == "day02-flask" && aws_ecs_service.this.force_new_deployment
    error_message = "The capacity provider places tasks, and a change of it does not replace the service."
  }

  assert {
    condition     = aws_ecs_service.this.ordered_placement_strategy[*].field == tolist(["attribute:ecs.availability-zone", "instanceId"])
    error_message = "Tasks are spread over zones, then over instances."
  }

  assert {
    condition     = one(aws_ecs_service.this.load_balancer).container_port == 5000 && one(aws_ecs_service.this.load_balancer).container_name == "api" && one(aws_ecs_service.this.load_balancer).target_group_arn == var.load_balancer.target_group_arn
    error_message = "The target group forwards to the container's port."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.retention_in_days == 30
    error_message = "The log is kept for 30 days."
  }

  assert {
    condition     = length(aws_appautoscaling_target.this) == 0 && length(aws_cloudwatch_dashboard.this) == 0 && length(aws_cloudwatch_metric_alarm.balancer) == 0 && length(aws_sns_topic.alarms) == 0
    error_message = "Scaling, alarms and dashboard are off by default."
  }
}

run "container" {
  command = plan

  assert {
    condition     = aws_ecs_task_definition.this.network_mode == "bridge" && aws_ecs_task_definition.this.requires_compatibilities == toset(["EC2"])
    error_message = "Tasks use bridge mode."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].image == var.image
    error_message = "The image is the given one, by digest."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].memoryReservation == 256 && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].memory == 384
    error_message = "A task reserves 256 MiB and is limited to 384 MiB."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].portMappings == [{ containerPort = 5000, hostPort = 0, protocol = "tcp" }]
    error_message = "The host port is chosen by Docker."
  }

  assert {
    condition = { for setting in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : setting.name => setting.value } == {
      ALLOW_ANONYMOUS    = "true"
      AWS_REGION         = "eu-west-1"
      BUCKET             = "day02-data"
      BUCKET_OWNER       = "123456789012"
      DRAIN_SECONDS      = "30"
      GRACEFUL_SECONDS   = "60"
      HOST               = "0.0.0.0"
      KEEPALIVE_SECONDS  = "915"
      PORT               = "5000"
      PROJECT_NAME       = "day02"
      TRUSTED_PROXY_HOPS = "1"
    }
    error_message = "The API gets exactly these settings."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].secrets == [{ name = "SIGNING_KEY", valueFrom = "arn:aws:ssm:eu-west-1:123456789012:parameter/day02/signing_key" }]
    error_message = "Secrets are references."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].user == "10001"
    error_message = "The root file system is read-only, and the user is not root."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].linuxParameters.capabilities.drop == ["ALL"] && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].dockerSecurityOptions == ["no-new-privileges"]
    error_message = "The container has no capabilities and cannot gain any."
  }

  assert {
    condition     = one(aws_ecs_task_definition.this.volume).docker_volume_configuration[0].scope == "task" && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].mountPoints == [{ containerPath = "/srv/uploads", readOnly = false, sourceVolume = "staging" }]
    error_message = "Uploads are staged on a volume that is deleted with the task."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command == ["CMD", "python3", "-m", "s3api.health", "http://127.0.0.1:5000/livez"]
    error_message = "The container has a check of its liveness."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout == 100
    error_message = "The stop timeout is longer than the drain and the graceful stop, and at most ECS's 120 s."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].logConfiguration.options.mode == "non-blocking"
    error_message = "A slow log does not block the API."
  }
}

run "permissions" {
  assert {
    condition     = aws_ecs_task_definition.this.task_role_arn == aws_iam_role.task.arn && aws_ecs_task_definition.this.execution_role_arn == aws_iam_role.execution.arn
    error_message = "The API and ECS have different roles."
  }

  assert {
    condition     = output.task_role_name == "s3_access"
    error_message = "The role of the API has the given name."
  }

  assert {
    condition     = jsondecode(aws_iam_role.task.assume_role_policy).Statement[0].Principal.Service == "ecs-tasks.amazonaws.com" && jsondecode(aws_iam_role.task.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    error_message = "Only tasks of this account can use the role."
  }

  assert {
    condition     = aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "X86_64"
    error_message = "Tasks run on instances of the cluster's architecture only."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.task.policy).Statement[*].Resource == ["arn:aws:s3:::day02-data", "arn:aws:s3:::day02-data/*"]
    error_message = "The role allows one bucket."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.task.policy, "s3:DeleteObjectVersion") && !strcontains(aws_iam_role_policy.task.policy, "s3:*")
    error_message = "The role cannot destroy a version."
  }

  assert {
    condition     = one([for statement in jsondecode(aws_iam_role_policy.execution.policy).Statement : statement.Resource if statement.Sid == "Secrets"]) == ["arn:aws:ssm:eu-west-1:123456789012:parameter/day02/signing_key"]
    error_message = "ECS can read only the given secrets."
  }

  assert {
    condition     = output.service_name == "day02" && output.task_definition_arn == aws_ecs_task_definition.this.arn && output.log_group_name == "/ecs/day02"
    error_message = "The outputs name the task definition and the log group."
  }
}

run "production" {
  command = plan

  variables {
    tasks              = { min = 2, max = 6 }
    log_retention_days = 365
    alarm_email        = "oncall@example.com"
    environment        = {}
    secrets            = { SIGNING_KEY = "/day02/signing_key", API_TOKENS = "/day02/api_tokens" }
  }

  assert {
    condition     = aws_appautoscaling_target.this[0].min_capacity == 2 && aws_appautoscaling_target.this[0].max_capacity == 6 && aws_appautoscaling_target.this[0].resource_id == "service/day02/day02"
    error_message = "The service scales between the minimum and the maximum."
  }

  assert {
    condition     = { for key, policy in aws_appautoscaling_policy.this : key => policy.target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].predefined_metric_type } == { cpu = "ECSServiceAverageCPUUtilization", requests = "ALBRequestCountPerTarget" }
    error_message = "It scales by CPU and by requests."
  }

  assert {
    condition     = aws_appautoscaling_policy.this["requests"].target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].resource_label == "app/day02-alb/0123456789abcdef/targetgroup/day02-tg/0123456789abcdef"
    error_message = "It counts the requests of the service's target group."
  }

  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.balancer) == ["elb-5xx", "latency", "no-healthy-hosts", "unhealthy-hosts"] && length(aws_cloudwatch_metric_alarm.tasks_missing) == 1
    error_message = "There is an alarm for each kind of failure."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.balancer["latency"].extended_statistic == "p95" && aws_cloudwatch_metric_alarm.balancer["latency"].threshold == 5
    error_message = "Latency is the 95th percentile."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.balancer["no-healthy-hosts"].comparison_operator == "LessThanThreshold" && aws_cloudwatch_metric_alarm.balancer["no-healthy-hosts"].threshold == 1 && aws_cloudwatch_metric_alarm.balancer["no-healthy-hosts"].treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.balancer["no-healthy-hosts"].evaluation_periods == 2
    error_message = "Two minutes without a healthy task, or without any task, are an alarm."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.balancer["elb-5xx"].threshold == 1 && aws_cloudwatch_metric_alarm.balancer["elb-5xx"].datapoints_to_alarm == 2 && aws_cloudwatch_metric_alarm.balancer["elb-5xx"].evaluation_periods == 5
    error_message = "An outage with one request a minute is an alarm, and a single error is not."
  }

  assert {
    condition     = aws_cloudwatch_log_metric_filter.s3_check_failed[0].pattern == "{ $.event = \"s3_check_failed\" }" && aws_cloudwatch_log_metric_filter.s3_check_failed[0].metric_transformation[0].name == aws_cloudwatch_metric_alarm.s3_unreachable[0].metric_name && aws_cloudwatch_log_metric_filter.s3_check_failed[0].metric_transformation[0].namespace == aws_cloudwatch_metric_alarm.s3_unreachable[0].namespace
    error_message = "The alarm on S3 watches the metric of the failed checks in the log."
  }

  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets) == 6
    error_message = "There is one dashboard with all graphs."
  }

  assert {
    condition     = aws_sns_topic_subscription.alarms[0].endpoint == "oncall@example.com" && aws_cloudwatch_log_group.this.retention_in_days == 365
    error_message = "The owner is notified, and the log has the given retention."
  }
}

run "production_is_wired" {
  variables {
    alarm_email = "oncall@example.com"
  }

  assert {
    condition     = alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.balancer), aws_cloudwatch_metric_alarm.tasks_missing, aws_cloudwatch_metric_alarm.s3_unreachable, [aws_cloudwatch_metric_alarm.target_5xx]) : alarm.alarm_actions == toset([aws_sns_topic.alarms[0].arn])])
    error_message = "Every alarm notifies the owner."
  }
}

run "refuses_an_image_by_tag" {
  command = plan

  variables {
    image = "day02:latest"
  }

  expect_failures = [var.image]
}

run "arm64" {
  command = plan

  variables {
    cluster = {
      name                   = "day02"
      capacity_provider_name = "day02-flask"
      task_memory_mib        = 772
      architecture           = "arm64"
    }
  }

  assert {
    condition     = aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64" && aws_ecs_task_definition.this.runtime_platform[0].operating_system_family == "LINUX"
    error_message = "Tasks run on arm64 instances only."
  }
}

run "two_buckets_during_a_move" {
  command = plan

  variables {
    data_bucket_names = ["day02-data", "day02-old"]
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.task.policy).Statement[*].Resource == ["arn:aws:s3:::day02-data", "arn:aws:s3:::day02-data/*", "arn:aws:s3:::day02-old", "arn:aws:s3:::day02-old/*"]
    error_message = "During a move to another bucket, the role allows both."
  }

  assert {
    condition     = length(distinct(jsondecode(aws_iam_role_policy.task.policy).Statement[*].Sid)) == 4 && jsondecode(aws_iam_role_policy.task.policy).Statement[1].Action == jsondecode(aws_iam_role_policy.task.policy).Statement[3].Action
    error_message = "It allows the same in both, in statements with names of their own."
  }

  assert {
    condition     = one([for setting in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : setting.value if setting.name == "BUCKET"]) == "day02-data"
    error_message = "New tasks use the new bucket."
  }
}

run "refuses_an_invalid_bucket_name" {
  command = plan

  variables {
    data_bucket_names = ["s3://day02-data"]
  }

  expect_failures = [var.data_bucket_names]
}

run "refuses_a_role_name_that_iam_does_not_support" {
  command = plan

  variables {
    task_role_name = "s3 access"
  }

  expect_failures = [var.task_role_name]
}

run "refuses_a_secret_in_place_of_its_name" {
  command = plan

  variables {
    secrets = { SIGNING_KEY = "correct horse battery staple" }
  }

  expect_failures = [var.secrets]
}

run "refuses_no_signing_key" {
  command = plan

  variables {
    secrets = {}
  }

  expect_failures = [var.secrets]
}

run "refuses_an_api_that_no_client_can_call" {
  command = plan

  variables {
    environment = {}
  }

  expect_failures = [var.secrets]
}

run "refuses_a_maximum_below_the_minimum" {
  command = plan

  variables {
    tasks = { min = 2, max = 1 }
  }

  expect_failures = [var.tasks]
}

run "refuses_a_reservation_above_the_limit" {
  command = plan

  variables {
    memory_mib = { reservation = 385, limit = 384 }
  }

  expect_failures = [var.memory_mib]
}

run "refuses_memory_limits_that_exceed_an_instance" {
  command = plan

  variables {
    memory_mib = { reservation = 256, limit = 387 }
  }

  expect_failures = [var.memory_mib]
}

run "refuses_a_retention_that_aws_does_not_support" {
  command = plan

  variables {
    log_retention_days = 100
  }

  expect_failures = [var.log_retention_days]
}

run "refuses_an_invalid_address" {
  command = plan

  variables {
    alarm_email = "oncall"
  }

  expect_failures = [var.alarm_email]
}

# docs.aws.amazon.com/waf/latest/developerguide/waf-using-managed-rule-groups-expiration.html names the metric.
run "the_expiry_of_the_firewalls_rules_is_watched" {
  command = plan

  variables {
    alarm_email = "oncall@example.com"
    load_balancer = {
      arn_suffix              = "app/day02-alb/0123456789abcdef"
      target_group_arn        = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/day02-tg/0123456789abcdef"
      target_group_arn_suffix = "targetgroup/day02-tg/0123456789abcdef"
      idle_timeout_seconds    = 900
      firewall_rules          = { vendor = "AWS", name = "AWSManagedRulesKnownBadInputsRuleSet", version = "Version_1.22" }
    }
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.firewall_rules_expire[0].metric_name == "DaysToExpiry" && aws_cloudwatch_metric_alarm.firewall_rules_expire[0].namespace == "AWS/WAFV2"
    error_message = "The alarm watches the days until the version expires."
  }

  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.firewall_rules_expire[0].dimensions)) == toset(["ManagedRuleGroup", "Region", "Vendor", "Version"]) && aws_cloudwatch_metric_alarm.firewall_rules_expire[0].dimensions.Version == "Version_1.22"
    error_message = "The alarm names the version that the firewall has."
  }
}
