# Names that must be unique in an account differ from day02's, so that one account can have both stacks.

module "network" {
  source = "../../modules/network"

  name = "day02-prod"
  cidr = "10.1.0.0/16"
  public_subnets = {
    1 = { cidr = "10.1.1.0/24", availability_zone = "eu-west-1a" }
    2 = { cidr = "10.1.2.0/24", availability_zone = "eu-west-1b" }
  }
  data_bucket_name        = var.data_bucket_name
  flow_log_retention_days = 365
}

module "load_balancer" {
  source = "../../modules/load_balancer"

  name                         = "day02-prod"
  vpc_id                       = module.network.vpc_id
  subnet_ids                   = module.network.public_subnet_ids
  port                         = 443
  allowed_cidrs                = var.allowed_cidrs
  certificate_arn              = var.certificate_arn
  access_logs_bucket_name      = var.access_logs_bucket_name
  request_limit_per_ip         = 2000
  deletion_protection          = true
  deregistration_delay_seconds = 300
}

module "cluster" {
  source = "../../modules/cluster"

  name                            = "day02-prod"
  vpc_id                          = module.network.vpc_id
  subnet_ids                      = module.network.public_subnet_ids
  load_balancer_security_group_id = module.load_balancer.security_group_id
  instance_type                   = "t3.small"
  min_instances                   = 2
  max_instances                   = 4
  instance_tags                   = { "Autoscaling Flask" = "flask-asg" }
  container_insights              = true
}

module "registry" {
  source = "../../modules/registry"

  name = "day02-prod"
}

module "service" {
  source = "../../modules/service"

  name               = "day02-prod"
  image              = var.image
  cluster            = module.cluster
  load_balancer      = module.load_balancer
  data_bucket_name   = var.data_bucket_name
  task_role_name     = "day02-prod-s3_access"
  tasks              = { min = 2, max = 6 }
  memory_mib         = { reservation = 512, limit = 768 }
  log_retention_days = 365
  alarm_email        = var.alarm_email

  environment = {
    PROJECT_NAME    = "day02"
    ALLOW_ANONYMOUS = "false"
  }

  secrets = {
    API_TOKENS  = "/day02-prod/api_tokens"
    SIGNING_KEY = "/day02-prod/signing_key"
  }
}

module "billing_alarm" {
  source    = "../../modules/billing_alarm"
  providers = { aws = aws.us_east_1 }

  name       = "day02-prod"
  topic_name = "BillingAlarmProd"
  email      = var.alarm_email
  limit_usd  = 100
}
