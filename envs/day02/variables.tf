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
}
