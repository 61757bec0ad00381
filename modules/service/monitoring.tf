locals {
  monitored = var.alarm_email == null ? 0 : 1

  balancer = { LoadBalancer = var.load_balancer.arn_suffix }
  target   = merge(local.balancer, { TargetGroup = var.load_balancer.target_group_arn_suffix })
  service  = { ClusterName = var.cluster.name, ServiceName = var.name }

  # A metric of the log: CloudWatch does not read the API's own metrics.
  s3_checks = { namespace = var.name, metric = "S3ChecksFailed" }

  balancer_alarms = {
    elb-5xx = {
      description = "The load balancer itself answers with errors: there is no healthy task, or a task closed the connection"
      metric      = "HTTPCode_ELB_5XX_Count"
      dimensions  = local.balancer
      statistic   = "Sum"
      percentile  = null
      compare     = "GreaterThanOrEqualToThreshold"
      # One error in each of two of five minutes: with little traffic, an outage causes no more. A single one is ignored.
      threshold = 1
      minutes   = { breaching = 2, of = 5 }
      missing   = "notBreaching" # no error, no data
    }
    latency = {
      description = "One request in twenty takes longer than 5 s, including its upload"
      metric      = "TargetResponseTime"
      dimensions  = local.target
      statistic   = null
      percentile  = "p95"
      compare     = "GreaterThanOrEqualToThreshold"
      threshold   = 5
      minutes     = { breaching = 5, of = 5 }
      missing     = "notBreaching"
    }
    unhealthy-hosts = {
      description = "A task has failed its health check for five minutes and was not replaced"
      metric      = "UnHealthyHostCount"
      dimensions  = local.target
      statistic   = "Minimum"
      percentile  = null
      compare     = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      minutes     = { breaching = 5, of = 5 }
      missing     = "notBreaching"
    }
    no-healthy-hosts = {
      description = "No task is healthy, so the load balancer answers no request"
      metric      = "HealthyHostCount"
      dimensions  = local.target
      statistic   = "Maximum" # of the zones
      percentile  = null
      compare     = "LessThanThreshold"
      threshold   = 1
      minutes     = { breaching = 2, of = 2 }
      missing     = "breaching" # without a registered task there is no data
    }
  }
}

# Exists even without alarm_email, because it rolls deployments back.
resource "aws_cloudwatch_metric_alarm" "target_5xx" {
  alarm_name          = "${var.name}-target-5xx"
  alarm_description   = "Tasks answer with errors; a deployment in progress is rolled back"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HTTPCode_Target_5XX_Count"
  dimensions          = local.target
  statistic           = "Sum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 10
  period              = 60
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching" # no error, no data
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn
}

resource "aws_cloudwatch_metric_alarm" "balancer" {
  for_each = local.monitored == 1 ? local.balancer_alarms : {}

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/ApplicationELB"
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  extended_statistic  = each.value.percentile
  comparison_operator = each.value.compare
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.minutes.of
  datapoints_to_alarm = each.value.minutes.breaching
  treat_missing_data  = each.value.missing
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn
}

# The load balancer's checks make each task ask S3, so these lines are written even without traffic.
resource "aws_cloudwatch_log_metric_filter" "s3_check_failed" {
  count = local.monitored

  name           = "${var.name}-s3-check-failed"
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = "{ $.event = \"s3_check_failed\" }"

  metric_transformation {
    namespace     = local.s3_checks.namespace
    name          = local.s3_checks.metric
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "s3_unreachable" {
  count = local.monitored

  alarm_name          = "${var.name}-s3-unreachable"
  alarm_description   = "Tasks cannot reach the bucket. They are not replaced, because new tasks could not reach it either"
  namespace           = local.s3_checks.namespace
  metric_name         = local.s3_checks.metric
  statistic           = "Sum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching" # no line of log, no data
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn
}

# AWS publishes the days until a version of its rules expires. Until it schedules that, the metric stays at the version's
# planned lifetime. After it, WAF uses the newest version, whose rules could block files.
# docs.aws.amazon.com/waf/latest/developerguide/waf-using-managed-rule-groups-expiration.html
resource "aws_cloudwatch_metric_alarm" "firewall_rules_expire" {
  count = var.load_balancer.firewall_rules == null ? 0 : local.monitored

  alarm_name          = "${var.name}-firewall-rules-expire"
  alarm_description   = "The version of the firewall's rules expires within 30 days: set another rules_version, and deploy"
  namespace           = "AWS/WAFV2"
  metric_name         = "DaysToExpiry"
  statistic           = "Minimum"
  comparison_operator = "LessThanOrEqualToThreshold"
  threshold           = 30
  period              = 86400
  evaluation_periods  = 1
  treat_missing_data  = "ignore" # AWS does not say how often it publishes the metric
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn

  dimensions = {
    Region           = data.aws_region.current.name
    Vendor           = var.load_balancer.firewall_rules.vendor
    ManagedRuleGroup = var.load_balancer.firewall_rules.name
    Version          = var.load_balancer.firewall_rules.version
  }
}

resource "aws_cloudwatch_metric_alarm" "tasks_missing" {
  count = local.monitored

  alarm_name          = "${var.name}-tasks-missing"
  alarm_description   = "For five minutes, fewer tasks ran than desired"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 5
  treat_missing_data  = "breaching" # ECS always publishes these metrics; if they are missing, something is wrong
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn

  metric_query {
    id          = "missing"
    expression  = "desired - running"
    label       = "Tasks missing"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { desired = "DesiredTaskCount", running = "RunningTaskCount" }

    content {
      id = metric_query.key

      metric {
        namespace   = "ECS/ContainerInsights"
        metric_name = metric_query.value
        dimensions  = local.service
        period      = 60
        stat        = "Average"
      }
    }
  }
}

#trivy:ignore:AVD-AWS-0095 CloudWatch cannot publish to a topic encrypted with AWS's own key; a customer key costs 1 USD a month, and the mail is plain text anyway.
resource "aws_sns_topic" "alarms" {
  count = local.monitored

  #checkov:skip=CKV_AWS_26:CloudWatch cannot publish to a topic encrypted with AWS's own key; a customer key costs 1 USD a month, and the mail is plain text anyway.
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_policy" "alarms" {
  count = local.monitored

  arn = aws_sns_topic.alarms[0].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms[0].arn
      Condition = {
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:aws:cloudwatch:${local.account}:alarm:${var.name}-*" }
      }
    }]
  })
}

resource "aws_sns_topic_subscription" "alarms" {
  count = local.monitored

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
