"""checkov and trivy find nothing in any root and its modules. Every skipped check has a reason."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.terraform import CHECKOUT, ROOTS

SKIP = re.compile(
    r"#\s*(?:checkov:skip=(?P<checkov>\w+)(?::(?P<why>.*))?|trivy:ignore:(?P<trivy>\S+)(?P<because>.*))"
)
CODE = sorted([*CHECKOUT.glob("modules/*/*.tf"), *CHECKOUT.glob("envs/*/*.tf")])

# Only the built-in checks: nothing is downloaded, and no telemetry is sent.
CHECKOV = ["--framework", "terraform", "--quiet", "--compact", "--skip-download", "--output", "json"]
OFFLINE = ["--skip-check-update", "--skip-version-check", "--disable-telemetry"]
TRIVY = ["config", "--quiet", "--format", "json", *OFFLINE]


def _checkov(program: Path, root: str) -> dict[str, Any]:
    # One root per run: with several, checkov counts the skips of the first again for the next.
    environment = {**os.environ, "BC_SKIP_MAPPING": "TRUE", "LOG_LEVEL": "ERROR"}
    result = subprocess.run(
        [program, "--directory", root, *CHECKOV],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.parametrize("root", ROOTS)
def test_checkov_finds_nothing(checkov: Path, root: str) -> None:
    """checkov, on the root with its modules, fails nothing and skips no more than the field's best."""
    report = _checkov(checkov, root)
    failed = [f"{check['check_id']} {check['resource']}" for check in report["results"]["failed_checks"]]

    assert failed == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100
    assert report["summary"]["skipped"] <= 19


@pytest.mark.parametrize("root", ROOTS)
def test_trivy_finds_nothing(trivy: Path, root: str) -> None:
    """trivy finds no misconfiguration of any severity in the root with its modules."""
    result = subprocess.run([trivy, *TRIVY, root], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    results = json.loads(result.stdout)["Results"]
    found = [
        f"{each['ID']} {each['Title']}" for scan in results for each in scan.get("Misconfigurations", [])
    ]

    assert found == []
    assert any("modules/service" in scan["Target"] for scan in results)


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_each_skip_says_why(path: Path) -> None:
    """Every skipped check has a reason next to it, in a sentence."""
    assert [line for line in path.read_text().splitlines() if _is_bare(line)] == []


@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("  #checkov:skip=CKV_AWS_150", True),
        ("  #checkov:skip=CKV_AWS_150:", True),
        ("  # checkov:skip=CKV_AWS_150: todo", True),
        ("  #checkov:skip=CKV_AWS_150:The stack must be destroyable whole at any time.", False),
        ("#trivy:ignore:AVD-AWS-0053", True),
        ("#trivy:ignore:AVD-AWS-0053 public", True),
        ("#trivy:ignore:AVD-AWS-0053 The API is meant to be reached from outside.", False),
    ],
)
def test_bare_skip_is_found(line: str, bare: bool) -> None:
    """A skip with no reason, or with a reason of one word, fails."""
    assert _is_bare(line) is bare


def test_nothing_is_skipped_elsewhere() -> None:
    """No configuration file of a scanner turns a check off."""
    names = {".checkov.baseline", ".checkov.yaml", ".checkov.yml", ".trivyignore", "trivy.yaml"}

    assert [path for path in CHECKOUT.iterdir() if path.name in names] == []


def _is_bare(line: str) -> bool:
    match = SKIP.search(line)
    return match is not None and len((match["why"] or match["because"] or "").split()) < 4
