variable "name" {
  description = "Prefix of the alarm's name: day02 gives day02-billing."
  type        = string
}

variable "topic_name" {
  description = "Name of the topic that the alarm notifies."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,256}$", var.topic_name))
    error_message = "topic_name must be 1 to 256 letters, digits, hyphens and underscores."
  }
}

variable "email" {
  description = "E-mail address that the alarm notifies."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.email))
    error_message = "email must be an e-mail address."
  }
}

variable "limit_usd" {
  description = "Estimated charges of the month, in USD, that trigger the alarm."
  type        = number

  validation {
    condition     = var.limit_usd > 0
    error_message = "limit_usd must be more than 0."
  }
}
