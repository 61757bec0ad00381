mock_provider "aws" {
  source = "../../tests/infra/mocks"

  override_data {
    target = data.aws_region.current
    values = { name = "us-east-1" }
  }
}

variables {
  name       = "day02"
  topic_name = "BillingAlarm"
  email      = "owner@example.com"
  limit_usd  = 1
}

run "plan" {
  command = plan

  assert {
    condition     = aws_cloudwatch_metric_alarm.this.namespace == "AWS/Billing" && aws_cloudwatch_metric_alarm.this.metric_name == "EstimatedCharges" && aws_cloudwatch_metric_alarm.this.dimensions.Currency == "USD"
    error_message = "The alarm watches the estimated charges, in USD."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this.comparison_operator == "GreaterThanOrEqualToThreshold" && aws_cloudwatch_metric_alarm.this.threshold == 1
    error_message = "The limit triggers it."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this.period >= 21600
    error_message = "Its period is that of the metric."
  }

  assert {
    condition     = aws_sns_topic.this.name == "BillingAlarm" && aws_sns_topic_subscription.email.protocol == "email" && aws_sns_topic_subscription.email.endpoint == "owner@example.com"
    error_message = "The topic mails the owner."
  }
}

run "wired" {
  assert {
    condition     = aws_cloudwatch_metric_alarm.this.alarm_actions == toset([aws_sns_topic.this.arn]) && aws_sns_topic_subscription.email.topic_arn == aws_sns_topic.this.arn && output.topic_arn == aws_sns_topic.this.arn
    error_message = "The alarm notifies the topic, and the topic the owner."
  }

  assert {
    condition     = jsondecode(aws_sns_topic_policy.this.policy).Statement[0].Principal.Service == "cloudwatch.amazonaws.com" && jsondecode(aws_sns_topic_policy.this.policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    error_message = "Only alarms of this account may publish."
  }
}

run "refuses_any_other_region" {
  command = plan

  override_data {
    target = data.aws_region.current
    values = { name = "eu-west-1" }
  }

  expect_failures = [data.aws_region.current]
}

run "refuses_a_topic_name_that_sns_does_not_take" {
  command = plan

  variables {
    topic_name = "Billing alarm"
  }

  expect_failures = [var.topic_name]
}

run "refuses_an_invalid_address" {
  command = plan

  variables {
    email = "owner"
  }

  expect_failures = [var.email]
}

run "refuses_a_limit_of_zero" {
  command = plan

  variables {
    limit_usd = 0
  }

  expect_failures = [var.limit_usd]
}
