mock_provider "aws" {
  source = "../../tests/infra/mocks"
}

variables {
  name          = "day02"
  vpc_id        = "vpc-0123456789abcdef0"
  subnet_ids    = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  port          = 5000
  allowed_cidrs = ["0.0.0.0/0"]
}

run "plain_http" {
  command = plan

  assert {
    condition     = aws_lb.this.load_balancer_type == "application" && aws_lb.this.internal == false && aws_lb.this.enable_cross_zone_load_balancing
    error_message = "It is a public application load balancer across zones."
  }

  assert {
    condition     = aws_lb.this.drop_invalid_header_fields
    error_message = "Invalid headers are dropped."
  }

  assert {
    condition     = aws_lb.this.idle_timeout == 900 && output.idle_timeout_seconds == 900
    error_message = "The idle timeout fits the largest form, and the output says so."
  }

  assert {
    condition     = aws_lb_listener.this.port == 5000 && aws_lb_listener.this.protocol == "HTTP" && length(aws_lb_listener.redirect) == 0
    error_message = "Without a certificate there is one HTTP listener on the given port and no redirect."
  }

  assert {
    condition     = aws_lb_target_group.this.target_type == "instance" && aws_lb_target_group.this.protocol == "HTTP"
    error_message = "Targets are instances, because tasks in bridge mode have no address of their own."
  }

  assert {
    condition     = aws_lb_target_group.this.health_check[0].path == "/healthz" && aws_lb_target_group.this.health_check[0].interval == 30 && aws_lb_target_group.this.health_check[0].healthy_threshold == 2
    error_message = "A path that does not fail with S3 is checked every 30 s, and two successes make a task healthy."
  }

  assert {
    condition     = tonumber(aws_lb_target_group.this.deregistration_delay) == 30
    error_message = "A deregistered task has 30 s to finish."
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.listener) == ["0.0.0.0/0"] && alltrue([for rule in aws_vpc_security_group_ingress_rule.listener : rule.from_port == 5000 && rule.to_port == 5000 && rule.ip_protocol == "tcp"])
    error_message = "The allowed ranges can reach only the listener's port."
  }

  assert {
    condition     = length(aws_wafv2_web_acl.this) == 0 && length(aws_lb.this.access_logs) == 0 && aws_lb.this.enable_deletion_protection == false
    error_message = "Firewall, access logs and deletion protection are off by default."
  }
}

run "https" {
  command = plan

  variables {
    port                    = 443
    allowed_cidrs           = ["203.0.113.0/24", "198.51.100.7/32"]
    certificate_arn         = "arn:aws:acm:eu-west-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
    access_logs_bucket_name = "day02-access-logs"
    firewall                = { request_limit_per_ip = 2000, rules_version = "Version_1.22" }
    deletion_protection     = true
  }

  assert {
    condition     = aws_lb_listener.this.protocol == "HTTPS" && aws_lb_listener.this.ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06" && aws_lb_listener.this.certificate_arn == var.certificate_arn
    error_message = "With a certificate, the listener is HTTPS with TLS 1.2 or 1.3."
  }

  assert {
    condition     = aws_lb_listener.redirect[0].port == 80 && aws_lb_listener.redirect[0].default_action[0].redirect[0].protocol == "HTTPS" && aws_lb_listener.redirect[0].default_action[0].redirect[0].port == "443" && aws_lb_listener.redirect[0].default_action[0].redirect[0].status_code == "HTTP_301"
    error_message = "Port 80 redirects to it."
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.redirect) == ["198.51.100.7/32", "203.0.113.0/24"]
    error_message = "The same ranges can reach the redirect."
  }

  assert {
    condition     = aws_lb.this.access_logs[0].bucket == "day02-access-logs" && aws_lb.this.access_logs[0].enabled && aws_lb.this.enable_deletion_protection
    error_message = "Access logs and deletion protection are on."
  }

  assert {
    condition     = one([for rule in aws_wafv2_web_acl.this[0].rule : rule.statement[0].rate_based_statement[0].limit if rule.name == "request-limit-per-ip"]) == 2000
    error_message = "The firewall blocks an address after the given number of requests."
  }

  assert {
    condition     = aws_wafv2_web_acl_logging_configuration.this[0].redacted_fields[0].single_header[0].name == "authorization"
    error_message = "The firewall's log contains no token."
  }
}

