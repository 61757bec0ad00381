locals {
  monitored = var.alarm_email == null ? 0 : 1

  balancer = { LoadBalancer = var.load_balancer.arn_suffix }
  target   = merge(local.balancer, { TargetGroup = var.load_balancer.target_group_arn_suffix })
  service  = { ClusterName = var.cluster.name, ServiceName = var.name }

  balancer_alarms = {
    elb-5xx = {
      description = "The load balancer itself answers with errors: there is no healthy task, or a task closed the connection"
      metric      = "HTTPCode_ELB_5XX_Count"
      dimensions  = local.balancer
      statistic   = "Sum"
      percentile  = null
      threshold   = 10
    }
    latency = {
      description = "One request in twenty takes longer than 5 s, including its upload"
      metric      = "TargetResponseTime"
      dimensions  = local.target
      statistic   = null
      percentile  = "p95"
      threshold   = 5
    }
    unhealthy-hosts = {
      description = "A task has failed its health check for five minutes and was not replaced"
      metric      = "UnHealthyHostCount"
      dimensions  = local.target
      statistic   = "Minimum"
      percentile  = null
      threshold   = 1
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
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = aws_sns_topic.alarms[*].arn
  ok_actions          = aws_sns_topic.alarms[*].arn
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
