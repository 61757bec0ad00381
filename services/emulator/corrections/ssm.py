"""Corrections of SSM."""

from __future__ import annotations

ECS_AMI_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"


def add_ecs_machine_image() -> None:
    """Add the public parameter that names the machine image of ECS.

    MiniStack lacks it, and lets no client create a parameter of that name.
    """
    from ministack.services import ssm

    ssm._PUBLIC_AMI_PARAMETERS[ECS_AMI_PARAMETER] = "ami-0c2023a1b2c3d4e5f"
