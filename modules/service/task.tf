data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  port = 5000

  # ECS deregisters a task, waits for the deregistration delay, and only then sends SIGTERM. So these times are only for a
  # task that gets SIGTERM without that, because its instance stops: the balancer notices the failed checks while the
  # task still serves, and then requests in progress are finished. stopTimeout is at most 120 s.
  drain_seconds    = 30
  graceful_seconds = 60

  environment = merge({
    PROJECT_NAME       = var.name
    BUCKET             = data.aws_s3_bucket.data.bucket
    BUCKET_OWNER       = data.aws_caller_identity.current.account_id # S3 refuses a bucket of another account
    AWS_REGION         = data.aws_region.current.name
    HOST               = "0.0.0.0"
    PORT               = tostring(local.port)
    TRUSTED_PROXY_HOPS = "1" # the load balancer is the only proxy

    DRAIN_SECONDS    = tostring(local.drain_seconds)
    GRACEFUL_SECONDS = tostring(local.graceful_seconds)

    # The balancer must be the side that closes an idle connection. Otherwise a request meets the close: 502.
    KEEPALIVE_SECONDS = tostring(var.load_balancer.idle_timeout_seconds + 15)
  }, var.environment)

  container = {
    name      = "api"
    image     = var.image
    essential = true
    cpu       = 256

    # ECS places tasks by the reservation, and the kernel enforces the limit. The limit leaves room for the peak of an
    # upload, but not enough to exhaust the instance.
    memoryReservation = var.memory_mib.reservation
    memory            = var.memory_mib.limit

    # 0 means any free host port, so that the old and the new task can run on one instance.
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

    # Staged uploads go to the instance's disk. In a tmpfs they would count as memory of the task.
    mountPoints = [{ sourceVolume = "staging", containerPath = "/srv/uploads", readOnly = false }]

    # Only liveness. The balancer's check, /healthz, is not used here: it waits for S3 before its first success.
    healthCheck = {
      command     = ["CMD", "python3", "-m", "s3api.health", "http://127.0.0.1:${local.port}/livez"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 30
    }

    # Before SIGKILL: the drain, the graceful stop, and a margin for the end of the processes.
    stopTimeout = local.drain_seconds + local.graceful_seconds + 10

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = data.aws_region.current.name
        awslogs-stream-prefix = "api"

        # The default mode blocks the API when CloudWatch is slow.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }
  }
}

# The bucket with the files. It is made outside Terraform and only read here, so no plan can change it.
data "aws_s3_bucket" "data" {
  bucket = var.data_bucket_names[0]
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["EC2"]
  network_mode             = "bridge"
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode([local.container])

  # ECS places the tasks only on instances of this architecture.
  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = upper(var.cluster.architecture)
  }

  # Keep earlier revisions active, so that `make deploy` can return to one. `make destroy` deletes them all.
  skip_destroy = true

  # Each task gets a new volume, which is deleted with the task. Docker gives it the content and the owner of the
  # directory in the image.
  volume {
    name = "staging"

    docker_volume_configuration {
      scope  = "task"
      driver = "local"
    }
  }
}
