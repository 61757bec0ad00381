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
  description = "IPv4 ranges that may reach the API: everyone, as in the course, or your own, e.g. [\"203.0.113.7/32\"]."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "ssh" {
  description = "Who may log in to the instances by SSH, and with which key pair; null is no one: Session Manager needs neither."
  type = object({
    cidr     = string
    key_name = string
  })
  default = null
}

variable "billing_email" {
  description = "Address that the billing alarm notifies."
  type        = string
}
