data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  account = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"

  # Composed here and not read from the cluster, so that a plan shows the whole policy before the cluster exists.
  cluster_arn = "arn:aws:ecs:${local.account}:cluster/${aws_ecs_cluster.this.name}"
}

# No condition on the source: EC2 gives the role only to instances of this account and sends no source ARN.
resource "aws_iam_role" "instance" {
  name = "${var.name}-instance"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

# What the ECS agent needs in this cluster. The managed policy AmazonEC2ContainerServiceforEC2Role also lets an instance
# join any cluster, pull any image and write to any log of the account. The agent needs none of that: the execution role
# pulls images and writes logs.
resource "aws_iam_role_policy" "ecs_agent" {
  name = "ecs-agent"
  role = aws_iam_role.instance.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Endpoint"
        Effect   = "Allow"
        Action   = "ecs:DiscoverPollEndpoint"
        Resource = "*" # the action supports no resource
      },
      {
        Sid    = "Cluster"
        Effect = "Allow"
        Action = [
          "ecs:DeregisterContainerInstance",
          "ecs:RegisterContainerInstance",
          "ecs:SubmitAttachmentStateChanges",
          "ecs:SubmitContainerStateChange",
          "ecs:SubmitTaskStateChange",
        ]
        Resource = local.cluster_arn
      },
      {
        # The resource is the container instance, whose id is unknown until it has joined the cluster.
        Sid       = "Instances"
        Effect    = "Allow"
        Action    = ["ecs:Poll", "ecs:StartTelemetrySession"]
        Resource  = "*"
        Condition = { ArnEquals = { "ecs:cluster" = local.cluster_arn } }
      },
    ]
  })
}

# The minimum for Session Manager by the documentation of AWS ("Creating an IAM role with minimal Session Manager
# permissions"). The managed policy AmazonSSMManagedInstanceCore also reads every parameter of the account.
resource "aws_iam_role_policy" "session_manager" {
  name = "session-manager"
  role = aws_iam_role.instance.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Registration"
        Effect   = "Allow"
        Action   = "ssm:UpdateInstanceInformation"
        Resource = "arn:aws:ec2:${local.account}:instance/*"
      },
      {
        Sid    = "Channels"
        Effect = "Allow"
        Action = [
          "ssmmessages:CreateControlChannel",
          "ssmmessages:CreateDataChannel",
          "ssmmessages:OpenControlChannel",
          "ssmmessages:OpenDataChannel",
        ]
        Resource = "*" # the actions support no resource
      },
    ]
  })
}

resource "aws_iam_instance_profile" "this" {
  name = "${var.name}-instance"
  role = aws_iam_role.instance.name
}
