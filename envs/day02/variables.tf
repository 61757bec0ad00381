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
  description = "IPv4 ranges that may reach the API, e.g. [\"203.0.113.7/32\"]. The default means everyone, as in the course."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "ssh" {
  description = "Address range and key pair for SSH. null closes SSH; Session Manager does not need it."
  type = object({
    cidr     = string
    key_name = string
  })
  default = null
}

variable "billing_email" {
  description = "E-mail address that the billing alarm notifies."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.billing_email))
    error_message = "billing_email must be an e-mail address."
  }
}
