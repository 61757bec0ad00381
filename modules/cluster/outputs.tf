output "name" {
  description = "Name of the cluster."
  value       = aws_ecs_cluster.this.name
}

output "capacity_provider_name" {
  description = "Name of the capacity provider, available once it is associated with the cluster."
  value       = aws_ecs_capacity_provider.this.name

  # On destroy, this also keeps the instances and their egress rule until the service is deleted: its tasks could not be
  # stopped otherwise.
  depends_on = [aws_ecs_cluster_capacity_providers.this, aws_vpc_security_group_egress_rule.https]
}

output "task_memory_mib" {
  description = "Memory of one instance that tasks can use, in MiB."
  value       = local.instance_memory_mib[var.architecture][var.instance_type] - local.reserved_memory_mib
}

output "architecture" {
  description = "Architecture of the instances."
  value       = var.architecture
}
