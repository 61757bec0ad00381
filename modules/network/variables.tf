variable "name" {
  description = "Prefix of every name, e.g. day02 makes day02-vpc."
  type        = string
}

variable "cidr" {
  description = "IPv4 range of the VPC."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 28, false)
    error_message = "cidr must be an IPv4 range of /16 to /28: AWS takes no other for a VPC."
  }
}

variable "public_subnets" {
  description = "The public subnets by number, which ends their names: 1 makes <name>-sn-pub-1."
  type = map(object({
    cidr              = string
    availability_zone = string
  }))

  validation {
    condition     = length(distinct([for subnet in var.public_subnets : subnet.availability_zone])) >= 2
    error_message = "public_subnets must lie in at least two availability zones: the load balancer needs both."
  }

  validation {
    # Equal when the subnet's first address, cut to the VPC's prefix length, is the VPC's own first address.
    condition = alltrue([for subnet in var.public_subnets : try(
      tonumber(split("/", subnet.cidr)[1]) >= tonumber(split("/", var.cidr)[1]) &&
      cidrhost("${cidrhost(subnet.cidr, 0)}/${split("/", var.cidr)[1]}", 0) == cidrhost(var.cidr, 0),
      false
    )])
    error_message = "Each of public_subnets must lie inside the VPC's range, cidr."
  }
}

variable "data_bucket_name" {
  description = "The bucket that holds the files, for the policy of the S3 endpoint."
  type        = string
}

variable "flow_log_retention_days" {
  description = "Days that the VPC's flow logs are kept; null turns flow logs off."
  type        = number
  default     = null

  validation {
    condition = var.flow_log_retention_days == null ? true : contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.flow_log_retention_days
    )
    error_message = "flow_log_retention_days must be a retention that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, ... 3653."
  }
}
