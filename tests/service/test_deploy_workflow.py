"""The workflow that deploys to AWS proves what docs/proof.md says, and has no more rights than it needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from deploy import terraform_variables
from support.servers import ROOT, need

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
    become, unlock, destroy = JOBS["day02"]["steps"][-3:]

    assert destroy["run"] == "make destroy ENV=day02"
    assert become["with"]["role-to-assume"] == "${{ vars.DEPLOY_ROLE }}"
    for step in (become, unlock, destroy):
        assert step["if"].startswith("always() && ")
    assert unlock["continue-on-error"] is True


@pytest.mark.parametrize("job", JOBS)
def test_no_limit_of_time_cuts_off_the_last_steps(job: str) -> None:
    """Each step with a command has a limit. Their sum is below the job's, which GitHub limits to six hours.

    Source: docs.github.com/en/actions/reference/limits (job execution time)
    """
    limits = [step["timeout-minutes"] for step in JOBS[job]["steps"] if "run" in step]

    assert sum(limits) < JOBS[job]["timeout-minutes"] <= 360


#: Commands that use the credentials of AWS.
USES_AWS = re.compile(r"\bmake (?:-s )?(?:url|deploy|refresh|destroy)\b|\baws \w|\bterraform ")


@pytest.mark.parametrize("job", JOBS)
def test_no_session_of_aws_expires_during_a_step(job: str) -> None:
    """The last command that uses a session ends within its hour, even if each step takes all its time.

    Source: github.com/aws-actions/configure-aws-credentials (role-duration-seconds is 3600 by default)
    """
    elapsed = sessions = 0
    for step in JOBS[job]["steps"]:
        if "configure-aws-credentials" in step.get("uses", ""):
            assert "role-duration-seconds" not in step["with"]
            elapsed, sessions = 0, sessions + 1
        elif "run" in step:
            elapsed += step["timeout-minutes"]
            assert not (sessions and USES_AWS.search(step["run"])) or elapsed <= 60, step["name"]

    assert sessions >= 2


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
    of_environments = re.sub(
        r"ENV=day02|python - day02|environment(,Values=| )day02|envs/day02|day02/terraform", "", runs
    )
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


# --- steps with programs that play AWS: each step fails when what it must prove is not so


def run_step(name: str, directory: Path, programs: dict[str, str], **variables: str) -> bool:
    """Run the script of a step as GitHub does, with these programs. Return whether the step passes."""
    [step] = [step for step in STEPS if step.get("name") == name]
    for program, script in programs.items():
        path = directory / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=directory,
        env={"PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}", **variables},
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize(
    ("over_http", "passes"),
    [
        ("echo 'An error occurred (AccessDenied)' >&2; exit 254", True),
        ("echo '{}'", False),
        ("echo 'Could not connect to the endpoint' >&2; exit 255", False),
    ],
    ids=["refused", "allowed", "not reached"],
)
def test_tls_is_proved_by_a_signed_request(over_http: str, passes: bool, tmp_path: Path) -> None:
    """The request that succeeds over HTTPS must be refused over HTTP. An unsigned one is refused anyway."""
    aws = f'case "$*" in *http://s3.*) {over_http} ;; *list-objects-v2*) echo "{{}}" ;; *) exit 2 ;; esac'

    variables = {"AWS_REGION": "eu-west-1", "DATA_BUCKET": "files", "STACK": "x"}
    assert run_step("Proof: the data bucket accepts only TLS", tmp_path, {"aws": aws}, **variables) is passes


#: The first deployment says that it applies, and holds the lock until the second one has ended.
FIRST_DEPLOYS = """
if mkdir first; then
  echo '▸ terraform apply'
  touch locked
  until [ -e second ]; do sleep 0.1; done
  exit 0
