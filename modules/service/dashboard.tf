locals {
  # CloudWatch expects dimensions as a flat list of names and values.
  balancer_dimensions = flatten([for name, value in local.balancer : [name, value]])
  target_dimensions   = flatten([for name, value in local.target : [name, value]])
  service_dimensions  = flatten([for name, value in local.service : [name, value]])

  graphs = {
    "Requests and errors" = {
      stat = "Sum"
      metrics = [
        concat(["AWS/ApplicationELB", "RequestCount"], local.balancer_dimensions),
        concat(["AWS/ApplicationELB", "HTTPCode_Target_4XX_Count"], local.target_dimensions),
        concat(["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"], local.target_dimensions),
        concat(["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count"], local.balancer_dimensions),
      ]
    }
    "Latency, p95" = {
      stat    = "p95"
      metrics = [concat(["AWS/ApplicationELB", "TargetResponseTime"], local.target_dimensions)]
    }
    "Healthy and unhealthy tasks" = {
      stat = "Average"
      metrics = [
        concat(["AWS/ApplicationELB", "HealthyHostCount"], local.target_dimensions),
        concat(["AWS/ApplicationELB", "UnHealthyHostCount"], local.target_dimensions),
      ]
    }
    "Desired and running tasks" = {
      stat = "Average"
      metrics = [
        concat(["ECS/ContainerInsights", "DesiredTaskCount"], local.service_dimensions),
        concat(["ECS/ContainerInsights", "RunningTaskCount"], local.service_dimensions),
      ]
    }
    "Failed checks of S3" = {
      stat    = "Sum"
      metrics = [[local.s3_checks.namespace, local.s3_checks.metric]]
    }
    "CPU and memory, per cent" = {
      stat = "Average"
      metrics = [
        concat(["AWS/ECS", "CPUUtilization"], local.service_dimensions),
        concat(["AWS/ECS", "MemoryUtilization"], local.service_dimensions),
      ]
    }
  }
}

resource "aws_cloudwatch_dashboard" "this" {
  count = local.monitored

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [for title, graph in local.graphs : {
      type   = "metric"
      width  = 12
      height = 6
      properties = {
        title   = title
        region  = data.aws_region.current.name
        period  = 60
        stat    = graph.stat
        metrics = graph.metrics
      }
    }]
  })
}
