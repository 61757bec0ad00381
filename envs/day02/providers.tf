provider "aws" {
  region = var.region

  default_tags {
    tags = { project_name = var.project_name, environment = "day02" }
  }
}

# AWS publishes charges in us-east-1 only.
provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  default_tags {
    tags = { project_name = var.project_name, environment = "day02" }
  }
}
