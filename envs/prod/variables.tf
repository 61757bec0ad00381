variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>."
  type        = string
}

variable "data_bucket_name" {
  description = "Existing bucket that contains the files."
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
  description = "ARN of the ACM certificate for the API's own domain name."
  type        = string
  nullable    = false
}

variable "access_logs_bucket_name" {
  description = "Existing bucket for the load balancer's access logs."
  type        = string
  nullable    = false
}

variable "alarm_email" {
  description = "E-mail address for all alarms, including the billing alarm."
  type        = string
  nullable    = false
}
