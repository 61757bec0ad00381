from __future__ import annotations

from pathlib import Path

import pytest

from infra.terraform import CHECKOUT, DIRECTORIES, Workspace
from support.servers import need


@pytest.fixture(scope="session")
def workspace(request: pytest.FixtureRequest, workspace: Workspace) -> Workspace:
    """The workspace of the session. It starts to prepare what the tests need."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = {value for each in parameters for name, value in each.items() if name in {"root", "directory"}}
    workspace.begin(directory for directory in DIRECTORIES if directory in asked)
    return workspace


@pytest.fixture(scope="session")
def checkov() -> Path:
    return _scanner("checkov")


@pytest.fixture(scope="session")
def trivy() -> Path:
    return _scanner("trivy")


def _scanner(name: str) -> Path:
    path = CHECKOUT / ".venv-scanners" / "bin" / name
    need(path.exists(), f"{path.relative_to(CHECKOUT)} is not there: `make test` installs it")
    return path
