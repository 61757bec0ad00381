"""The emulated AWS of `make deploy ENV=local`, as it runs in its container.

`deploy.emulated_aws` starts that container; docs/decisions/0010-deploy-local-aws.md explains the design.
"""
