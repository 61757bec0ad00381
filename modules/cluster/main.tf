# Made in the order cluster, launch template, group, capacity provider, association, and (elsewhere) service; each refers
# to the one before, so destroy takes them in the reverse order. Any other order hangs: a cluster waits for its
# instances, an association for the service, a capacity provider for the association.

#trivy:ignore:AVD-AWS-0034 Container Insights are billed by metric: on where container_insights is set, as in prod.
resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:Container Insights are billed by metric: on where container_insights is set, as in prod.
  name = var.name

  setting {
    name  = "containerInsights"
    value = var.container_insights ? "enabled" : "disabled"
  }
}

resource "aws_ecs_capacity_provider" "this" {
  # Known before the group is, or a first plan could not name it in the service, and would fail.
  name = "${var.name}-flask"

  auto_scaling_group_provider {
    auto_scaling_group_arn = aws_autoscaling_group.this.arn

    # Tasks move away before their instance goes.
    managed_draining = "ENABLED"

    # Protected instances would keep the group, and so the whole stack, from being destroyed.
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
