"""docs/course.md: its commands for the infrastructure, on the stack in the emulated AWS."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.environments import Environment
from support import course


@pytest.mark.parametrize("block", course.blocks("stack"))
def test_the_commands_for_the_infrastructure(
    aws: Environment, stack: Environment, api: str, tmp_path: Path, block: tuple[str, str]
) -> None:
    """Each prints what the page says, with the real AWS command line."""
    commands, wanted = block
    assert stack.emulated is not None
    variables = {**aws.credentials, "AWS_ENDPOINT_URL": stack.emulated.url, "URL": api}
    printed = course.run(commands, tmp_path, variables)

    assert course.matches(wanted, printed), printed
