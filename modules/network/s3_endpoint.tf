# Free, and keeps the files' traffic off the internet gateway. All S3 traffic of the subnets takes this route, so the
# policy must let through not only the data but also what the instances themselves fetch from S3.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${data.aws_region.current.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.public.id]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # An upper bound: what the API may do in the bucket is the task role's to say.
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
        Resource = ["arn:aws:s3:::${var.data_bucket_name}", "arn:aws:s3:::${var.data_bucket_name}/*"]
      },
      {
        # ECR layers, AL2023 packages, and the ECS and SSM agents: without the first no image can be pulled.
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
