data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  port          = 5000
  drain_seconds = var.load_balancer.deregistration_delay_seconds

  environment = merge({
    PROJECT_NAME       = var.name
    BUCKET             = data.aws_s3_bucket.data.bucket
    BUCKET_OWNER       = data.aws_caller_identity.current.account_id # S3 refuses a bucket of another account
    AWS_REGION         = data.aws_region.current.name
    HOST               = "0.0.0.0"
    PORT               = tostring(local.port)
    TRUSTED_PROXY_HOPS = "1" # the load balancer, and nothing before it

    # After SIGTERM readiness fails first; requests go on until the balancer has let go of the task.
    DRAIN_SECONDS = tostring(local.drain_seconds)
  }, var.environment)

  container = {
    name      = "api"
    image     = var.image
    essential = true
    cpu       = 256

    # Placement counts the reservation, the kernel enforces the limit: enough for an upload's peak, too little to take
    # the instance down.
    memoryReservation = var.memory_mib.reservation
    memory            = var.memory_mib.limit

    # Host port 0 is a free one, so that the old and the new task fit on one instance.
    portMappings = [{ containerPort = local.port, hostPort = 0, protocol = "tcp" }]

    environment = [for name, value in local.environment : { name = name, value = value }]
    secrets     = [for name, arn in local.secret_arns : { name = name, valueFrom = arn }]

    user                   = "10001"
    readonlyRootFilesystem = true
    dockerSecurityOptions  = ["no-new-privileges"]
    linuxParameters = {
      capabilities       = { drop = ["ALL"] }
      initProcessEnabled = true
      tmpfs              = [{ containerPath = "/tmp", size = 16, mountOptions = ["noexec", "nosuid", "nodev"] }]
    }

    # Staged uploads go to the instance's disk: in a tmpfs they would count as the task's memory.
    mountPoints = [{ sourceVolume = "staging", containerPath = "/srv/uploads", readOnly = false }]

    # Liveness only, for the container; readiness, which asks S3, is the balancer's: a task must not be restarted
    # because S3 is away.
    healthCheck = {
      command     = ["CMD", "python3", "-m", "s3api.health", "http://127.0.0.1:${local.port}/livez"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 30
    }

    # The drain, and 30 s more for what was begun in it, before SIGKILL.
    stopTimeout = local.drain_seconds + 30

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = data.aws_region.current.name
        awslogs-stream-prefix = "api"

        # Blocking, the default, would stop the API whenever CloudWatch is slow.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }
  }
}

# The files. Made outside Terraform and only read here: no plan creates, changes or destroys them.
data "aws_s3_bucket" "data" {
  bucket = var.data_bucket_name
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["EC2"]
  network_mode             = "bridge"
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode([local.container])

  # One for each task, gone with it. Docker fills a new volume from the image, with the owner the image gave it.
  volume {
    name = "staging"

    docker_volume_configuration {
      scope  = "task"
      driver = "local"
    }
  }
}
