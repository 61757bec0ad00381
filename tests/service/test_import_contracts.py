"""What may import what: the contracts of pyproject.toml fail, and closed lists and the diagram are true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from itertools import pairwise, product
from pathlib import Path

import grimp
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

#: What each package, or module, imports besides itself and the standard library. A new module of a package is
#: covered as well.
IMPORTED = {
    "deploy": "boto3 botocore docker guard.keys s3api.bucket s3api.safe_text",
    "emulator": "cryptography docker guard hypercorn ministack",
    "guard": "localstack ministack rolo",
    "s3api.client": "click rich s3api s3api.misspelt_variables s3api.private s3api.safe_text urllib3",
    # Used by the others above, so they have a list as well.
    "s3api.bucket": "botocore",
    "s3api.misspelt_variables": "",
    "s3api.private": "",
    "s3api.safe_text": "",
}
#: The modules of the service that import each library, without `s3api.`. They import no other one.
IMPORTING = {
    "apiflask": "app errors openapi pages routes tus upload_link_routes",
    "boto3": "s3_http s3_session s3_store",
    "botocore": "bucket s3_answers s3_errors s3_http s3_session s3_signing s3_store",
    "click": "__main__ manage",
    "cryptography": "jwt_tokens",
    "flask": "admission app copy_routes cors errors forms json_bodies observability pages routes services "
    "tus upload_link_routes version_routes write_headers",
    "gevent": "gevent_patches waiting worker",
    "gunicorn": "serve worker",
    "itsdangerous": "signed_values",
    "jwt": "jwt_tokens",
    "orjson": "json_text",
    "prometheus_client": "cloudwatch metrics observability shared_metrics worker",
    "pydantic": "admission manage routes schemas settings",
    "pydantic_core": "settings",
    "pydantic_settings": "settings",
    "urllib3": "jwt_tokens s3_answers s3_errors s3_http s3_store",
    "werkzeug": "admission app copy_routes errors forms headers json_bodies origins presentation routes tus "
    "upload_link_routes version_routes write_headers",
}

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


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """The imports of the four packages, wherever a statement stands."""
    return grimp.build_graph(
        "deploy", "emulator", "guard", "s3api", include_external_packages=True, cache_dir=None
    )


def imports(graph: grimp.ImportGraph, package: str, *, without: str = "-") -> dict[str, set[str]]:
    """What the modules of the package import from elsewhere, and which of them do."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        if is_in(module, package) and not is_in(module, without):
            for imported in graph.find_modules_directly_imported_by(module):
                if imported.split(".")[0] not in sys.stdlib_module_names and not is_in(imported, package):
                    found[imported].add(module)
    return found


def is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


@pytest.mark.parametrize("package", IMPORTED)
def test_a_package_imports_no_more_than_its_list(graph: grimp.ImportGraph, package: str) -> None:
    """A new import of another package or library is a decision."""
    allowed = IMPORTED[package].split()
    found = imports(graph, package)
    more = {
        imported: modules
        for imported, modules in found.items()
        if imported not in allowed and not any(is_in(imported, one) for one in allowed if one != "s3api")
    }

    assert more == {}
    assert all(any(is_in(imported, one) for imported in found) for one in allowed)


def test_each_library_is_imported_by_its_modules_alone(graph: grimp.ImportGraph) -> None:
    """Flask stays at the edge, boto3 in the store, gunicorn in the server, and so on."""
    found = {
        library: {module.removeprefix("s3api.") for module in modules}
        for library, modules in imports(graph, "s3api", without="s3api.client").items()
    }

    assert found == {library: set(modules.split()) for library, modules in IMPORTING.items()}


def test_each_arrow_of_the_architecture_is_an_import(graph: grimp.ImportGraph) -> None:
    """Inside the service, each arrow of docs/architecture.md is an import that its first module has."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    diagram = text.partition("direction LR\n")[2].partition("\n    end\n")[0]
    arrows = [
        (importer, imported)
        for line in diagram.splitlines()
        for sources, targets in pairwise(re.split(r" -(?:[-.]* [^-]* -)?[-.]+>? ", line.strip()))
        for importer, imported in product(sources.split(" & "), targets.split(" & "))
    ]

    assert len(arrows) > 8
    for importer, imported in arrows:
        found = graph.find_modules_directly_imported_by(f"s3api.{importer}")
        assert f"s3api.{imported}" in found, f"{importer} --> {imported}"


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
