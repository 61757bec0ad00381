output "certificate_arn" {
  description = "ARN of the certificate, available once it is valid."

  # `format` tells Terraform that the value is not null before it is known. The load balancer needs that in a plan.
  value = local.issued ? format("%s", aws_acm_certificate_validation.this[0].certificate_arn) : format("%s", var.certificate_arn)
}
