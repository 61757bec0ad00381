output "service_name" {
  description = "Name of the ECS service."
  value       = aws_ecs_service.this.name
}

output "task_definition_arn" {
  description = "ARN of the requested task definition; if another one runs, the deployment was rolled back."
  value       = aws_ecs_task_definition.this.arn
}

output "log_group_name" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "task_role_name" {
  description = "Name of the IAM role of the API's tasks."
  value       = aws_iam_role.task.name
}

output "min_tasks" {
  description = "Smallest number of tasks. The deployment asks for it again after an interrupted destroy."
  value       = var.tasks.min
}
