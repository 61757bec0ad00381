variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>. The emulated AWS runs no other image."
  type        = string
}

variable "data_bucket_name" {
  description = "Existing bucket that contains the files."
  type        = string
  default     = "day02-local"

  validation {
    condition     = startswith(var.data_bucket_name, "day02-")
    error_message = "data_bucket_name must begin with day02-."
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
