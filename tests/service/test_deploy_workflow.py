"""The workflow that deploys to AWS proves what docs/proof.md says, and has no more rights than it needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from support.servers import ROOT

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))
PROOF = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
JOBS: dict[str, Any] = WORKFLOW["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def test_each_row_of_the_proof_is_a_step() -> None:
    """The last table of docs/proof.md and the steps called "Proof: …" are the same."""
    table = PROOF.partition("## What only an account can show")[2]
    named = set(re.findall(r"`(Proof: [^`]+)`", table))

    assert named == {step["name"] for step in STEPS if step.get("name", "").startswith("Proof: ")}
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`Proof: " not in line]
    assert rows == ["| promise | why not on this machine | step of the workflow |"]


def test_least_permissions() -> None:
    """Each job reads the code and asks for a role. No key of AWS is stored; prod waits for its reviewers."""
    assert WORKFLOW["permissions"] == {}
    for name, job in JOBS.items():
        assert job["permissions"] == {"contents": "read", "id-token": "write"}
        assert job["environment"] == name
    assert "inputs.environment == 'prod'" in JOBS["prod"]["if"]
    assert "aws-access-key-id" not in str(WORKFLOW)


def test_every_night_ends_with_destroy() -> None:
    """day02 is destroyed whatever failed before, by the deployer's role."""
    become, destroy = JOBS["day02"]["steps"][-2:]

    assert destroy["run"] == "make destroy ENV=day02"
    assert become["with"]["role-to-assume"] == "${{ vars.DEPLOY_ROLE }}"
    for step in (become, destroy):
        assert step["if"].startswith("always() && ")


@pytest.mark.parametrize(("job", "stack"), [("day02", "day02"), ("prod", "day02-prod")])
def test_the_names_are_those_of_the_stack(job: str, stack: str, tmp_path: Path) -> None:
    """Each job reads the names of its stack from the files of variables."""
    [step] = [step for step in JOBS[job]["steps"] if step.get("name") == "Read the names of the stack"]
    script = step["run"].replace(".venv/bin/python", sys.executable)
    written = tmp_path / "env"

    subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env={**os.environ, "GITHUB_ENV": str(written)}, check=True
    )

    assert written.read_text() == f"REGION=eu-west-1\nSTACK={stack}\nPROJECT=day02\nDATA_BUCKET=\n"


def test_no_step_names_the_stack_itself() -> None:
    """Another name or region needs a change in the files of variables only."""
    runs = str([step.get("run") for step in STEPS])
    regions = {step["with"]["aws-region"] for step in STEPS if "aws-region" in step.get("with", {})}

    # The name of the environment, which is that of its folder too.
    of_environments = re.sub(r"ENV=day02|python - day02|environment(,Values=| )day02", "", runs)
    assert re.findall(r"day02|eu-west-1", of_environments) == []
    assert regions == {"${{ env.REGION }}"}


def test_the_image_that_answers_500(tmp_path: Path) -> None:
    """The workflow's change of the code makes every request fail but the probes."""
    [step] = [step for step in STEPS if step.get("name") == "Deploy an image that answers 500"]
    change = re.search(r"^sed -i .*\n.*admission\.py$", step["run"], re.MULTILINE)
    assert change
    (tmp_path / "services").mkdir()
    subprocess.run(["cp", "-r", str(ROOT / "services" / "s3api"), str(tmp_path / "services")], check=True)
    # `-i` of BSD's sed takes an argument, so only GNU's, which the workflow's runner has, is tried.
    version = subprocess.run(["sed", "--version"], capture_output=True, check=False)
    if version.returncode:
        pytest.skip("sed is not GNU's")
    subprocess.run(["sh", "-euc", change[0]], cwd=tmp_path, check=True)
    program = """
import sys
from pathlib import Path
from s3api.app import create_app
from support.memory_store import MemoryStore
from support.stores import settings_for
client = create_app(settings_for(Path(sys.argv[1])), MemoryStore()).test_client()
print([client.get(path).status_code for path in ("/livez", "/readyz", "/", "/list_files", "/files/a")])
"""
    path = f"sys.path[:0] = {[str(tmp_path / 'services'), str(ROOT / 'tests'), str(ROOT / 'services')]}"
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys\n{path}{program}", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.stdout == "[200, 200, 500, 500, 500]\n", ran.stderr[-2000:]
