locals {
  account = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"

  # Only names: Terraform never reads the values, so no plan and no state contains them.
  secret_arns = { for name, parameter in var.secrets : name => "arn:aws:ssm:${local.account}:parameter${parameter}" }

  # All tasks have the same role, so during a move to another bucket it allows both.
  bucket_arns = concat([data.aws_s3_bucket.data.arn], [for name in slice(var.data_bucket_names, 1, length(var.data_bucket_names)) : "arn:aws:s3:::${name}"])

  assumed_by_tasks = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Condition = {
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:${local.account}:*" }
      }
    }]
  })
}

# The role of the API. It allows exactly what the API does, in its bucket.
resource "aws_iam_role" "task" {
  name               = var.task_role_name
  assume_role_policy = local.assumed_by_tasks
}

resource "aws_iam_role_policy" "task" {
  name = "data-bucket"
  role = aws_iam_role.task.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = flatten([for number, bucket_arn in local.bucket_arns : [
      {
        Sid      = "Bucket${number == 0 ? "" : number}"
        Effect   = "Allow"
        Action   = ["s3:GetBucketVersioning", "s3:ListBucket", "s3:ListBucketVersions"]
        Resource = bucket_arn
      },
      {
        # Without s3:DeleteObjectVersion, the API can hide a file but cannot destroy it.
        Sid    = "Objects${number == 0 ? "" : number}"
        Effect = "Allow"
        Action = [
          "s3:AbortMultipartUpload",
          "s3:DeleteObject",
          "s3:GetObject",
          "s3:GetObjectVersion",
          "s3:ListMultipartUploadParts",
          "s3:PutObject",
        ]
        Resource = "${bucket_arn}/*"
      },
    ]])
  })
}

# What ECS needs to start a task. The API itself does not get these permissions.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = local.assumed_by_tasks
}

resource "aws_iam_role_policy" "execution" {
  name = "start-tasks"
  role = aws_iam_role.execution.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "RegistryLogin"
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*" # the action supports no resource
      },
      {
        Sid      = "Image"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = "arn:aws:ecr:${local.account}:repository/${var.name}"
      },
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.this.arn}:*"
      },
      {
        Sid      = "Secrets"
        Effect   = "Allow"
        Action   = "ssm:GetParameters"
        Resource = values(local.secret_arns)
      },
    ]
  })
}
