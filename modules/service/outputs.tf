output "service_name" {
  description = "Name of the ECS service."
  value       = aws_ecs_service.this.name
}

output "task_definition_arn" {
  description = "ARN of the task definition that was asked for; compare it with what runs to detect a rollback."
  value       = aws_ecs_task_definition.this.arn
}

output "log_group_name" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "task_role_name" {
  description = "Name of the role that the API runs as."
  value       = aws_iam_role.task.name
}
