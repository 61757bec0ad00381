# Every value of the stack that has no default. Values in this file take precedence over terraform.tfvars.

region       = "eu-west-1"
project_name = "day02"
name         = "day02-prod"

vpc_cidr = "10.1.0.0/16"
public_subnets = {
  "1" = { cidr = "10.1.1.0/24", availability_zone = "eu-west-1a" }
  "2" = { cidr = "10.1.2.0/24", availability_zone = "eu-west-1b" }
}

port         = 443
health_check = { interval = 30, healthy_threshold = 2 }

deregistration_delay_seconds = 300

architecture  = "x86_64" # arm64 needs another instance_type, such as t4g.micro
instance_type = "t3.small"
ami_id        = null # an id keeps the image until you change it; make refresh replaces the instances
instances     = { min = 2, max = 4 }
instance_tags = { "Autoscaling Flask" = "flask-asg" }

tasks          = { min = 2, max = 6 }
task_role_name = "day02-prod-s3_access"

billing_topic_name = "BillingAlarmProd"
billing_limit_usd  = 100

memory_mib          = { reservation = 512, limit = 768 }
retention_days      = 365
firewall            = { request_limit_per_ip = 2000, rules_version = "Version_1.22" }
deletion_protection = true

# Yours: remove the # and set the value.
# alarm_email             = "oncall@example.com"
# domain_name             = "files.example.com"
# zone_id                 = "Z0123456789ABCDEFGHIJ" # the Route 53 zone of domain_name
# certificate_arn         = "arn:aws:acm:…"         # instead of, or in addition to, zone_id
# allowed_cidrs           = ["203.0.113.0/24"]
# access_logs_bucket_name = "day02-access-logs" # make bucket makes it
# data_bucket_name        = "day02-files" # without it: <name>-<number of the account>
