#trivy:ignore:AVD-AWS-0033 ECR encrypts at rest with its own key; a customer key costs 1 USD a month, and the image contains no secret.
resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136:ECR encrypts at rest with its own key; a customer key costs 1 USD a month, and the image contains no secret.
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.force_delete

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Keep the newest ${var.images_kept} images for rollbacks"
      selection = {
        tagStatus   = "any"
        countType   = "imageCountMoreThan"
        countNumber = var.images_kept
      }
      action = { type = "expire" }
    }]
  })
}
