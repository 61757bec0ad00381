locals {
  # The ephemeral range of Linux, from which Docker takes the host ports of tasks.
  ephemeral_ports = { from = 32768, to = 65535 }
}

resource "aws_security_group" "this" {
  # A prefix, because a replacement exists before the old group is deleted. The tag has the plain name.
  name_prefix = "${var.name}-flask-sg-"
  description = "Instances: in from the load balancer only, out to AWS over HTTPS"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-flask-sg" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  security_group_id            = aws_security_group.this.id
  description                  = "Tasks, from the load balancer"
  referenced_security_group_id = var.load_balancer_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.ephemeral_ports.from
  to_port                      = local.ephemeral_ports.to
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  security_group_id            = var.load_balancer_security_group_id
  description                  = "Tasks, on the instances"
  referenced_security_group_id = aws_security_group.this.id
  ip_protocol                  = "tcp"
  from_port                    = local.ephemeral_ports.from
  to_port                      = local.ephemeral_ports.to
}

#trivy:ignore:AVD-AWS-0104 The endpoints of AWS (ECS, ECR, SSM, Logs, S3) have public addresses; only HTTPS is allowed.
resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this.id
  description       = "AWS endpoints"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  count = var.ssh == null ? 0 : 1

  security_group_id = aws_security_group.this.id
  description       = "SSH"
  cidr_ipv4         = var.ssh.cidr
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}
