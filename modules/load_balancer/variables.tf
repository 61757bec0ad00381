variable "name" {
  description = "Prefix of all names: day02 gives day02-alb."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,24}[a-z0-9]$", var.name)) && !startswith(var.name, "internal-")
    error_message = "name must be 2 to 26 lower-case letters, digits and hyphens, because a balancer's name has 32 characters at most."
  }
}

variable "vpc_id" {
  description = "Id of the VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Ids of the public subnets, in at least two availability zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must contain at least two subnets: an application load balancer needs two zones."
  }
}

variable "port" {
  description = "Port of the listener for clients."
  type        = number

  validation {
    condition     = var.port >= 1 && var.port <= 65535 && !(var.certificate_arn != null && var.port == 80)
    error_message = "port must be 1 to 65535. With a certificate it must not be 80, which redirects to it."
  }
}

variable "allowed_cidrs" {
  description = "IPv4 ranges that may reach the API. 0.0.0.0/0 means everyone."
  type        = list(string)

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for cidr in var.allowed_cidrs : can(cidrnetmask(cidr))])
    error_message = "allowed_cidrs must contain at least one IPv4 range such as 203.0.113.7/32."
  }
}

variable "health_check" {
  description = "Health check: seconds between two checks, and successes that make a task healthy."
  type = object({
    interval          = number
    healthy_threshold = number
  })
  default = {
    interval          = 30
    healthy_threshold = 2
  }

  validation {
    condition     = var.health_check.interval > 10 && var.health_check.interval <= 300 && var.health_check.healthy_threshold >= 2 && var.health_check.healthy_threshold <= 10
    error_message = "health_check.interval must be 11 to 300, more than the timeout of 10 s, and healthy_threshold 2 to 10."
  }
}

variable "deregistration_delay_seconds" {
  description = "Seconds for which a deregistered task finishes its requests. ECS sends SIGTERM after that."
  type        = number
  default     = 30

  validation {
    condition     = var.deregistration_delay_seconds >= 0 && var.deregistration_delay_seconds <= 900
    error_message = "deregistration_delay_seconds must be 0 to 900: a deployment waits for it, and Terraform for 45 minutes at most."
  }
}

variable "idle_timeout_seconds" {
  description = "Seconds without a byte after which the balancer closes a connection. While a form is sent to S3, no bytes flow to the client."
  type        = number
  default     = 900

  validation {
    condition     = var.idle_timeout_seconds >= 1 && var.idle_timeout_seconds <= 3985
    error_message = "idle_timeout_seconds must be 1 to 3985: the server keeps connections 15 s longer, and AWS allows 4000 s."
  }
}

variable "certificate_arn" {
  description = "ARN of an ACM certificate. With it the listener is HTTPS and port 80 redirects; null means plain HTTP."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null ? true : can(regex("^arn:aws:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+$", var.certificate_arn))
    error_message = "certificate_arn must be the ARN of an ACM certificate: arn:aws:acm:<region>:<account>:certificate/<id>."
  }
}

variable "access_logs_bucket_name" {
  description = "Existing bucket for the access logs; null turns them off."
  type        = string
  default     = null
}

variable "firewall" {
  description = "Firewall: requests per five minutes after which it blocks an address, and version of the group AWSManagedRulesKnownBadInputsRuleSet. Null means no firewall. `aws wafv2 list-available-managed-rule-group-versions --scope REGIONAL --vendor-name AWS --name AWSManagedRulesKnownBadInputsRuleSet` lists the versions."
  type = object({
    request_limit_per_ip = number
    rules_version        = string
  })
  default = null

  validation {
    condition     = var.firewall == null ? true : var.firewall.request_limit_per_ip >= 10 && var.firewall.request_limit_per_ip <= 2000000000
    error_message = "firewall.request_limit_per_ip must be 10 to 2,000,000,000: the limits of a WAF rate rule."
  }

  validation {
    condition     = var.firewall == null ? true : can(regex("^Version_[0-9]+\\.[0-9]+$", var.firewall.rules_version))
    error_message = "firewall.rules_version must be a version of the rule group, such as Version_1.22."
  }
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the balancer."
  type        = bool
  default     = false
}
