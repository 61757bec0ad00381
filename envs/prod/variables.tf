variable "region" {
  description = "Region of the stack. The billing alarm is always in us-east-1."
  type        = string
}

variable "project_name" {
  description = "Tag `project_name` of every resource, and beginning of the names of the buckets."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.project_name))
    error_message = "project_name must be 2 to 21 lower-case letters, digits and hyphens."
  }
}

variable "name" {
  description = "Prefix of the names of all resources: day02 gives day02-vpc."
  type        = string

  validation {
    condition     = startswith(var.name, var.project_name)
    error_message = "name must begin with project_name: the deployer's permissions are for names with that beginning."
  }
}

variable "vpc_cidr" {
  description = "IPv4 range of the VPC."
  type        = string
}

variable "public_subnets" {
  description = "The public subnets by number, each with its IPv4 range and availability zone."
  type = map(object({
    cidr              = string
    availability_zone = string
  }))
}

variable "port" {
  description = "Port of the load balancer's listener."
  type        = number
}

variable "health_check" {
  description = "Health check of the load balancer: seconds between two checks, and successes that make a task healthy."
  type = object({
    interval          = number
    healthy_threshold = number
  })
}

variable "architecture" {
  description = "Architecture of the instances, their machine image and the tasks' image: x86_64, or arm64 with a type such as t4g.micro."
  type        = string

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64."
  }
}

variable "instance_type" {
  description = "Type of the instances. Accounts on the free plan must take one that AWS lists as eligible."
  type        = string
}

variable "ami_id" {
  description = "Amazon Machine Image of the instances; null takes the newest one of ECS at each deployment."
  type        = string
}

variable "instances" {
  description = "Minimum and maximum number of instances."
  type = object({
    min = number
    max = number
  })
}

variable "instance_tags" {
  description = "Tags of the instances in addition to the stack's own."
  type        = map(string)
}

variable "tasks" {
  description = "Minimum and maximum number of tasks."
  type = object({
    min = number
    max = number
  })
}

variable "task_role_name" {
  description = "Name of the IAM role of the API's tasks."
  type        = string
}

variable "billing_topic_name" {
  description = "Name of the topic that the billing alarm notifies."
  type        = string
}

variable "billing_limit_usd" {
  description = "Estimated charges of the month, in USD, that trigger the billing alarm."
  type        = number
}

variable "memory_mib" {
  description = "Memory of a task, in MiB: the reservation, by which ECS places it, and the limit."
  type = object({
    reservation = number
    limit       = number
  })
}

variable "retention_days" {
  description = "Days to keep the API's log and the flow logs."
  type        = number
}

variable "firewall" {
  description = "Firewall: requests per five minutes after which it blocks an address, and version of AWS's group of rules."
  type = object({
    request_limit_per_ip = number
    rules_version        = string
  })
}

variable "deregistration_delay_seconds" {
  description = "Seconds for which a task finishes its requests after the load balancer sends it no new ones."
  type        = number

  validation {
    condition     = var.deregistration_delay_seconds >= 0 && var.deregistration_delay_seconds <= 900
    error_message = "deregistration_delay_seconds must be 0 to 900: a deployment waits for it, and Terraform for 45 minutes at most."
  }
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the load balancer. `make destroy` removes nothing while it is true."
  type        = bool
}

variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>."
  type        = string
}

variable "data_bucket_name" {
  description = "Existing bucket that contains the files. `make deploy` chooses <name>-<account> for null."
  type        = string
  default     = null

  validation {
    condition     = var.data_bucket_name == null ? true : startswith(var.data_bucket_name, "${var.project_name}-")
    error_message = "data_bucket_name must begin with ${var.project_name}-."
  }
}

variable "previous_bucket_names" {
  description = "Buckets that stay allowed while tasks use them. `make deploy` sets it during a move to another bucket, and leaves it empty after the move."
  type        = list(string)
  default     = []
}

variable "allowed_cidrs" {
  description = "IPv4 ranges that may reach the API."
  type        = list(string)
}

variable "domain_name" {
  description = "Name by which clients reach the API, e.g. files.example.com."
  type        = string
  nullable    = false

  # Refers to domain_name so that nothing is refused before the operator has set it.
  validation {
    condition     = length(var.domain_name) == 0 || var.certificate_arn != null || var.zone_id != null
    error_message = "Give certificate_arn, or zone_id to issue a certificate: AWS validates it through DNS."
  }
}

variable "zone_id" {
  description = "Route 53 zone of domain_name, for its alias record and the validation of its certificate; null if DNS is elsewhere."
  type        = string
  default     = null
}

variable "certificate_arn" {
  description = "ARN of an ACM certificate for domain_name; null issues one, which needs zone_id."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || try(split(":", var.certificate_arn)[3], "") == var.region
    error_message = "certificate_arn must name a certificate in the region of the stack: ACM's certificates belong to one region."
  }
}

variable "access_logs_bucket_name" {
  description = "Bucket for the load balancer's access logs. `make bucket` makes it."
  type        = string
  nullable    = false

  validation {
    condition     = startswith(var.access_logs_bucket_name, "${var.project_name}-")
    error_message = "access_logs_bucket_name must begin with ${var.project_name}-."
  }
}

variable "alarm_email" {
  description = "E-mail address for all alarms, including the billing alarm."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email must be an e-mail address."
  }
}

variable "jwt" {
  description = "The issuer of JWTs that are accepted as tokens, the audience that they name, and the https URL of the issuer's public keys. null accepts no JWT."
  type        = object({ issuer = string, audience = string, jwks_url = string })
  default     = null

  validation {
    condition     = var.jwt == null || can(regex("^https://", var.jwt.jwks_url))
    error_message = "jwt.jwks_url must begin with https://."
  }
}
