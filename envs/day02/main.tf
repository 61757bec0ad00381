module "network" {
  source = "../../modules/network"

  name = "day02"
  cidr = "10.0.0.0/16"
  public_subnets = {
    1 = { cidr = "10.0.1.0/24", availability_zone = "eu-west-1a" }
    2 = { cidr = "10.0.2.0/24", availability_zone = "eu-west-1b" }
  }
  data_bucket_name = var.data_bucket_name
}

module "load_balancer" {
  source = "../../modules/load_balancer"

  name          = "day02"
  vpc_id        = module.network.vpc_id
  subnet_ids    = module.network.public_subnet_ids
  port          = 5000
  allowed_cidrs = var.allowed_cidrs
}

module "cluster" {
  source = "../../modules/cluster"

  name                            = "day02"
  vpc_id                          = module.network.vpc_id
  subnet_ids                      = module.network.public_subnet_ids
  load_balancer_security_group_id = module.load_balancer.security_group_id
  instance_type                   = "t2.micro"
  min_instances                   = 2
  max_instances                   = 2
  instance_tags                   = { "Autoscaling Flask" = "flask-asg" }
  ssh                             = var.ssh
}

module "registry" {
  source = "../../modules/registry"

  name         = "day02"
  force_delete = true
}

module "service" {
  source = "../../modules/service"

  name             = "day02"
  image            = var.image
  cluster          = module.cluster
  load_balancer    = module.load_balancer
  data_bucket_name = var.data_bucket_name
  task_role_name   = "s3_access"
  tasks            = { min = 2, max = 2 }

  # The course calls the API with plain curl, without a token.
  environment = {
    ALLOW_ANONYMOUS = "true"
  }

  secrets = {
    SIGNING_KEY = "/day02/signing_key"
  }
}

module "billing_alarm" {
  source    = "../../modules/billing_alarm"
  providers = { aws = aws.us_east_1 }

  name       = "day02"
  topic_name = "BillingAlarm"
  email      = var.billing_email
  limit_usd  = 1
}
