variable "name" {
  description = "Name of the cluster and prefix of every other name, e.g. day02 makes day02-flask-sg."
  type        = string
}

variable "vpc_id" {
  description = "Id of the VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Ids of the subnets that the instances are spread over."
  type        = list(string)
}

variable "load_balancer_security_group_id" {
  description = "Id of the load balancer's security group, the only one that may reach the tasks."
  type        = string
}

variable "instance_type" {
  description = "Type of the instances."
  type        = string

  validation {
    condition     = contains(keys(local.instance_memory_mib), var.instance_type)
    error_message = "instance_type must be a type whose memory is known here: ${join(", ", keys(local.instance_memory_mib))}."
  }
}

variable "min_instances" {
  description = "How many instances there are at least."
  type        = number

  validation {
    condition     = var.min_instances >= 1
    error_message = "min_instances must be at least 1: with none, no task has a place."
  }
}

variable "max_instances" {
  description = "How many instances there are at most; more than the least turns scaling on."
  type        = number

  validation {
    condition     = var.max_instances >= var.min_instances
    error_message = "max_instances must not be less than min_instances."
  }
}

variable "instance_tags" {
  description = "Tags of the instances and their disks, beside the provider's default tags."
  type        = map(string)
  default     = {}
}

variable "ssh" {
  description = "Who may log in by SSH, and with which key pair; null is no one: Session Manager needs neither."
  type = object({
    cidr     = string
    key_name = string
  })
  default = null

  validation {
    condition     = var.ssh == null ? true : can(cidrnetmask(var.ssh.cidr)) && !endswith(var.ssh.cidr, "/0")
    error_message = "ssh.cidr must be an IPv4 range such as 203.0.113.7/32, and not the whole internet."
  }
}

variable "container_insights" {
  description = "Whether ECS measures tasks one by one; billed by metric."
  type        = bool
  default     = false
}
