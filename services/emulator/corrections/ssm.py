"""Corrections of SSM."""

from __future__ import annotations

from functools import partial

ECS_AMI_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"


def add_ecs_machine_image() -> None:
    """Add the public parameter that names the machine image of ECS.

    MiniStack lacks it, and lets no client create a parameter of that name.
    """
    from ministack.services import ssm

    ssm._PUBLIC_AMI_PARAMETERS[ECS_AMI_PARAMETER] = "ami-0c2023a1b2c3d4e5f"


def decrypt_secrets_of_tasks() -> None:
    """Give a task the value of a SecureString. MiniStack's ECS gives it the encrypted text.

    Source: docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-ssm-paramstore.html
    """
    from ministack.services import ssm

    # Only ECS calls this function here; clients use GetParameter, which has a parameter for it.
    ssm.resolve_parameter_value = partial(ssm.resolve_parameter_value, decrypt=True)
