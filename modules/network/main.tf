data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

#trivy:ignore:AVD-AWS-0178 Flow logs are billed per GB; flow_log_retention_days turns them on, as in prod.
resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = "${var.name}-vpc" }
}

# Managed so that it has no rules: a resource without a security group of its own can reach nothing.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-unused" }
}

#trivy:ignore:AVD-AWS-0164 Instances need a public address to reach AWS without a NAT gateway (about 35 USD a month).
resource "aws_subnet" "public" {
  for_each = var.public_subnets

  #checkov:skip=CKV_AWS_130:Instances need a public address to reach AWS without a NAT gateway (about 35 USD a month).
  vpc_id                  = aws_vpc.this.id
  cidr_block              = each.value.cidr
  availability_zone       = each.value.availability_zone
  map_public_ip_on_launch = true

  tags = { Name = "${var.name}-sn-pub-${each.key}" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-igw" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-rt" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}
