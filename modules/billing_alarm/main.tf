# AWS publishes the charges of all regions in us-east-1 only, and an alarm can notify only topics of its own region. So
# the caller must pass a provider of us-east-1.
data "aws_region" "current" {
  lifecycle {
    postcondition {
      condition     = self.name == "us-east-1"
      error_message = "The billing alarm needs a provider of us-east-1: AWS publishes charges in no other region."
    }
  }
}

data "aws_caller_identity" "current" {}

#trivy:ignore:AVD-AWS-0095 CloudWatch cannot publish to a topic encrypted with AWS's own key, and a customer key costs 1 USD a month, which is day02's whole limit.
resource "aws_sns_topic" "this" {
  #checkov:skip=CKV_AWS_26:CloudWatch cannot publish to a topic encrypted with AWS's own key, and a customer key costs 1 USD a month, which is day02's whole limit.
  name = var.topic_name
}

resource "aws_sns_topic_policy" "this" {
  arn = aws_sns_topic.this.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.this.arn
      Condition = {
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:aws:cloudwatch:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:alarm:${var.name}-billing" }
      }
    }]
  })
}

# AWS mails a link to confirm the subscription. Until it is confirmed, no alarm is sent.
resource "aws_sns_topic_subscription" "email" {
  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = var.email
}

resource "aws_cloudwatch_metric_alarm" "this" {
  alarm_name          = "${var.name}-billing"
  alarm_description   = "Estimated charges of the month have reached ${var.limit_usd} USD"
  namespace           = "AWS/Billing"
  metric_name         = "EstimatedCharges"
  dimensions          = { Currency = "USD" }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = var.limit_usd
  evaluation_periods  = 1

  # The metric is updated about every six hours.
  period        = 21600
  alarm_actions = [aws_sns_topic.this.arn]
}
