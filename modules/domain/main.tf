locals {
  issued = var.certificate_arn == null

  # The name and one certificate have one validation record.
  validation = local.issued ? one(aws_acm_certificate.this[0].domain_validation_options) : null
}

resource "aws_acm_certificate" "this" {
  count = local.issued ? 1 : 0

  domain_name       = var.domain_name
  validation_method = "DNS"

  # A listener must have a certificate at all times.
  lifecycle {
    create_before_destroy = true
  }
}

# ACM also renews the certificate by this record.
resource "aws_route53_record" "validation" {
  count = local.issued ? 1 : 0

  zone_id         = var.zone_id
  name            = local.validation.resource_record_name
  type            = local.validation.resource_record_type
  records         = [local.validation.resource_record_value]
  ttl             = 300
  allow_overwrite = true # a certificate for the same name has the same record
}

resource "aws_acm_certificate_validation" "this" {
  count = local.issued ? 1 : 0

  certificate_arn         = aws_acm_certificate.this[0].arn
  validation_record_fqdns = [aws_route53_record.validation[0].fqdn]

  # ACM needs minutes. A longer wait means a wrong zone, and would outlast a session of AWS (the default is 75 minutes).
  timeouts {
    create = "30m"
  }
}

resource "aws_route53_record" "alias" {
  count = var.zone_id == null ? 0 : 1

  zone_id = var.zone_id
  name    = var.domain_name
  type    = "A"

  alias {
    name                   = var.load_balancer.dns_name
    zone_id                = var.load_balancer.zone_id
    evaluate_target_health = false # there is no other target
  }
}
