# Free, and keeps the traffic of the files off the internet gateway. All S3 traffic of the subnets uses this route, so
# the policy must also allow what the instances themselves fetch from S3.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${data.aws_region.current.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.public.id]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # An upper bound; the task role decides what the API may do in the bucket.
        Sid       = "Data"
        Effect    = "Allow"
        Principal = "*"
        Action = [
          "s3:AbortMultipartUpload",
          "s3:DeleteObject",
          "s3:GetBucketVersioning",
          "s3:GetObject",
          "s3:GetObjectVersion",
          "s3:ListBucket",
          "s3:ListBucketVersions",
          "s3:ListMultipartUploadParts",
          "s3:PutObject",
        ]
        Resource = flatten([
          for bucket in var.data_bucket_names : ["arn:aws:s3:::${bucket}", "arn:aws:s3:::${bucket}/*"]
        ])
      },
      {
        # The layers of ECR images, the packages of AL2023, and the ECS and SSM agents.
        Sid       = "ReadOnlyAwsBuckets"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:GetObject"
        Resource = [
          "arn:aws:s3:::prod-${data.aws_region.current.name}-starport-layer-bucket/*",
          "arn:aws:s3:::al2023-repos-${data.aws_region.current.name}-de612dc2/*",
          "arn:aws:s3:::amazon-ecs-agent-${data.aws_region.current.name}/*",
          "arn:aws:s3:::amazon-ssm-${data.aws_region.current.name}/*",
        ]
      },
    ]
  })

  tags = { Name = "${var.name}-s3" }
}
