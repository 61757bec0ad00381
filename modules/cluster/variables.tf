variable "name" {
  description = "Name of the cluster and prefix of all other names: day02 gives day02-flask-lt."
  type        = string
}

variable "vpc_id" {
  description = "Id of the VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Ids of the subnets of the instances."
  type        = list(string)
}

variable "load_balancer_security_group_id" {
  description = "Id of the load balancer's security group. Only its members may reach the tasks."
  type        = string
}

variable "architecture" {
  description = "Architecture of the instances, of their machine image, and of the tasks' image: x86_64 or arm64."
  type        = string

  validation {
    condition     = contains(keys(local.instance_memory_mib), var.architecture)
    error_message = "architecture must be x86_64 or arm64."
  }
}

variable "instance_type" {
  description = "Type of the instances. It must have the architecture."
  type        = string

  validation {
    condition     = contains(keys(lookup(local.instance_memory_mib, var.architecture, {})), var.instance_type)
    error_message = "instance_type must be one of the types of the architecture whose memory this module knows: ${join("; ", [for name, types in local.instance_memory_mib : "${name}: ${join(", ", keys(types))}"])}."
  }
}

variable "ami_id" {
  description = "Machine image of the instances. null means the ECS-optimised Amazon Linux 2023 that AWS recommends at the time of the plan."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null ? true : can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id must be the id of a machine image, such as ami-0123456789abcdef0."
  }
}

variable "min_instances" {
  description = "Minimum number of instances."
  type        = number

  validation {
    condition     = var.min_instances >= 1
    error_message = "min_instances must be at least 1: without an instance, no task can run."
  }
}

variable "max_instances" {
  description = "Maximum number of instances. If it is greater than the minimum, the group scales."
  type        = number

  validation {
    condition     = var.max_instances >= var.min_instances
    error_message = "max_instances must not be less than min_instances."
  }
}

variable "instance_tags" {
  description = "Tags of the instances and their disks, in addition to the provider's default tags."
  type        = map(string)
  default     = {}
}

variable "ssh" {
  description = "Address range and key pair for SSH. null closes SSH; Session Manager does not need it."
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
  description = "Whether ECS publishes metrics of each task. AWS bills them per metric."
  type        = bool
  default     = false
}
