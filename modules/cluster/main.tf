# The order is: cluster, launch template, group, capacity provider, association, and service (in another module). Each
# refers to the previous one, so destroy uses the reverse order. In any other order destroy hangs: a cluster waits for
# its instances, an association for the service, and a capacity provider for the association.

#trivy:ignore:AVD-AWS-0034 Container Insights are billed per metric; container_insights turns them on, as in prod.
resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:Container Insights are billed per metric; container_insights turns them on, as in prod.
  name = var.name

  setting {
    name  = "containerInsights"
    value = var.container_insights ? "enabled" : "disabled"
  }
}

resource "aws_ecs_capacity_provider" "this" {
  # A fixed name: the first plan fails if the service refers to a name that is unknown before the group exists.
  name = "${var.name}-flask"

  auto_scaling_group_provider {
    auto_scaling_group_arn = aws_autoscaling_group.this.arn

    # Move the tasks to other instances before an instance is terminated.
    managed_draining = "ENABLED"

    # Protected instances would prevent the destruction of the group, and so of the stack.
    managed_termination_protection = "DISABLED"

    managed_scaling {
      status          = local.scales ? "ENABLED" : "DISABLED"
      target_capacity = 100
    }
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = [aws_ecs_capacity_provider.this.name]

  default_capacity_provider_strategy {
    capacity_provider = aws_ecs_capacity_provider.this.name
    weight            = 1
  }
}
