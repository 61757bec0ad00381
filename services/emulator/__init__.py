"""The emulated AWS of `make deploy ENV=local`; see docs/decisions/0010-deploy-local-aws.md."""
