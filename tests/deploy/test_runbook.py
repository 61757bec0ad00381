"""docs/runbook.md: each command runs on the stack in the emulated AWS, or is listed with a reason or a test.

The page names prod's resources. The stack here is that of day02, whose names have no `-prod`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError

from deploy import commands as commands_of_make
from deploy.commands import Quiet
from deploy.emulated_aws import root_key
from deploy.environments import Environment
from deploy.service import Service
from deploy.stack import NO_IMAGE, Stack
from deploy.steps import Failed
from local_servers import without_aws
from support.course import AWS_CLI
from support.servers import ROOT, need, until

LOCK = "day02/terraform.tfstate.tflock"
PAGE = ROOT / "docs" / "runbook.md"
PROGRAMS = (".venv/bin/s3api", "aws", "chronyc", "curl", "docker", "make", "terraform")
_COMMAND = re.compile(rf"(?:[A-Z][A-Z0-9_]*=\S+ )*(?:{'|'.join(map(re.escape, PROGRAMS))}) ")

#: Targets of make, and the test that runs each on emulated AWS or on this machine.
TESTS_OF_TARGETS = {
    "bucket": "tests/deploy/test_authorization.py::test_the_buckets_policy_makes_buckets_and_reads_no_file",
    "deploy": "tests/deploy/test_stack.py::test_an_interrupted_destroy_can_be_deployed_again",
    "destroy": "tests/deploy/test_rehearsal.py::test_destroy_removes_it",
    "down": "tests/container/test_compose.py::test_down_takes_all",
    "logs": "tests/deploy/test_stack.py::test_url_and_logs_say_what_scripts_read",
    "plan": "tests/deploy/test_stack.py::test_status_and_plan_say_what_runs_and_change_nothing",
    "purge": "tests/service/test_purge.py::test_everything_of_an_environment_is_removed",
    "rehearse": "tests/deploy/test_rehearsal.py::test_a_second_plan_is_empty",
    "run": "tests/service/test_lifecycle.py::test_make_run_keeps_the_data_and_stops_all_it_started",
    "status": "tests/deploy/test_stack.py::test_status_and_plan_say_what_runs_and_change_nothing",
    "unlock": "tests/deploy/test_runbook.py::test_a_lock_that_was_left_is_released",
    "up": "tests/container/test_compose.py::test_persistent_profile",
    "url": "tests/deploy/test_stack.py::test_url_and_logs_say_what_scripts_read",
}
#: Commands that no test runs as they are, and why.
NOT_SUPPORTED = {
    "make refresh ENV=…": "not supported by the emulated AWS, because its instances are only records",
    "chronyc tracking": "not supported by the emulated AWS, because it has no host with a clock of its own",
    "docker image rm s3api:local": "not of AWS; it would remove the image that other tests use",
    "aws wafv2 list-available-managed-rule-group-versions --region eu-west-1 --scope REGIONAL "
    "--vendor-name AWS --name AWSManagedRulesKnownBadInputsRuleSet": "not supported by the emulated AWS: "
    "tests/deploy/test_decisions.py::test_the_firewalls_rules_must_be_offered reads an answer of AWS",
    "aws logs filter-log-events --region eu-west-1 --log-group-name aws-waf-logs-day02-prod "
    "--query 'events[].message' --output text": "not supported by day02, which has no firewall; the log of "
    "the tasks is read by the same command",
    ".venv/bin/s3api doctor": "runs in a task: "
    "tests/deploy/test_stack.py::test_the_doctor_is_well_inside_a_task",
}


def commands() -> list[str]:
    """Every command of the page: the lines of its shell blocks, and code in its text that begins like one."""
    page = PAGE.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    text = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    lines += [code for code in re.findall(r"`([^`\n]+)`", text) if _COMMAND.match(code)]
    return list(dict.fromkeys(" ".join(line.split()) for line in lines))


def words(command: str) -> list[str]:
    """The words of the command, without the variables before it."""
    found = shlex.split(command)
    return found[next(number for number, word in enumerate(found) if word in PROGRAMS) :]


OF_MAKE = [command for command in commands() if words(command)[0] == "make" and command not in NOT_SUPPORTED]
OF_SHELL = [command for command in commands() if command not in {*OF_MAKE, *NOT_SUPPORTED}]


def test_the_page_has_every_listed_command() -> None:
    """The lists have no command that the page no longer has, and every target has a test that exists."""
    targets = {words(command)[1] for command in OF_MAKE}

    assert set(NOT_SUPPORTED) <= set(commands())
    assert set(TESTS_OF_TARGETS) == targets
    for named in [*TESTS_OF_TARGETS.values(), NOT_SUPPORTED[".venv/bin/s3api doctor"].split(": ")[1]]:
        file, _, test = named.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(), named
    assert len(OF_SHELL) >= 7


@pytest.mark.parametrize("command", OF_MAKE)
def test_a_command_of_make_has_a_target_and_variables(command: str) -> None:
    """`make` knows the target, and something reads each variable."""
    _, target, *variables = words(command)
    before = shlex.split(command)[: -len(words(command))]
    readers = [ROOT / "Makefile", *(ROOT / "services" / "deploy").glob("*.py")]
    read = "".join(path.read_text() for path in readers)

    done = subprocess.run(
        ["make", "--dry-run", target, *variables], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    for variable in [*variables, *before]:
        name, given, _ = variable.partition("=")
        assert given
        assert re.search(rf"\b{name}\b", read), variable


def run(command: str, stack: Environment, directory: Path) -> str:
    """What the command prints for day02. It must succeed."""
    assert stack.emulated is not None
    done = subprocess.run(
        ["sh", "-euc", command.replace("day02-prod", "day02")],
        cwd=ROOT,
        env={
            **without_aws(os.environ),
            **stack.aws_variables,
            **root_key(stack.emulated),
            "PATH": os.pathsep.join((str(AWS_CLI), os.environ["PATH"])),
            "AWS_PAGER": "",
            "AWS_CONFIG_FILE": str(directory / "aws_config"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def lock_the_state(aws: Environment) -> str:
    """Lock the state of the stack, as an interrupted deployment leaves it. Return the id of the lock."""
    lock = {
        "ID": str(uuid.uuid4()),
        "Operation": "OperationTypeApply",
        "Info": "",
        "Who": "test@interrupted",
        "Version": "1.11.0",
        "Created": "2026-11-26T00:00:00Z",
        "Path": f"{aws.state_bucket}/day02/terraform.tfstate",
    }
    aws.client("s3").put_object(Bucket=aws.state_bucket, Key=LOCK, Body=json.dumps(lock))
    return lock["ID"]


def test_a_lock_that_was_left_is_released(aws: Environment, stack: Environment) -> None:
    """The failure names the command that releases the lock; without the id, the command names where it is."""
    lock, another = lock_the_state(aws), Stack(stack, Quiet())
    another.init()
    with pytest.raises(Failed) as locked:
        another.plan_is_empty(NO_IMAGE)
    with pytest.raises(Failed, match="LOCK has no value"):
        commands_of_make.unlock(stack, Quiet(), {})
    commands_of_make.unlock(stack, Quiet(), {"LOCK": lock})

    assert f"make unlock ENV=local LOCK={lock}" in locked.value.then
    with pytest.raises(ClientError, match="404"):
        aws.client("s3").head_object(Bucket=aws.state_bucket, Key=LOCK)


def test_the_commands_run_on_the_stack(
    aws: Environment, stack: Environment, api: str, tmp_path: Path
) -> None:
    """Each does what the page says, with the real AWS command line.

    Only what the page leaves open is filled in.
    """
    need((AWS_CLI / "aws").exists(), f"{AWS_CLI} has no AWS command line: `make test` installs it")
    service = Service(stack, "day02", "day02")
    before = service.describe()
    assert before is not None
    used: list[str] = []

    def using(part: str, placeholder: str = "", value: str = "") -> str:
        """The output of the only command with this part, with a value for its placeholder."""
        [command] = [command for command in OF_SHELL if part in command]
        used.append(command)
        assert placeholder in command
        return run(command.replace(placeholder, value) if placeholder else command, stack, tmp_path)

    request = requests.get(f"{api}/files/missing", timeout=30).headers["X-Request-Id"]
    until(
        lambda: request in using("filter-log-events", "<request id>", request), "the request in the log", 60
    )
    [events] = json.loads(using("describe-services"))
    healthy = using("curl -i", "…", api)

    entry = json.loads(using("token new").splitlines()[-1])
    using("ssm put-parameter", "[…]", json.dumps([entry]))
    stored = json.loads(using("ssm get-parameter"))
    aws.client("ssm").delete_parameter(Name="/day02/api_tokens")

    using("--force-new-deployment")
    restarted = service.describe()
    service.wait_until_completed(before["taskDefinition"], "/ecs/day02", Quiet())

    assert len(events) <= 5
    assert healthy.startswith("HTTP/1.1 200")
    assert stored == [entry]
    assert restarted is not None
    assert len(restarted["deployments"]) == 2
    assert set(used) == set(OF_SHELL)
