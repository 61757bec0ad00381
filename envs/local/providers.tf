# Every service that the modules use needs its endpoint here: calls to a missing one would go to the real AWS.
provider "aws" {
  region                      = var.region
  access_key                  = var.access_key
  secret_key                  = var.secret_key
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true

  endpoints {
    applicationautoscaling = var.aws_endpoint_url
    autoscaling            = var.aws_endpoint_url
    cloudwatch             = var.aws_endpoint_url
    ec2                    = var.aws_endpoint_url
    ecr                    = var.aws_endpoint_url
    ecs                    = var.aws_endpoint_url
    elbv2                  = var.aws_endpoint_url
    iam                    = var.aws_endpoint_url
    logs                   = var.aws_endpoint_url
    s3                     = var.aws_endpoint_url
    sns                    = var.aws_endpoint_url
    ssm                    = var.aws_endpoint_url
    sts                    = var.aws_endpoint_url
    wafv2                  = var.aws_endpoint_url
  }

  default_tags {
    tags = { project_name = var.project_name, environment = "local" }
  }
}

provider "aws" {
  alias                       = "us_east_1"
  region                      = "us-east-1"
  access_key                  = var.access_key
  secret_key                  = var.secret_key
  skip_credentials_validation = true
  skip_metadata_api_check     = true

  endpoints {
    cloudwatch = var.aws_endpoint_url
    iam        = var.aws_endpoint_url
    sns        = var.aws_endpoint_url
    sts        = var.aws_endpoint_url
  }

  default_tags {
    tags = { project_name = var.project_name, environment = "local" }
  }
}
