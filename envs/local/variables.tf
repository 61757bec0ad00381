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

variable "instance_type" {
  description = "Type of the instances. Accounts on the free plan must take one that AWS lists as eligible."
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

variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>. The emulated AWS runs no other image."
  type        = string
}

variable "data_bucket_name" {
  description = "Existing bucket that contains the files."
  type        = string
  default     = "day02-local"

  validation {
    condition     = startswith(var.data_bucket_name, "${var.project_name}-")
    error_message = "data_bucket_name must begin with ${var.project_name}-."
  }
}

variable "aws_endpoint_url" {
  description = "URL of the emulated AWS for Terraform."
  type        = string
  default     = "http://127.0.0.1:4566"
}

variable "task_aws_endpoint_url" {
  description = "URL of the emulated AWS for the tasks. Its address is the one from which SDKs accept a task's credentials."
  type        = string
  default     = "http://169.254.170.2:4566"
}

variable "s3_public_endpoint_url" {
  description = "URL of the emulated S3 for clients; presigned URLs begin with it."
  type        = string
  default     = "http://127.0.0.1:4566"
}

variable "access_key" {
  description = "Access key of a user of the emulated AWS, from TF_VAR_access_key."
  type        = string
}

variable "secret_key" {
  description = "Secret key of that user, from TF_VAR_secret_key."
  type        = string
  sensitive   = true
}
