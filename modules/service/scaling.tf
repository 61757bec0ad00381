locals {
  scaling = var.tasks.max > var.tasks.min ? 1 : 0

  scaling_targets = {
    cpu = {
      metric   = "ECSServiceAverageCPUUtilization"
      value    = 60
      resource = null
    }
    requests = {
      metric   = "ALBRequestCountPerTarget"
      value    = 1000 # a minute
      resource = "${var.load_balancer.arn_suffix}/${var.load_balancer.target_group_arn_suffix}"
    }
  }
}

resource "aws_appautoscaling_target" "this" {
  count = local.scaling

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${var.cluster.name}/${aws_ecs_service.this.name}"
  min_capacity       = var.tasks.min
  max_capacity       = var.tasks.max
}

resource "aws_appautoscaling_policy" "this" {
  for_each = local.scaling == 1 ? local.scaling_targets : {}

  name               = "${var.name}-${each.key}"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this[0].service_namespace
  scalable_dimension = aws_appautoscaling_target.this[0].scalable_dimension
  resource_id        = aws_appautoscaling_target.this[0].resource_id

  target_tracking_scaling_policy_configuration {
    target_value = each.value.value

    # Scale out quickly and in slowly: one task too many is better than one too few.
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = each.value.metric
      resource_label         = each.value.resource
    }
  }
}
