# Every value of the stack that has no default. Values in this file take precedence over terraform.tfvars.

region       = "eu-west-1"
project_name = "day02"
name         = "day02"

vpc_cidr = "10.0.0.0/16"
public_subnets = {
  "1" = { cidr = "10.0.1.0/24", availability_zone = "eu-west-1a" }
  "2" = { cidr = "10.0.2.0/24", availability_zone = "eu-west-1b" }
}

port         = 5000
health_check = { interval = 30, healthy_threshold = 2 }

architecture  = "x86_64" # arm64 needs another instance_type, such as t4g.micro
instance_type = "t2.micro"
ami_id        = null # an id keeps the image until you change it; make refresh replaces the instances
instances     = { min = 2, max = 2 }
instance_tags = { "Autoscaling Flask" = "flask-asg" }

tasks          = { min = 2, max = 2 }
task_role_name = "s3_access"
memory_mib     = { reservation = 256, limit = 384 }

billing_topic_name = "BillingAlarm"
billing_limit_usd  = 1

# Yours: remove the # and set the value.
# billing_email    = "owner@example.com"
# data_bucket_name = "day02-files"       # without it: <name>-<number of the account>
# allowed_cidrs    = ["203.0.113.7/32"]  # without it: everyone
