"""The import contracts of pyproject.toml fail on an import that they forbid."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from support.servers import ROOT

LINT = Path(sys.executable).with_name("lint-imports")
#: A module, and a statement that it must not contain, however it is written and wherever it stands.
FORBIDDEN = [
    ("s3api.routes", "from s3api import s3_store", "s3api.s3_store"),
    ("s3api.routes", "import boto3", "boto3"),
    ("s3api.routes", "def view():\n    from botocore.exceptions import ClientError", "botocore"),
    ("s3api.pages", "from s3api.s3_store import S3FileStore", "s3api.s3_store"),
    ("s3api.pages", "from s3api import routes", "s3api.routes"),
    ("s3api.admission", "import s3api.s3_http", "s3api.s3_http"),
    ("s3api.forms", "from s3api.s3_values import number", "s3api.s3_values"),
    ("s3api.errors", "from s3api.s3_errors import S3Errors", "s3api.s3_errors"),
    ("s3api.services", "import boto3.session", "boto3"),
    ("s3api.staging", "from s3api import s3_store", "s3api.s3_store"),
    ("s3api.presentation", "import botocore", "botocore"),
    ("s3api.write_headers", "from s3api.s3_answers import ETAG", "s3api.s3_answers"),
    ("s3api.doctor", "import boto3", "boto3"),
    ("s3api.services", "from s3api import routes", "s3api.routes"),
    ("s3api.files", "import flask", "flask"),
    ("s3api.files", "def put():\n    import boto3", "boto3"),
    ("s3api.files", "from werkzeug.exceptions import BadRequest", "werkzeug"),
    ("s3api.files", "from s3api import s3_store", "s3api.s3_store"),
    ("s3api.files", "from s3api.auth import Caller", "s3api.auth"),
    ("s3api.file_store", "from s3api import files", "s3api.files"),
    ("s3api.bodies", "import urllib3", "urllib3"),
    ("s3api.names", "from werkzeug.http import parse_date", "werkzeug"),
    ("s3api.failures", "from botocore.exceptions import ClientError", "botocore"),
    ("s3api.s3_store", "from flask import request", "flask"),
    ("s3api.s3_errors", "from flask import g", "flask"),
    ("s3api.s3_values", "import werkzeug", "werkzeug"),
    ("s3api.bucket", "from s3api import settings", "s3api.settings"),
    ("s3api.bucket", "import pydantic", "pydantic"),
    ("s3api.client.api", "import requests, boto3", "boto3"),
    ("s3api.client.uploads", "from s3api.settings import Settings", "s3api.settings"),
    ("s3api.app", "from s3api.client import api", "s3api.client.api"),
    ("guard.keys", "import boto3", "boto3"),
    ("guard.keys", "from s3api.private import open_private", "s3api.private"),
    ("deploy.prepare", "from s3api.s3_store import S3FileStore", "s3api.s3_store"),
    ("deploy.smoke", "import s3api.client.api", "s3api.client.api"),
    ("s3api.copying", "import flask", "flask"),
    ("s3api.searching", "import werkzeug", "werkzeug"),
    ("s3api.versions", "from flask import g", "flask"),
    ("s3api.upload_memory", "import flask", "flask"),
    ("s3api.s3_copying", "import flask", "flask"),
    ("s3api.s3_versions", "import werkzeug", "werkzeug"),
    ("emulator.settings", "from deploy import steps", "deploy.steps"),
    ("emulator.entrance", "from s3api import files", "s3api.files"),
]

#: A chain of one import; the later imports of a longer chain are on indented lines.
_DIRECT = re.compile(r"^-\s+([\w.]+) -> ([\w.]+) \(l\.[^)]*\)\n(?!\s+[\w.]+ -> )", re.MULTILINE)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """The imports that import-linter refuses in a copy of the services with the statements of `FORBIDDEN`."""
    copy = tmp_path_factory.mktemp("contracts")
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copytree(
        ROOT / "services", copy / "services", ignore=shutil.ignore_patterns("static", "__pycache__")
    )
    before = lint(copy)
    added: dict[str, list[str]] = defaultdict(list)
    for module, statement, _ in FORBIDDEN:
        added[module].append(statement)
    for module, statements in added.items():
        with (copy / "services" / f"{module.replace('.', '/')}.py").open("a", encoding="utf-8") as source:
            source.write("\n" + "\n".join(statements) + "\n")
    after = lint(copy)

    assert before.returncode == 0, before.stdout + before.stderr
    assert after.returncode == 1, after.stdout + after.stderr
    return set(_DIRECT.findall(after.stdout))


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "services"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "imported"), [(module, imported) for module, _, imported in FORBIDDEN], ids=str
)
def test_a_forbidden_import_is_refused(refused: set[tuple[str, str]], module: str, imported: str) -> None:
    """A contract names the import, so `make check` fails on it."""
    assert (module, imported) in refused


def test_contracts_that_name_modules_name_all_of_their_kind() -> None:
    """A new use case, or a new part of the store, is in the contract of its kind."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contracts = {contract["name"]: contract for contract in configured["contracts"]}
    (layers,) = (
        contract["layers"] for name, contract in contracts.items() if name.startswith("One direction:")
    )
    rows = [{f"s3api.{module}" for module in row.split(" | ")} for row in layers]
    (first,) = (number for number, row in enumerate(rows) if "s3api.resumable" in row)
    (last,) = (number for number, row in enumerate(rows) if "s3api.names" in row)
    use_cases = set().union(*rows[first : last + 1]) - {"s3api.jwt_tokens"}
    of_store = {module for row in rows for module in row if module.startswith("s3api.s3_")}

    named = set(contracts["The use cases know neither HTTP nor S3"]["source_modules"])
    assert named == use_cases | {"s3api.failures"}
    assert set(contracts["The store does without the web framework"]["source_modules"]) == of_store
