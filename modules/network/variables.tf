variable "name" {
  description = "Prefix of all names: day02 gives day02-vpc."
  type        = string
}

variable "cidr" {
  description = "IPv4 range of the VPC."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 28, false)
    error_message = "cidr must be an IPv4 range of /16 to /28, as AWS requires for a VPC."
  }
}

variable "public_subnets" {
  description = "The public subnets by number. Names end with the number: 1 gives <name>-sn-pub-1."
  type = map(object({
    cidr              = string
    availability_zone = string
  }))

  validation {
    condition     = length(distinct([for subnet in var.public_subnets : subnet.availability_zone])) >= 2
    error_message = "public_subnets must be in at least two availability zones, as the load balancer requires."
  }

  validation {
    # True if the subnet's first address, masked with the VPC's prefix length, is the VPC's first address.
    condition = alltrue([for subnet in var.public_subnets : try(
      tonumber(split("/", subnet.cidr)[1]) >= tonumber(split("/", var.cidr)[1]) &&
      cidrhost("${cidrhost(subnet.cidr, 0)}/${split("/", var.cidr)[1]}", 0) == cidrhost(var.cidr, 0),
      false
    )])
    error_message = "Each of public_subnets must be inside the VPC's range, cidr."
  }
}

variable "data_bucket_names" {
  description = "Buckets that contain the files, for the policy of the S3 endpoint. During a move to another bucket there are two."
  type        = list(string)
}

variable "flow_log_retention_days" {
  description = "Days to keep the VPC's flow logs; null turns flow logs off."
  type        = number
  default     = null

  validation {
    condition = var.flow_log_retention_days == null ? true : contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.flow_log_retention_days
    )
    error_message = "flow_log_retention_days must be a retention that CloudWatch Logs supports: 1, 3, 5, 7, 14, 30, 60, 90, ... 3653."
  }
}