run "wired" {
  variables {
    firewall = { request_limit_per_ip = 2000, rules_version = "Version_1.22" }
  }

  assert {
    condition     = aws_lb.this.security_groups == toset([aws_security_group.this.id]) && output.security_group_id == aws_security_group.this.id
    error_message = "The balancer has its own security group."
  }

  assert {
    condition     = aws_lb_listener.this.load_balancer_arn == aws_lb.this.arn && aws_lb_listener.this.default_action[0].target_group_arn == aws_lb_target_group.this.arn
    error_message = "The listener forwards to the target group."
  }

  assert {
    condition     = aws_wafv2_web_acl_association.this[0].resource_arn == aws_lb.this.arn
    error_message = "The firewall protects the balancer."
  }

  assert {
    condition     = output.firewall_rules.version == "Version_1.22" && output.firewall_rules.name == "AWSManagedRulesKnownBadInputsRuleSet"
    error_message = "The alarm on the expiry of the rules knows their version."
  }

  assert {
    condition     = output.url == "http://${aws_lb.this.dns_name}:5000" && output.dns_name == aws_lb.this.dns_name
    error_message = "The URL is the balancer's name with the port."
  }
}

run "refuses_a_name_too_long_for_a_balancer" {
  command = plan

  variables {
    name = "day02-file-api-over-s3-for-everyone"
  }

  expect_failures = [var.name]
}

run "refuses_one_subnet" {
  command = plan

  variables {
    subnet_ids = ["subnet-0123456789abcdef0"]
  }

  expect_failures = [var.subnet_ids]
}

run "refuses_port_80_with_a_certificate" {
  command = plan

  variables {
    port            = 80
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.port]
}

run "refuses_an_empty_list_of_ranges" {
  command = plan

  variables {
    allowed_cidrs = []
  }

  expect_failures = [var.allowed_cidrs]
}

run "refuses_a_bare_address" {
  command = plan

  variables {
    allowed_cidrs = ["203.0.113.7"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "long_uploads_may_finish" {
  command = plan

  variables {
    deregistration_delay_seconds = 900
  }

  assert {
    condition     = tonumber(aws_lb_target_group.this.deregistration_delay) == 900
    error_message = "The delay need not fit into ECS's stop timeout of 120 s, because ECS sends SIGTERM after it."
  }
}

run "security_groups_can_be_replaced" {
  command = plan

  assert {
    condition     = aws_security_group.this.name_prefix == "day02-alb-sg-" && aws_security_group.this.tags.Name == "day02-alb-sg"
    error_message = "A replacement can exist with the old group, and the tag has the plain name."
  }
}

run "refuses_an_idle_timeout_that_aws_does_not_support" {
  command = plan

  variables {
    idle_timeout_seconds = 4000
  }

  expect_failures = [var.idle_timeout_seconds]
}

run "refuses_rules_without_a_version" {
  command = plan

  variables {
    firewall = { request_limit_per_ip = 2000, rules_version = "latest" }
  }

  expect_failures = [var.firewall]
}

run "refuses_a_delay_that_outlasts_a_deployment" {
  command = plan

  variables {
    deregistration_delay_seconds = 901
  }

  expect_failures = [var.deregistration_delay_seconds]
}

run "refuses_an_invalid_certificate_arn" {
  command = plan

  variables {
    certificate_arn = "arn:aws:iam::123456789012:server-certificate/api"
  }

  expect_failures = [var.certificate_arn]
}

run "refuses_a_limit_that_waf_does_not_support" {
  command = plan

  variables {
    firewall = { request_limit_per_ip = 5, rules_version = "Version_1.22" }
  }

  expect_failures = [var.firewall]
}

run "refuses_a_health_check_that_overlaps_the_next" {
  command = plan

  variables {
    health_check = { interval = 10, healthy_threshold = 2 }
  }

  expect_failures = [var.health_check]
}
