mock_provider "aws" {
  source = "../../tests/infra/mocks"
}

variables {
  domain_name     = "files.example.com"
  zone_id         = "Z0123456789ABCDEFGHIJ"
  certificate_arn = null
  load_balancer   = { dns_name = "day02-alb-1234567890.eu-west-1.elb.amazonaws.com", zone_id = "Z32O12XQLNTSW2" }
}

run "issues_a_certificate" {
  assert {
    condition     = aws_acm_certificate.this[0].domain_name == "files.example.com" && aws_acm_certificate.this[0].validation_method == "DNS"
    error_message = "The certificate is for the name, and DNS validates it."
  }

  assert {
    condition     = aws_route53_record.validation[0].name == "_x.files.example.com" && aws_route53_record.validation[0].records == toset(["_y.acm-validations.aws"])
    error_message = "The zone has the record that validates the certificate."
  }

  assert {
    condition     = output.certificate_arn == aws_acm_certificate.this[0].arn
    error_message = "The listener gets the validated certificate."
  }

  assert {
    condition     = aws_acm_certificate_validation.this[0].timeouts.create == "30m"
    error_message = "A certificate that is not issued stops the deployment before a session of AWS ends."
  }

  assert {
    condition     = aws_route53_record.alias[0].name == "files.example.com" && one(aws_route53_record.alias[0].alias).name == var.load_balancer.dns_name
    error_message = "The name leads to the load balancer."
  }
}

run "plans_before_the_certificate_exists" {
  command = plan

  assert {
    condition     = length(aws_acm_certificate_validation.this) == 1
    error_message = "A plan needs no existing certificate."
  }
}

run "takes_an_existing_certificate" {
  command = plan

  variables {
    zone_id         = null
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  assert {
    condition     = length(aws_acm_certificate.this) == 0 && length(aws_route53_record.alias) == 0 && length(aws_route53_record.validation) == 0
    error_message = "Nothing is made in ACM or Route 53."
  }

  assert {
    condition     = output.certificate_arn == var.certificate_arn
    error_message = "The listener gets the given certificate."
  }
}

run "refuses_a_url_as_name" {
  command = plan

  variables {
    domain_name = "https://files.example.com"
  }

  expect_failures = [var.domain_name]
}

run "refuses_a_zones_name" {
  command = plan

  variables {
    zone_id = "example.com"
  }

  expect_failures = [var.zone_id]
}

run "refuses_to_issue_without_a_zone" {
  command = plan

  variables {
    zone_id = null
  }

  expect_failures = [var.certificate_arn]
}
