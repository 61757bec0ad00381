"""The OpenAPI document in users' tools: a linter, and two generators whose clients do real work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_servers import without_aws
from s3api import manage
from s3api.auth import ALL_VERBS, new_token
from service.npm_programs import NODE_MODULES, node
from support.servers import ROOT, S3, Service, need

HERE = Path(__file__).parent
DOCUMENT = ROOT / "services" / "s3api" / "static" / "openapi.json"
PYTHON_GENERATOR = ROOT / ".venv-openapi" / "bin"
TOKEN, ENTRY = new_token("generated", ALL_VERBS, "")


@pytest.fixture(scope="module")
def service(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    """A service whose bucket keeps versions, and which wants a token."""
    bucket = ministack_s3.make_bucket("day02-generated", versioned=True)
    entries = f"[{manage.entry_json(ENTRY)}]"
    return make_service(ministack_s3, bucket, api_tokens=entries, allow_anonymous=False)


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that must succeed."""
    path = f"{PYTHON_GENERATOR}{os.pathsep}{os.environ['PATH']}"
    environment = {**without_aws(os.environ), "PATH": path, "PYTHONIOENCODING": "utf-8"}
    environment |= {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_redocly_finds_no_error(tmp_path: Path) -> None:
    """`redocly lint` (@redocly/cli 2), with its recommended rules, reports neither an error nor a warning."""
    lint = node("@redocly/cli", "bin/cli.js")
    found = json.loads(run(*lint, "lint", "--format=json", DOCUMENT, cwd=tmp_path))

    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, found["problems"]


def test_openapi_typescript_makes_a_client_that_works(tmp_path: Path, service: Service) -> None:
    """Its types compile strictly, and a client of openapi-fetch lists, uploads, downloads and restores."""
    generate = node("openapi-typescript", "bin/cli.js")
    compiler = node("typescript", "bin/tsc")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(HERE / "node" / "client.ts", tmp_path)
    run(*generate, DOCUMENT, "--output", "schema.d.ts", cwd=tmp_path)
    run(*compiler, "--strict", "--target", "es2022", "--module", "nodenext", "client.ts", cwd=tmp_path)
    seen = json.loads(run(compiler[0], "client.js", service.url, TOKEN, cwd=tmp_path))

    assert seen == expected("node")


def test_openapi_python_client_makes_a_client_that_works(tmp_path: Path, service: Service) -> None:
    """It generates without a warning, and its client lists, uploads, downloads and restores."""
    generator = PYTHON_GENERATOR / "openapi-python-client"
    need(generator.exists(), f"{generator} is not installed: `make test` installs it")
    # The generator does not know the type of tus's bodies.
    config = tmp_path / "generator.json"
    overrides = {"application/offset+octet-stream": "application/octet-stream"}
    config.write_text(json.dumps({"content_type_overrides": overrides}))
    options = (
        *("--path", DOCUMENT, "--meta", "none", "--output-path", "file_client", "--fail-on-warning"),
        *("--config", config),
    )
    run(generator, "generate", *options, cwd=tmp_path)
    shutil.copy(HERE / "generated_client.py", tmp_path)
    python = PYTHON_GENERATOR / "python"
    seen = json.loads(run(python, "generated_client.py", service.url, TOKEN, cwd=tmp_path))

    assert seen == {**expected("python"), "names": ["python/form.txt", "python/ü +(1).txt"]}


def expected(folder: str) -> dict[str, Any]:
    """What both clients must see."""
    name = f"{folder}/ü +(1).txt"
    return {
        "uploaded": [name, f"{folder}/form.txt"],
        "sizes": [9, 9],
        "text": "some text",
        "linked": "some text",
        "gone": "file_not_found",
        "restored": name,
        "plan": True,
    }
