locals {
  firewall = var.firewall == null ? 0 : 1

  # AWS's group of rules, of which firewall.rules_version is a version.
  rule_group = { vendor = "AWS", name = "AWSManagedRulesKnownBadInputsRuleSet" }
}

resource "aws_wafv2_web_acl" "this" {
  count = local.firewall

  name        = "${var.name}-waf"
  description = "Blocks an address that sends too many requests, and known attacks"
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  rule {
    name     = "request-limit-per-ip"
    priority = 1

    action {
      block {}
    }

    statement {
      rate_based_statement {
        aggregate_key_type    = "IP"
        evaluation_window_sec = 300
        limit                 = var.firewall.request_limit_per_ip
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${var.name}-request-limit-per-ip"
      sampled_requests_enabled   = false
    }
  }

  rule {
    name     = "known-bad-inputs"
    priority = 2

    override_action {
      none {}
    }

    statement {
      managed_rule_group_statement {
        vendor_name = local.rule_group.vendor
        name        = local.rule_group.name

        # Without a version, AWS adds rules to the group, and a new one could block files.
        version = var.firewall.rules_version

        # A file may have any name and any content, so matches in paths, queries and bodies are only counted. The path
        # rules match names such as `.env`. WAF ignores names that the version does not have.
        dynamic "rule_action_override" {
          for_each = [
            "ExploitablePaths_URIPATH",
            "JavaDeserializationRCE_BODY",
            "JavaDeserializationRCE_QUERYSTRING",
            "JavaDeserializationRCE_URIPATH",
            "Log4JRCE_BODY",
            "Log4JRCE_QUERYSTRING",
            "Log4JRCE_URIPATH",
            "ReactJSRCE_BODY",
          ]

          content {
            name = rule_action_override.value

            action_to_use {
              count {}
            }
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${var.name}-known-bad-inputs"
      sampled_requests_enabled   = false
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = "${var.name}-waf"
    sampled_requests_enabled   = false
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = local.firewall

  resource_arn = aws_lb.this.arn
  web_acl_arn  = aws_wafv2_web_acl.this[0].arn
}

#trivy:ignore:AVD-AWS-0017 CloudWatch Logs encrypts at rest with its own key; a customer key costs 1 USD a month, and only this account can read the group.
resource "aws_cloudwatch_log_group" "firewall" {
  count = local.firewall

  #checkov:skip=CKV_AWS_158:CloudWatch Logs encrypts at rest with its own key; a customer key costs 1 USD a month, and only this account can read the group.
  # WAF accepts only log groups with this prefix.
  name              = "aws-waf-logs-${var.name}"
  retention_in_days = 365
}

resource "aws_wafv2_web_acl_logging_configuration" "this" {
  count = local.firewall

  resource_arn            = aws_wafv2_web_acl.this[0].arn
  log_destination_configs = [aws_cloudwatch_log_group.firewall[0].arn]

  # Log only blocked requests: logging all of them would cost more than the service.
  logging_filter {
    default_behavior = "DROP"

    filter {
      behavior    = "KEEP"
      requirement = "MEETS_ANY"

      condition {
        action_condition {
          action = "BLOCK"
        }
      }
    }
  }

  # Keep bearer tokens out of the log.
  redacted_fields {
    single_header {
      name = "authorization"
    }
  }
}
