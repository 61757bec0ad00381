locals {
  https = var.certificate_arn != null
}

#trivy:ignore:AVD-AWS-0053 The API must be reachable from outside; allowed_cidrs limits the clients.
resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_150:Deletion protection is on in prod; day02 must be destroyable at any time.
  #checkov:skip=CKV2_AWS_20:With a certificate, port 80 redirects to HTTPS; without one there is no HTTPS listener.
  #checkov:skip=CKV2_AWS_76:The firewall has the rules against Log4j; the list of anonymous addresses that this check also requires would block clients in clouds.
  name                       = "${var.name}-alb"
  internal                   = false
  load_balancer_type         = "application"
  subnets                    = var.subnet_ids
  security_groups            = [aws_security_group.this.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection

  # Always on for an application load balancer; stated because the course asks for it.
  enable_cross_zone_load_balancing = true

  # Must be shorter than the server's keep-alive, which the module `service` computes from it: a request on a connection
  # that the server closes becomes a 502.
  idle_timeout = var.idle_timeout_seconds

  dynamic "access_logs" {
    for_each = var.access_logs_bucket_name == null ? [] : [var.access_logs_bucket_name]

    content {
      enabled = true
      bucket  = access_logs.value
      prefix  = var.name
    }
  }
}

# Ports are dynamic (bridge mode), so ECS registers each task by instance and port. `port` below is a required default
# that no target uses.
resource "aws_lb_target_group" "this" {
  name        = "${var.name}-tg"
  vpc_id      = var.vpc_id
  target_type = "instance"
  protocol    = "HTTP"
  port        = 5000

  # Not round robin: uploads differ in size by orders of magnitude, and long ones could collect on one task.
  load_balancing_algorithm_type = "least_outstanding_requests"
  deregistration_delay          = var.deregistration_delay_seconds

  # Not /readyz, which fails while S3 cannot be reached: ECS would replace healthy tasks. /healthz waits for S3 only before
  # its first success, and then fails only for a task that drains or hangs.
  health_check {
    path                = "/healthz"
    matcher             = "200"
    interval            = var.health_check.interval
    timeout             = 10
    healthy_threshold   = var.health_check.healthy_threshold
    unhealthy_threshold = 2
  }
}

#trivy:ignore:AVD-AWS-0054 A certificate for the balancer's own name cannot be issued; certificate_arn turns HTTPS on, as in prod.
resource "aws_lb_listener" "this" {
  load_balancer_arn = aws_lb.this.arn
  port              = var.port
  protocol          = local.https ? "HTTPS" : "HTTP"
  certificate_arn   = var.certificate_arn
  ssl_policy        = local.https ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

resource "aws_lb_listener" "redirect" {
  count = local.https ? 1 : 0

  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = var.port
      status_code = "HTTP_301"
    }
  }
}
