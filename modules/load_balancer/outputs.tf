output "dns_name" {
  description = "DNS name of the balancer."
  value       = aws_lb.this.dns_name
}

output "zone_id" {
  description = "Id of the hosted zone of the balancer's name, for an alias record."
  value       = aws_lb.this.zone_id
}

output "url" {
  description = "URL of the listener by the balancer's DNS name. With a certificate, clients must use the certificate's name instead."
  value       = "${local.https ? "https" : "http"}://${aws_lb.this.dns_name}:${var.port}"
}

output "arn_suffix" {
  description = "ARN suffix of the balancer, its name in CloudWatch metrics."
  value       = aws_lb.this.arn_suffix
}

output "security_group_id" {
  description = "Id of the balancer's security group."
  value       = aws_security_group.this.id
}

output "target_group_arn" {
  description = "ARN of the target group, available once a listener forwards to it."
  value       = aws_lb_target_group.this.arn

  # ECS refuses a service whose target group no balancer uses.
  depends_on = [aws_lb_listener.this]
}

output "target_group_arn_suffix" {
  description = "ARN suffix of the target group, its name in CloudWatch metrics."
  value       = aws_lb_target_group.this.arn_suffix
}

output "idle_timeout_seconds" {
  description = "Seconds without a byte after which the balancer closes a connection."
  value       = var.idle_timeout_seconds
}

output "firewall_rules" {
  description = "The firewall's group of AWS's rules: vendor, name and version. Null without a firewall."
  value       = var.firewall == null ? null : merge(local.rule_group, { version = var.firewall.rules_version })
}
