"""The commands of docs/course.md, and their outputs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from local_servers import REGION, without_aws
from support.servers import ROOT, need

PAGE = ROOT / "docs" / "course.md"
AWS_CLI = ROOT / ".venv-aws-cli" / "bin"
_BLOCK = re.compile(r"<!-- run: (\w+) -->\n```sh\n(.*?)```\n\n```text\n(.*?)```\n", re.DOTALL)


def blocks(where: str) -> list[tuple[str, str]]:
    """The commands that run on a `service` or on the deployed `stack`, with their outputs."""
    return [(commands, output) for on, commands, output in _BLOCK.findall(PAGE.read_text()) if on == where]


def run(commands: str, directory: Path, variables: Mapping[str, str]) -> str:
    """What the commands print. Each must succeed. `aws` is the AWS command line of the project."""
    need((AWS_CLI / "aws").exists(), f"{AWS_CLI} has no AWS command line: `make test` installs it")
    environment = {
        **without_aws(os.environ),
        "PATH": f"{AWS_CLI}{os.pathsep}{os.environ['PATH']}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "AWS_CONFIG_FILE": str(directory / "aws_config"),
        **variables,
    }
    done = subprocess.run(
        ["sh", "-euc", commands],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def matches(wanted: str, printed: str) -> bool:
    """Whether the output is the one of the page, in which `…` is any text of one line."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split("…"))), printed) is not None
