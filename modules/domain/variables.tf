variable "domain_name" {
  description = "Name by which clients reach the API, e.g. files.example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.domain_name))
    error_message = "domain_name must be a DNS name in lower case, such as files.example.com, without a port."
  }
}

variable "zone_id" {
  description = "Route 53 zone of the name, for the alias record and the validation of the certificate; null if DNS is elsewhere."
  type        = string

  validation {
    condition     = var.zone_id == null ? true : can(regex("^Z[A-Z0-9]{1,31}$", var.zone_id))
    error_message = "zone_id must be the id of a Route 53 zone: Z and capital letters or digits."
  }
}

variable "certificate_arn" {
  description = "ARN of an existing ACM certificate for the name; null issues one, which needs zone_id."
  type        = string

  validation {
    condition     = var.certificate_arn != null || var.zone_id != null
    error_message = "Give certificate_arn, or zone_id to issue a certificate: AWS validates it through DNS."
  }
}

variable "load_balancer" {
  description = "The load balancer: pass the module `load_balancer`."
  type = object({
    dns_name = string
    zone_id  = string
  })
}
