"""The programs of the npm packages that the tests of the service use."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.servers import need

NODE_MODULES = Path(__file__).parent / "node" / "node_modules"


def node(package: str, program: str) -> tuple[str, Path]:
    """The command that runs a program of an npm package."""
    found = shutil.which("node")
    need(found, "Node.js is not installed; no client in JavaScript is tried")
    need((NODE_MODULES / ".ready").exists(), f"{NODE_MODULES} is not complete: `make test` installs it")
    assert found is not None
    return found, NODE_MODULES / package / program
