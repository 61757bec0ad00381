resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = var.cluster.name
  task_definition = aws_ecs_task_definition.this.arn
  desired_count   = var.tasks.min

  # The old tasks stay until the new ones are healthy.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  # Apply ends when the tasks serve. A deployment that was rolled back ends it just as well: compare the running task
  # definition with the one asked for (outputs task_definition_arn and service_name).
  wait_for_steady_state = true

  # Lets destroy delete the service although tasks still run.
  force_delete = true

  availability_zone_rebalancing = "ENABLED"
  enable_ecs_managed_tags       = true
  propagate_tags                = "SERVICE"

  # Without it a change of capacity provider would replace the service, and interrupt it.
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

  # Tasks that do not come up, and tasks that come up and fail their requests.
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  alarms {
    enable      = true
    rollback    = true
    alarm_names = [aws_cloudwatch_metric_alarm.target_5xx.alarm_name]
  }

  # Without its permissions a task can neither start nor, on destroy, stop: the service would drain for ever.
  depends_on = [aws_iam_role_policy.task, aws_iam_role_policy.execution]

  lifecycle {
    # Scaling's to say, and destroy's, which begins by setting it to 0. The task definition is never ignored.
    ignore_changes = [desired_count]
  }
}

#trivy:ignore:AVD-AWS-0017 CloudWatch Logs encrypts at rest with its own key; a customer key costs 1 USD a month and no one else reads this group.
resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:CloudWatch Logs encrypts at rest with its own key; a customer key costs 1 USD a month and no one else reads this group.
  #checkov:skip=CKV_AWS_338:The course's stack keeps 30 days; prod keeps a year.
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
}