fi
touch second
"""


@pytest.mark.parametrize(
    ("second_deploys", "passes"),
    [
        ('echo "x@$(hostname) is deploying, or was cut off: the state is locked since now"; exit 2', True),
        ("exit 0", False),
        ("echo 'AWS does not accept your credentials'; exit 2", False),
    ],
    ids=["names the holder", "is not stopped", "fails for another reason"],
)
def test_the_second_deployment_must_meet_the_first(second_deploys: str, passes: bool, tmp_path: Path) -> None:
    """The step starts the second one while the first holds the lock, and fails unless it names the holder."""
    (tmp_path / "services/s3api").mkdir(parents=True)
    programs = {
        "make": FIRST_DEPLOYS + second_deploys,
        "aws": 'case "$*" in *head-object*) [ -e locked ] ;; *) echo 123456789012 ;; esac',
        "git": ":",
        "hostname": "echo runner",
    }

    step = "Proof: of two deployments, one waits or names the holder of the lock"
    assert run_step(step, tmp_path, programs, STACK="x") is passes


@pytest.mark.parametrize(
    ("after", "answer", "passes"),
    [("i-3 i-4", "200", True), ("i-2 i-3", "200", False), ("i-3 i-4", "503", False)],
    ids=["replaced", "one stays", "requests failed"],
)
def test_make_refresh_must_replace_every_instance(
    after: str, answer: str, passes: bool, tmp_path: Path
) -> None:
    """`make refresh` runs, no instance from before is left, and no request failed meanwhile."""
    (tmp_path / "envs/day02").mkdir(parents=True)
    # The command goes on until requests were answered.
    refresh = "until [ $(wc -l < answers) -ge 2 ]; do sleep 0.1; done; touch refreshed"
    programs = {
        "make": f'case "$*" in *refresh*) {refresh} ;; *url*) echo http://api ;; esac',
        "aws": f"if [ -e refreshed ]; then echo {after}; else echo i-1 i-2; fi | tr ' ' '\\t'",
        "curl": f"if [ -s answers ]; then echo {answer}; else echo 200; fi",
    }

    step = "Proof: instances are drained and replaced"
    assert run_step(step, tmp_path, programs, PROJECT="day02") is passes
    assert list((tmp_path / "envs/day02").iterdir()) == []


@pytest.mark.parametrize(
    ("holder", "released"),
    [("runner@this-runner", True), ("someone@another-machine", False), (None, False)],
    ids=["this runner", "another machine", "no lock"],
)
@pytest.mark.parametrize("unsaved", [True, False])
def test_only_a_lock_of_this_runner_is_released(
    holder: str | None, released: bool, unsaved: bool, tmp_path: Path
) -> None:
    """A deployment that was cut off leaves its lock, and maybe its state in a file. Other locks stay."""
    need(shutil.which("jq") is not None, "jq is not installed")
    (tmp_path / "envs/day02").mkdir(parents=True)
    if unsaved:
        (tmp_path / "envs/day02/errored.tfstate").touch()
    lock = tmp_path / "the_lock"
    if holder:
        lock.write_text(json.dumps({"ID": "lock-1", "Who": holder}))
    # The last argument of `get-object` is the file to write.
    get_object = f'for last in "$@"; do :; done; cp {lock} "$last"'
    programs = {
        "aws": 'case "$*" in\n'
        f"*'--bucket x-123456789012-tfstate --key day02/terraform.tfstate.tflock'*) {get_object} ;;\n"
        "*get-caller-identity*) echo 123456789012 ;;\n*) exit 2 ;;\nesac",
        "hostname": "echo this-runner",
        "terraform": 'echo "$*" >> terraform.log',
    }

    assert run_step("Release a lock of this runner, and save its state", tmp_path, programs, STACK="x")

    log = tmp_path / "terraform.log"
    ran = log.read_text().splitlines() if log.exists() else []
    unlock, push = "force-unlock -force lock-1", "state push errored.tfstate"
    assert ran == [
        f"-chdir=envs/day02 {command}" for command, wanted in ((unlock, released), (push, unsaved)) if wanted
    ]


@pytest.mark.parametrize(
    ("listed_after", "alarm", "passes"),
    [(3, "x-target-5xx", True), (1000, "x-target-5xx", False), (0, "", False)],
    ids=["rolled back later", "not rolled back", "rolled back for another reason"],
)
def test_the_proof_waits_for_the_rollback_of_that_deployment(
    listed_after: int, alarm: str, passes: bool, tmp_path: Path
) -> None:
    """`make deploy` ends before the rollback does. A rollback from before that deployment does not count.

    Source: docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListServiceDeployments.html (createdAt)
    """
    since = "2026-11-26T01:37:00Z"
    listing = f"""
echo >> polls
case "$*" in
  *'--status ROLLBACK_SUCCESSFUL --created-at after={since} '*)
    [ $(wc -l < polls) -le {listed_after} ] || echo new ;;
  *) echo old ;;
esac"""
    programs = {
        "aws": f"""
case "$*" in
  *list-service-deployments*) {listing} ;;
  *'--service-deployment-arns new '*) echo {alarm} ;;
  *) exit 2 ;;
esac""",
        "sleep": ":",
    }

    step = "Proof: the alarm on 5xx rolled that deployment back"
    assert run_step(step, tmp_path, programs, STACK="x", BAD_SINCE=since) is passes


@pytest.mark.parametrize(
    ("without_token", "with_token", "passes"),
    [("401", '{"content": []}', True), ("200", '{"content": []}', False), ("401", "<html></html>", False)],
    ids=["asks for a token", "answers everyone", "another server"],
)
def test_https_of_prod_is_proved_by_a_call_with_a_token(
    without_token: str, with_token: str, passes: bool, tmp_path: Path
) -> None:
    """The list is read by name with the token, and refused without one. The token is on no command line."""
    curl = f"""
case "$*" in
  *secret*) exit 9 ;;
  *'-H @-'*) grep -q '^Authorization: Bearer secret$' && echo '{with_token}' ;;
  *list_files*) printf {without_token} ;;
  *) echo '301 https://files.example.com/livez' ;;
esac"""
    need(shutil.which("jq") is not None, "jq is not installed")

    step = "Proof: HTTPS by name, and the redirect to it"
    variables = {"NAME": "files.example.com", "S3API_TOKEN": "secret"}
    assert run_step(step, tmp_path, {"curl": curl}, **variables) is passes


def test_the_inputs_of_prod_are_complete(tmp_path: Path) -> None:
    """The variables that the first lines of the workflow name give each required variable of prod a value."""
    need(shutil.which("jq") is not None, "jq is not installed")
    root = tmp_path / "envs/prod"
    root.mkdir(parents=True)
    for path in (*(ROOT / "envs/prod").glob("*.tfvars"), ROOT / "envs/prod/variables.tf"):
        shutil.copy(path, root)
    inputs = {
        "zone_id": "Z0123456789ABCDEFGHIJ",
        "allowed_cidrs": ["0.0.0.0/0"],
        "access_logs_bucket_name": "day02-access-logs",
    }
    given = {
        "ALARM_EMAIL": "oncall@example.com",
        "NAME": "files.example.com",
        "PROD_INPUTS": json.dumps(inputs),
    }

    assert run_step("Write the inputs", tmp_path, {}, **given)

    written = json.loads((root / "inputs.auto.tfvars.json").read_text())
    declared = set(re.findall(r'^variable "(\w+)"', (root / "variables.tf").read_text(), re.MULTILINE))
    assert set(written) <= declared
    terraform_variables.check(root, {"image": "sha256:" + "0" * 64}, os.environ)
