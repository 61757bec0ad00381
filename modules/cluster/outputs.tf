output "name" {
  description = "Name of the cluster."
  value       = aws_ecs_cluster.this.name
}

output "capacity_provider_name" {
  description = "Name of the capacity provider, usable only once it is the cluster's."
  value       = aws_ecs_capacity_provider.this.name

  # Also keeps the instances, and their way out, until the service is gone: else its tasks could never be stopped.
  depends_on = [aws_ecs_cluster_capacity_providers.this, aws_vpc_security_group_egress_rule.https]
}

output "task_memory_mib" {
  description = "Memory that one instance offers to tasks, in MiB."
  value       = local.instance_memory_mib[var.instance_type] - local.reserved_memory_mib
}
