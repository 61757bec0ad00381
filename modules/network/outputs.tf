output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, available once their route to the internet exists."
  value       = [for subnet in aws_subnet.public : subnet.id]

  # Resources in a subnet are created after its route and destroyed before it. Otherwise AWS refuses the balancer,
  # because there is no gateway, and on destroy the gateway cannot detach.
  depends_on = [aws_route.internet, aws_route_table_association.public]
}
