variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>. The emulator runs no other."
  type        = string
}

variable "data_bucket_name" {
  description = "The existing bucket that holds the files."
  type        = string
  default     = "day02-local"

  validation {
    condition     = startswith(var.data_bucket_name, "day02-")
    error_message = "data_bucket_name must begin with day02-."
  }
}

variable "aws_endpoint_url" {
  description = "The emulated AWS, as Terraform reaches it."
  type        = string
  default     = "http://127.0.0.1:4566"
}

variable "task_aws_endpoint_url" {
  description = "The emulated AWS, as the tasks reach it: at the address where ECS serves a task's credentials."
  type        = string
  default     = "http://169.254.170.2:4566"
}

variable "s3_public_endpoint_url" {
  description = "The emulated S3, as a client reaches it; presigned URLs begin with it."
  type        = string
  default     = "http://127.0.0.1:4566"
}

variable "access_key" {
  description = "Access key of a user of the emulator, from TF_VAR_access_key."
  type        = string
}

variable "secret_key" {
  description = "Secret key of that user, from TF_VAR_secret_key."
  type        = string
  sensitive   = true
}
