"""The emulated AWS of `make deploy ENV=local`; see docs/decisions/deploy-local-aws.md."""
