output "url" {
  description = "URL of the API."
  value       = module.load_balancer.url
}

output "load_balancer_dns_name" {
  description = "DNS name of the load balancer."
  value       = module.load_balancer.dns_name
}

output "repository_url" {
  description = "Repository to which the image is pushed."
  value       = module.registry.repository_url
}

output "cluster_name" {
  description = "Name of the cluster."
  value       = module.cluster.name
}

output "service_name" {
  description = "Name of the service."
  value       = module.service.service_name
}

output "task_definition_arn" {
  description = "ARN of the requested task definition; if another one runs, the deployment was rolled back."
  value       = module.service.task_definition_arn
}

output "log_group_name" {
  description = "Name of the API's log group."
  value       = module.service.log_group_name
}

output "min_tasks" {
  description = "Smallest number of tasks."
  value       = module.service.min_tasks
}
