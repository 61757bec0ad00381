variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>."
  type        = string
}

variable "data_bucket_name" {
  description = "The existing bucket that holds the files."
  type        = string

  validation {
    condition     = startswith(var.data_bucket_name, "day02-")
    error_message = "data_bucket_name must begin with day02-."
  }
}

variable "allowed_cidrs" {
  description = "IPv4 ranges that may reach the API."
  type        = list(string)
}

variable "certificate_arn" {
  description = "ARN of the ACM certificate of the API's own name."
  type        = string
  nullable    = false
}

variable "access_logs_bucket_name" {
  description = "The existing bucket that takes the load balancer's access logs."
  type        = string
  nullable    = false
}

variable "alarm_email" {
  description = "Address that alarms, the billing alarm among them, notify."
  type        = string
  nullable    = false
}
