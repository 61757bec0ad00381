# The only egress rule, to the ephemeral ports of the instances, is in the module cluster.
resource "aws_security_group" "this" {
  # A prefix, because a replacement exists before the old group is deleted. The tag has the plain name.
  name_prefix = "${var.name}-alb-sg-"
  description = "Load balancer: in from the allowed ranges on the listeners' ports"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-alb-sg" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "listener" {
  for_each = toset(var.allowed_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "API"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = var.port
  to_port           = var.port
}

resource "aws_vpc_security_group_ingress_rule" "redirect" {
  for_each = local.https ? toset(var.allowed_cidrs) : []

  #checkov:skip=CKV_AWS_260:Port 80 only redirects to HTTPS, and only for allowed_cidrs.
  security_group_id = aws_security_group.this.id
  description       = "Redirect to HTTPS"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}
