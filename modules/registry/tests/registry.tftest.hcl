mock_provider "aws" {
  source = "../../tests/infra/mocks"
}

variables {
  name = "day02"
}

run "plan" {
  command = plan

  assert {
    condition     = aws_ecr_repository.this.name == "day02" && aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE"
    error_message = "A pushed tag can never name another image."
  }

  assert {
    condition     = aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push
    error_message = "Images are scanned when they are pushed."
  }

  assert {
    condition     = aws_ecr_repository.this.force_delete == false
    error_message = "Images are not deleted with the repository by default."
  }

  assert {
    condition     = jsondecode(aws_ecr_lifecycle_policy.this.policy).rules[0].selection.countNumber == 30
    error_message = "The newest 30 images are kept."
  }
}

run "wired" {
  assert {
    condition     = aws_ecr_lifecycle_policy.this.repository == aws_ecr_repository.this.name && output.repository_url == aws_ecr_repository.this.repository_url
    error_message = "The lifecycle policy belongs to the repository, and the output is its URL."
  }
}

run "refuses_a_name_that_ecr_does_not_support" {
  command = plan

  variables {
    name = "Day02"
  }

  expect_failures = [var.name]
}

run "refuses_to_keep_nothing_to_roll_back_to" {
  command = plan

  variables {
    images_kept = 1
  }

  expect_failures = [var.images_kept]
}
