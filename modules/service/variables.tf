variable "name" {
  description = "Name of the service and of the image's repository, and prefix of all other names."
  type        = string
}

variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>. To apply the registry alone: sha256: and 64 zeros."
  type        = string

  validation {
    condition     = can(regex("^(.+@)?sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must be pinned by digest: a tag could name another image when the next task starts."
  }
}

variable "cluster" {
  description = "The cluster: pass the module `cluster`."
  type = object({
    name                   = string
    capacity_provider_name = string
    task_memory_mib        = number
    architecture           = string
  })
}

variable "load_balancer" {
  description = "The load balancer: pass the module `load_balancer`."
  type = object({
    arn_suffix              = string
    target_group_arn        = string
    target_group_arn_suffix = string
    idle_timeout_seconds    = number
    firewall_rules          = object({ vendor = string, name = string, version = string })
  })
}

variable "data_bucket_names" {
  description = "Existing buckets. New tasks use the first one. The role allows the others too, during a move to another bucket."
  type        = list(string)

  validation {
    condition     = length(var.data_bucket_names) > 0 && alltrue([for name in var.data_bucket_names : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", name))])
    error_message = "data_bucket_names must be names of buckets, at least one: 3 to 63 lower-case letters, digits, dots and hyphens."
  }
}

variable "task_role_name" {
  description = "Name of the IAM role of the API's tasks."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.task_role_name))
    error_message = "task_role_name must be 1 to 64 letters, digits and +=,.@_-, as IAM requires."
  }
}

variable "environment" {
  description = "Settings of the API. They override those that the module sets."
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "Secret settings of the API, as names of existing SSM parameters, e.g. SIGNING_KEY = \"/day02/signing_key\"."
  type        = map(string)

  validation {
    condition     = alltrue([for parameter in values(var.secrets) : can(regex("^/[A-Za-z0-9_./-]+$", parameter))])
    error_message = "The values of secrets must be names of SSM parameters, which begin with a slash."
  }

  validation {
    condition     = contains(keys(var.secrets), "SIGNING_KEY")
    error_message = "secrets must contain SIGNING_KEY: no task starts without it."
  }

  validation {
    condition     = contains(keys(var.secrets), "API_TOKENS") || contains(keys(var.environment), "JWT_ISSUER") || lookup(var.environment, "ALLOW_ANONYMOUS", "") == "true"
    error_message = "secrets must contain API_TOKENS, or environment must set JWT_ISSUER or ALLOW_ANONYMOUS = \"true\": otherwise the API refuses every request."
  }
}

variable "tasks" {
  description = "Minimum and maximum number of tasks. If the maximum is greater, the service scales."
  type = object({
    min = number
    max = number
  })

  validation {
    condition     = var.tasks.min >= 1 && var.tasks.max >= var.tasks.min
    error_message = "tasks.min must be at least 1, and tasks.max must not be less than tasks.min."
  }
}

variable "memory_mib" {
  description = "Memory of a task, in MiB: the reservation, by which ECS places it, and the limit."
  type = object({
    reservation = number
    limit       = number
  })
  default = {
    reservation = 256
    limit       = 384
  }

  validation {
    condition     = var.memory_mib.reservation >= 6 && var.memory_mib.reservation <= var.memory_mib.limit
    error_message = "memory_mib.reservation must be at least 6, Docker's minimum, and not more than the limit."
  }

  validation {
    condition     = 2 * var.memory_mib.limit <= var.cluster.task_memory_mib
    error_message = "Twice memory_mib.limit must fit on one instance: during a deployment, an old and a new task run there."
  }
}

variable "log_retention_days" {
  description = "Days to keep the API's log."
  type        = number
  default     = 30

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "log_retention_days must be a retention that CloudWatch Logs supports: 1, 3, 5, 7, 14, 30, 60, 90, ... 3653."
  }
}

variable "alarm_email" {
  description = "E-mail address for alarms. It turns on the alarms and a dashboard; null turns them off."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null ? true : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email must be an e-mail address."
  }
}
