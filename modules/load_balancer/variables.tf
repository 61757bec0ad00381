variable "name" {
  description = "Prefix of every name, e.g. day02 makes day02-alb."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,24}[a-z0-9]$", var.name)) && !startswith(var.name, "internal-")
    error_message = "name must be 2 to 26 lower-case letters, digits and hyphens: a balancer's name has 32 at most."
  }
}

variable "vpc_id" {
  description = "Id of the VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Ids of the public subnets, in two availability zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must hold at least two subnets: AWS makes no application load balancer in one zone."
  }
}

variable "port" {
  description = "Port that clients use."
  type        = number

  validation {
    condition     = var.port >= 1 && var.port <= 65535 && !(var.certificate_arn != null && var.port == 80)
    error_message = "port must be 1 to 65535, and not 80 with a certificate: 80 then redirects to it."
  }
}

variable "allowed_cidrs" {
  description = "IPv4 ranges that may reach the API; 0.0.0.0/0 is everyone."
  type        = list(string)

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for cidr in var.allowed_cidrs : can(cidrnetmask(cidr))])
    error_message = "allowed_cidrs must hold at least one IPv4 range such as 203.0.113.7/32."
  }
}

variable "deregistration_delay_seconds" {
  description = "Seconds that a leaving task goes on serving what it has begun."
  type        = number
  default     = 30

  validation {
    condition     = var.deregistration_delay_seconds >= 0 && var.deregistration_delay_seconds <= 90
    error_message = "deregistration_delay_seconds must be 0 to 90: a task is given 30 s more to stop, 120 s in all."
  }
}

variable "certificate_arn" {
  description = "ARN of an ACM certificate: with it the API is HTTPS and port 80 redirects; null is plain HTTP."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null ? true : can(regex("^arn:aws:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+$", var.certificate_arn))
    error_message = "certificate_arn must be the ARN of an ACM certificate: arn:aws:acm:<region>:<account>:certificate/<id>."
  }
}

variable "access_logs_bucket_name" {
  description = "Existing bucket that takes the access logs; null is no access logs."
  type        = string
  default     = null
}

variable "request_limit_per_ip" {
  description = "Requests that one address may make in five minutes before the firewall blocks it; null is no firewall."
  type        = number
  default     = null

  validation {
    condition     = var.request_limit_per_ip == null ? true : var.request_limit_per_ip >= 10 && var.request_limit_per_ip <= 2000000000
    error_message = "request_limit_per_ip must be 10 to 2,000,000,000: the limits of a WAF rate rule."
  }
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the balancer."
  type        = bool
  default     = false
}
