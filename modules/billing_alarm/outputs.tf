output "topic_arn" {
  description = "ARN of the topic that the alarm notifies."
  value       = aws_sns_topic.this.arn
}
