from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.terraform import CHECKOUT, DIRECTORIES, Workspace


def _missing(what: str) -> None:
    """On a user's machine a missing tool skips its tests; in CI it fails them."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and in CI it must be there")
    pytest.skip(what)


@pytest.fixture(scope="session")
def workspace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    if shutil.which("terraform") is None:
        _missing("terraform is not on the PATH")
    workspace = Workspace(tmp_path_factory.mktemp("terraform"))
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = {value for each in parameters for name, value in each.items() if name in {"root", "directory"}}
    workspace.begin(directory for directory in DIRECTORIES if directory in asked)
    yield workspace
    workspace.close()


@pytest.fixture(scope="session")
def checkov() -> Path:
    return _scanner("checkov")


@pytest.fixture(scope="session")
def trivy() -> Path:
    return _scanner("trivy")


def _scanner(name: str) -> Path:
    path = CHECKOUT / ".venv-scanners" / "bin" / name
    if not path.exists():
        _missing(f"{path.relative_to(CHECKOUT)} is not there")
    return path
