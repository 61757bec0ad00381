variable "image" {
  description = "The image, pinned by digest: <repository>@sha256:<digest>, or sha256:<id> of one in the local engine."
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
  description = "Access key that the emulator accepts."
  type        = string
  default     = "test"
}

variable "secret_key" {
  description = "Secret key that the emulator accepts."
  type        = string
  default     = "test"
  sensitive   = true
}
