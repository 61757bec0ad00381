output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, usable only once their route to the internet stands."
  value       = [for subnet in aws_subnet.public : subnet.id]

  # Whoever uses a subnet waits for its route, and is gone before the route is. Else the balancer is refused for want of
  # a gateway, and on destroy the gateway cannot detach.
  depends_on = [aws_route.internet, aws_route_table_association.public]
}
