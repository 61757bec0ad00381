provider "aws" {
  region = "eu-west-1"

  default_tags {
    tags = { project_name = "day02", environment = "prod" }
  }
}

# AWS publishes charges in us-east-1 only.
provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  default_tags {
    tags = { project_name = "day02", environment = "prod" }
  }
}
