resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = var.cluster.name
  task_definition = aws_ecs_task_definition.this.arn
  desired_count   = var.tasks.min

  # Keep the old tasks until the new ones are healthy.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  # Apply waits until the service is steady. This also happens after a rollback, so compare the running task definition
  # with the requested one (outputs task_definition_arn and service_name).
  wait_for_steady_state = true

  # New tasks start and old ones finish their requests in two rounds, each of up to deregistration_delay_seconds = 900.
  # The provider would stop after 20 minutes, while ECS goes on.
  timeouts {
    update = "45m"
  }

  # Let destroy delete the service while tasks still run.
  force_delete = true

  availability_zone_rebalancing = "ENABLED"
  enable_ecs_managed_tags       = true
  propagate_tags                = "SERVICE"

  # Without this, a change of the capacity provider would replace the service and interrupt it.
  force_new_deployment = true

  capacity_provider_strategy {
    capacity_provider = var.cluster.capacity_provider_name
    weight            = 1
  }

  ordered_placement_strategy {
    type  = "spread"
    field = "attribute:ecs.availability-zone"
  }

  ordered_placement_strategy {
    type  = "spread"
    field = "instanceId"
  }

  load_balancer {
    target_group_arn = var.load_balancer.target_group_arn
    container_name   = local.container.name
    container_port   = local.port
  }

  # Roll back if tasks do not start (circuit breaker) or answer with errors (alarm).
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  alarms {
    enable      = true
    rollback    = true
    alarm_names = [aws_cloudwatch_metric_alarm.target_5xx.alarm_name]
  }

  # Without its permissions a task can neither start nor, on destroy, stop, and the service would never finish draining.
  depends_on = [aws_iam_role_policy.task, aws_iam_role_policy.execution]

  lifecycle {
    # Scaling changes it, and `make destroy` sets it to 0. Changes of the task definition are not ignored.
    ignore_changes = [desired_count]
  }
}

#trivy:ignore:AVD-AWS-0017 CloudWatch Logs encrypts at rest with its own key; a customer key costs 1 USD a month, and only this account can read the group.
resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:CloudWatch Logs encrypts at rest with its own key; a customer key costs 1 USD a month, and only this account can read the group.
  #checkov:skip=CKV_AWS_338:day02 keeps 30 days, prod a year.
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
}
