module "network" {
  source = "../../modules/network"

  name              = var.name
  cidr              = var.vpc_cidr
  public_subnets    = var.public_subnets
  data_bucket_names = concat([var.data_bucket_name], var.previous_bucket_names)
}

module "load_balancer" {
  source = "../../modules/load_balancer"

  name          = var.name
  vpc_id        = module.network.vpc_id
  subnet_ids    = module.network.public_subnet_ids
  port          = var.port
  health_check  = var.health_check
  allowed_cidrs = var.allowed_cidrs
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
  ssh                             = var.ssh
}

module "registry" {
  source = "../../modules/registry"

  name         = var.name
  force_delete = true
}

module "service" {
  source = "../../modules/service"

  name              = var.name
  image             = var.image
  cluster           = module.cluster
  load_balancer     = module.load_balancer
  data_bucket_names = concat([var.data_bucket_name], var.previous_bucket_names)
  task_role_name    = var.task_role_name
  tasks             = var.tasks
  memory_mib        = var.memory_mib

  # The course calls the API with plain curl, without a token.
  environment = {
    ALLOW_ANONYMOUS = "true"
  }

  secrets = {
    SIGNING_KEY = "/${var.name}/signing_key"
  }
}

module "billing_alarm" {
  source    = "../../modules/billing_alarm"
  providers = { aws = aws.us_east_1 }

  name       = var.name
  topic_name = var.billing_topic_name
  email      = var.billing_email
  limit_usd  = var.billing_limit_usd
}
