variable "name" {
  description = "Name of the repository."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+([._-][a-z0-9]+)*$", var.name)) && length(var.name) >= 2
    error_message = "name must be lower-case letters and digits, with single . _ or - between them, as ECR requires."
  }
}

variable "images_kept" {
  description = "Number of images to keep. Older ones expire."
  type        = number
  default     = 30

  validation {
    condition     = var.images_kept >= 2 && floor(var.images_kept) == var.images_kept
    error_message = "images_kept must be a whole number of at least 2: the running image and the previous one, for a rollback."
  }
}

variable "force_delete" {
  description = "Whether destroy also deletes the images. Otherwise destroy fails while there are images."
  type        = bool
  default     = false
}
