# Names that must be unique in an account differ from day02's, so that one account can have both stacks.

module "network" {
  source = "../../modules/network"

  name                    = var.name
  cidr                    = var.vpc_cidr
  public_subnets          = var.public_subnets
  data_bucket_names       = concat([var.data_bucket_name], var.previous_bucket_names)
  flow_log_retention_days = var.retention_days
}

module "load_balancer" {
  source = "../../modules/load_balancer"

  name                         = var.name
  vpc_id                       = module.network.vpc_id
  subnet_ids                   = module.network.public_subnet_ids
  port                         = var.port
  health_check                 = var.health_check
  allowed_cidrs                = var.allowed_cidrs
  certificate_arn              = module.domain.certificate_arn
  access_logs_bucket_name      = var.access_logs_bucket_name
  firewall                     = var.firewall
  deletion_protection          = var.deletion_protection
  deregistration_delay_seconds = var.deregistration_delay_seconds
}

module "domain" {
  source = "../../modules/domain"

  domain_name     = var.domain_name
  zone_id         = var.zone_id
  certificate_arn = var.certificate_arn
  load_balancer   = module.load_balancer
}

module "cluster" {
  source = "../../modules/cluster"

  name                            = var.name
  vpc_id                          = module.network.vpc_id
  subnet_ids                      = module.network.public_subnet_ids
  load_balancer_security_group_id = module.load_balancer.security_group_id
  architecture                    = var.architecture
  instance_type                   = var.instance_type
  ami_id                          = var.ami_id
  min_instances                   = var.instances.min
  max_instances                   = var.instances.max
  instance_tags                   = var.instance_tags
  container_insights              = true
}

module "registry" {
  source = "../../modules/registry"

  name = var.name
}

module "service" {
  source = "../../modules/service"

  name               = var.name
  image              = var.image
  cluster            = module.cluster
  load_balancer      = module.load_balancer
  data_bucket_names  = concat([var.data_bucket_name], var.previous_bucket_names)
  task_role_name     = var.task_role_name
  tasks              = var.tasks
  memory_mib         = var.memory_mib
  log_retention_days = var.retention_days
  alarm_email        = var.alarm_email

  environment = merge({
    PROJECT_NAME    = var.project_name
    ALLOW_ANONYMOUS = "false"
    }, var.jwt == null ? {} : {
    JWT_ISSUER   = var.jwt.issuer
    JWT_AUDIENCE = var.jwt.audience
    JWT_JWKS_URL = var.jwt.jwks_url
  })

  secrets = {
    API_TOKENS  = "/${var.name}/api_tokens"
    SIGNING_KEY = "/${var.name}/signing_key"
  }
}

module "billing_alarm" {
  source    = "../../modules/billing_alarm"
  providers = { aws = aws.us_east_1 }

  name       = var.name
  topic_name = var.billing_topic_name
  email      = var.alarm_email
  limit_usd  = var.billing_limit_usd
}
