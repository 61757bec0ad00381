"""Decisions of the deployment that need no AWS: environments, error messages, settings of buckets."""

from __future__ import annotations

import ast
import base64
import json
import os
import pty
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.error import HTTPError, URLError

import pytest

from deploy import __main__ as command_line
from deploy import commands, destroy_steps, iam_policies, preflight, prepare, terraform_variables
from deploy.commands import REGISTRY, address
from deploy.environments import CHECKOUT, ROOTS, EmulatedAws, Environment, environment
from deploy.image import _follow, build, commit_of, push, revision
from deploy.service import Service
from deploy.smoke import Balancer, Unreachable, curl, smoke, through
from deploy.stack import Stack, failure_of, managed
from deploy.steps import Failed, Reporter, explain
from s3api import bucket
from support.certificates import make_certificate
from support.faulty_s3 import AnswerError, Asked, FaultyS3, running_faulty_s3
from support.servers import S3

# --- what is printed

HOSTILE = "a\x1b]52;c;ZXZpbA==\x07\x9b31m\u202eb\u2028c\x7f\r\nnext"
ESCAPED = b"a\\x1b]52;c;ZXZpbA==\\x07\\x9b31m\\u202eb\\u2028c\\x7f\nnext\n"


def printed(function: str, *, terminal: bool) -> bytes:
    """The output of a function of the deployment for hostile text, on a terminal or into a pipe."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    script = f"import sys; from deploy.steps import *; {function}"
    subprocess.run(
        [sys.executable, "-c", script, HOSTILE],
        env={"PYTHONPATH": f"{CHECKOUT}/services", "LANG": "C.UTF-8"},
        stdout=writer,
        stderr=writer,
        check=True,
    )
    said = os.read(reader, 65536)  # small enough to arrive in one read
    os.close(writer)
    os.close(reader)
    return said.replace(b"\r\n", b"\n") if terminal else said


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "function",
    [
        "Reporter().line(sys.argv[1])",
        "Reporter().line(explain(Failed(sys.argv[1])).removeprefix('✗ deploy: '))",
        "Reporter().say(sys.argv[1])",
    ],
)
def test_what_a_step_says_cannot_control_a_terminal(function: str, terminal: bool) -> None:
    """Text from AWS, Terraform, the engine and tasks is printed with escaped control characters, by line."""
    assert printed(function, terminal=terminal).lstrip(b" ") == ESCAPED


def test_an_answer_is_escaped_for_a_terminal_alone() -> None:
    """`make logs` and `make url` print unchanged text into a pipe, and escaped text on a terminal."""
    assert printed("answer(sys.argv[1])", terminal=True) == ESCAPED
    assert printed("answer(sys.argv[1])", terminal=False) == f"{HOSTILE}\n".encode()


def test_clients_of_one_emulated_aws_share_a_session() -> None:
    """A loop that asks the emulated AWS does not parse the descriptions of its services again each time."""
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEMULATED", "AWS_SECRET_ACCESS_KEY": "secret"}
    emulated = Environment("local", "day02-x", "", emulated=EmulatedAws(), credentials=keys)

    assert emulated.session() is replace(emulated, account="1").session()
    assert (
        emulated.session()
        is not replace(emulated, credentials={**keys, "AWS_ACCESS_KEY_ID": "AKIA"}).session()
    )


def test_a_client_of_the_emulated_aws_is_made_once() -> None:
    """One client serves the same session. An S3 client that checks the account is another one."""
    emulated = Environment("local", "day02-x", "", emulated=EmulatedAws(), credentials={})

    assert emulated.client("ecs") is replace(emulated, account="1").client("ecs")
    assert emulated.client("ecs") is not emulated.client("ecs", "us-east-1")
    assert emulated.client("s3") is not replace(emulated, account="1").client("s3")


def test_nothing_is_printed_in_another_way() -> None:
    """Only the two functions that escape text call `print`."""
    printing = re.compile(r"\bprint\(|\bstd(?:out|err)\.write\(")
    found = {
        path.name: len(printing.findall(path.read_text()))
        for path in (CHECKOUT / "services/deploy").glob("*.py")
    }

    assert {name: count for name, count in found.items() if count} == {"steps.py": 2}


# --- environments


@pytest.mark.parametrize("name", ROOTS)
def test_names_are_those_of_the_environment(name: str) -> None:
    """The project and the parameters of the tasks are the same as in the root's main.tf."""
    text = (environment(name, {}).root / "main.tf").read_text()
    service = text.split('module "service"', 1)[1].split("\nmodule", 1)[0]
    secrets = service.split("secrets = {", 1)[1].split("\n  }", 1)[0]
    where = environment(name, {})

    assert re.findall(r"\n\s+name\s+= (\S+)", service) == ["var.name"]
    assert where.project == {"local": "day02", "day02": "day02", "prod": "day02-prod"}[name]
    assert {
        variable: parameter.replace("${var.name}", where.project)
        for variable, parameter in re.findall(r'(\w+)\s+= "([^"]+)"', secrets)
    } == where.secrets


@pytest.mark.parametrize("name", ROOTS)
def test_the_registry_comes_first(name: str) -> None:
    """The target of the first apply is a module of every root."""
    main = (environment(name, {}).root / "main.tf").read_text()
    modules = re.findall(r'^module "(\w+)"', main, re.MULTILINE)

    assert REGISTRY in {f"module.{module}" for module in modules}


def test_buckets_are_named_after_the_account() -> None:
    """The default names of the buckets contain the account's number and are allowed by the policy."""
    named = environment("prod", {}).with_account("123456789012")

    assert named.bucket == "day02-prod-123456789012"
    assert named.state_bucket == "day02-prod-123456789012-tfstate"


def test_what_an_operator_says_wins() -> None:
    """The operator can set BUCKET, STATE_BUCKET and the ports of the local environment."""
    day02 = environment("day02", {"BUCKET": "day02-mine", "STATE_BUCKET": "day02-mine-tfstate"})
    local = environment("local", {"PORT": "5050", "AWS_PORT": "4577"})

    assert day02.with_account("1").bucket == "day02-mine"
    assert day02.with_account("1").state_bucket == "day02-mine-tfstate"
    assert local.emulated is not None
    assert (local.emulated.api_port, local.emulated.aws_port) == (5050, 4577)
    assert address(local, "http://elsewhere:5000") == "http://127.0.0.1:5050"
    assert address(day02, "http://balancer:5000") == "http://balancer:5000"


@pytest.mark.parametrize(
    ("name", "variables", "says"),
    [
        ("staging", {}, "local, day02, prod"),
        ("day02", {"BUCKET": "files"}, "BUCKET=day02-"),
        ("day02", {"STATE_BUCKET": "acme-tfstate"}, "STATE_BUCKET=day02-…-tfstate"),
        ("day02", {"STATE_BUCKET": "day02-state"}, "STATE_BUCKET=day02-…-tfstate"),
        ("local", {"PORT": "http"}, "PORT="),
        ("local", {"AWS_PORT": "70000"}, "AWS_PORT="),
    ],
)
def test_what_cannot_be_is_said_at_once(name: str, variables: dict[str, str], says: str) -> None:
    """A wrong environment, bucket or port fails before any step, with a hint."""
    with pytest.raises(Failed) as failed:
        environment(name, variables)

    assert says in failed.value.then


@pytest.mark.parametrize("name", ["day02", "prod"])
def test_aws_is_reached_with_the_operators_own_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For AWS, boto3 and Terraform get no endpoint and no key, so both use the operator's configuration."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOPERATOR")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    where = environment(name, {}).with_account("123456789012")

    client = where.client("ecs")
    terraform = Stack(where, Reporter())._environment()

    assert client.meta.endpoint_url == "https://ecs.eu-west-1.amazonaws.com"
    assert client._request_signer._credentials.access_key == "AKIAOPERATOR"
    assert terraform["AWS_ACCESS_KEY_ID"] == "AKIAOPERATOR"
    assert not any(variable.startswith("TF_VAR_") for variable in terraform)
    assert Stack(where, Reporter())._variables("sha256:0") == {
        "image": "sha256:0",
        "data_bucket_name": where.bucket,
    }


def test_the_local_environment_never_has_a_real_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For `local`, neither boto3 nor Terraform ever gets the operator's key, endpoint or profile."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_PROFILE", "real")
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", "https://ecs.eu-west-1.amazonaws.com")
    local = Environment(
        "local",
        "day02-x",
        "",
        work=tmp_path,
        emulated=EmulatedAws(),
        credentials={"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"},
    )

    terraform = Stack(local, Reporter())._environment()

    assert {name: value for name, value in terraform.items() if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    assert local.client("s3")._request_signer._credentials.access_key == "k"


# --- failures


def test_a_missing_permission_is_named() -> None:
    """The denied action is taken from Terraform's error, and the message names the policy file."""
    said = (
        "operation error ECS: CreateCluster, api error AccessDeniedException: User: arn:aws:iam::1:user/d is "
        "not authorized to perform: ecs:CreateCluster because no identity-based policy allows the action"
    )

    failed = failure_of("terraform apply", [said, said], "make unlock ENV=day02")

    assert failed.why == "terraform apply: the deployer may not ecs:CreateCluster"
    assert "services/deploy/iam" in failed.then


@pytest.mark.parametrize(
    ("said", "then"),
    [
        ("Error acquiring the state lock", "make unlock ENV=prod LOCK=<id>"),
        ("Error acquiring the state lock\n  ID:   0-1\n", "make unlock ENV=prod LOCK=0-1"),
        (
            'No value for required variable The root module input variable "billing_email" is not set',
            "10_terraform.auto.tfvars",
        ),
        ("something else", "run the same command again"),
        ("OperationNotPermitted: does not support creating load balancers", "AWS Support"),
    ],
)
def test_other_failures_say_what_to_do(said: str, then: str) -> None:
    """A lock, a missing variable and any other error give a hint about what to do."""
    assert then in failure_of("terraform plan", [said], "make unlock ENV=prod").then


def test_a_failure_names_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure prints the step, the reason and the remedy, in this order."""
    report = Reporter()

    with pytest.raises(Failed) as failed, report.step("push"):
        raise Failed("the registry is away", "Try again")

    assert explain(failed.value) == "✗ push: the registry is away\n  Try again"
    assert "▸ push" in capsys.readouterr().err


def test_a_failure_exits_non_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with status 1 and prints the failure only on standard error."""
    status = command_line.main(["url", "--env", "nowhere"])

    out, err = capsys.readouterr()
    assert status == 1
    assert "there is no environment 'nowhere'" in err
    assert out == ""


def test_an_error_during_a_push_is_one() -> None:
    """A push fails if the engine reports a refusal as an event in a stream that ends normally."""
    with pytest.raises(Failed, match="denied"):
        _follow([{"status": "Preparing"}, {"error": "denied: no"}], Reporter())

    assert (
        _follow([{"status": "Pushed", "id": "a"}, {"aux": {"Digest": "sha256:1"}}], Reporter()) == "sha256:1"
    )


class Registry:
    """ECR and an engine, of which a push stores an image under `stored` and sends `events`."""

    def __init__(self, stored: str, events: list[dict[str, Any]]) -> None:
        self.stored = ""
        self._pushed = stored
        self._events = events
        self.api = self.images = self
        self.labels = {"org.opencontainers.image.revision": "0123abc"}
        self.tags: list[str] = []

    def client(self, _: str) -> Any:
        return self

    def get_authorization_token(self) -> dict[str, Any]:
        return {"authorizationData": [{"authorizationToken": base64.b64encode(b"AWS:x").decode()}]}

    def describe_images(self, **_: object) -> dict[str, Any]:
        detail = {"imageDigest": self.stored, "imageTags": ["latest", *self.tags]}
        return {"imageDetails": [detail] if self.stored else []}

    def get(self, _: str) -> Any:
        return self

    def tag(self, _: str, tag: str) -> None:
        self.tags.append(tag)

    def push(self, *_: object, **__: object) -> list[dict[str, Any]]:
        self.stored = self._pushed
        return self._events


@pytest.mark.parametrize(
    ("stored", "events", "reference"),
    [
        # Engine 29 uses containerd's image store, and sends no digest: github.com/moby/moby/issues/48331.
        ("sha256:1", [{"status": "Pushed", "id": "a"}], "repo/day02@sha256:1"),
        ("sha256:1", [{"aux": {"Digest": "sha256:1"}}], "repo/day02@sha256:1"),
        ("sha256:1", [{"aux": {"Digest": "sha256:2"}}], None),
        ("", [{"status": "Pushed", "id": "a"}], None),
    ],
    ids=["containerd", "classic", "another-image", "nothing-stored"],
)
def test_the_registry_says_which_digest_it_has(
    stored: str, events: list[dict[str, Any]], reference: str | None
) -> None:
    """The reference has the digest in ECR; a push that ECR does not confirm fails."""
    registry: Any = Registry(stored, events)

    if reference:
        assert push(registry, registry, "sha256:" + "a" * 64, "repo/day02", Reporter()) == reference
    else:
        with pytest.raises(Failed, match="the registry has"):
            push(registry, registry, "sha256:" + "a" * 64, "repo/day02", Reporter())


def test_the_commit_of_an_image_is_known_by_its_tag() -> None:
    """The tag has the commit of the image. `make status` reads it for the image that runs."""
    registry: Any = Registry("sha256:1", [])

    reference = push(registry, registry, "sha256:" + "a" * 64, "repo/day02", Reporter())

    assert registry.tags == ["0123abc-" + "a" * 16]
    assert commit_of(registry, reference) == "0123abc"
    registry.tags = ["a" * 16]  # as tags were before they had the commit
    assert commit_of(registry, reference) == "unknown"


def test_values_of_variables_do_not_change_the_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's file in envs is not in the image; a change of the code is named."""
    monkeypatch.setattr("deploy.image.CHECKOUT", tmp_path)
    git = [
        "git",
        "-C",
        str(tmp_path),
        "-c",
        "commit.gpgsign=false",
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@example.com",
    ]
    for name in ("envs/day02/10.tfvars", "code.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)

    commit = revision()
    (tmp_path / "envs/day02/10.tfvars").write_text("2")
    with_values = revision()
    (tmp_path / "code.py").write_text("2")

    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert with_values == commit
    assert revision() == f"{commit}-dirty"


class Builder:
    """An engine that builds images of one architecture, whichever one is asked for."""

    def __init__(self, architecture: str) -> None:
        self.api = self.images = self
        self.id = "sha256:1"
        self.attrs = {"Architecture": architecture}
        self.asked: str | None = ""

    def build(self, *, platform: str | None, **_: object) -> list[dict[str, Any]]:
        self.asked = platform
        return []

    def get(self, _: str) -> Any:
        return self


def test_an_image_is_built_for_the_instances() -> None:
    """On AWS the image is for x86-64, on every machine. One for another architecture is never pushed.

    The build of docker.io before BuildKit uses the base image that it has, whatever its platform.
    """
    intel: Any = Builder("amd64")
    apple: Any = Builder("arm64")
    day02, local = environment("day02", {}), environment("local", {})

    assert build(intel, Reporter(), "x", architecture=day02.architecture) == "sha256:1"
    assert intel.asked == "linux/amd64"
    assert build(apple, Reporter(), "x", architecture=local.architecture) == "sha256:1"
    assert apple.asked is None
    with pytest.raises(Failed, match="for arm64, and the instances are amd64"):
        build(apple, Reporter(), "x", architecture=day02.architecture)


def test_one_variable_selects_the_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With architecture = "arm64" the image is built for arm64, and one for x86-64 is never pushed."""
    root = a_root(tmp_path, "")
    file = root / terraform_variables.FILE
    file.write_text(file.read_text().replace('"x86_64"', '"arm64"').replace("t2.micro", "t4g.micro"))
    monkeypatch.setattr(Environment, "root", root)
    arm64 = Environment("day02", "", "").architecture
    apple: Any = Builder("arm64")

    build(apple, Reporter(), "x", architecture=arm64)

    assert apple.asked == "linux/arm64"
    with pytest.raises(Failed, match="for amd64, and the instances are arm64"):
        build(cast("Any", Builder("amd64")), Reporter(), "x", architecture=arm64)


class Stopped(Service):
    """A service whose descriptions follow each other; the last one stays. It notes what is asked of it."""

    def __init__(self, *services: dict[str, Any] | None) -> None:
        self.environment = environment("day02", {})
        self.cluster = self.name = "day02"
        self._services = list(services)
        self._ecs = self
        self.asked: list[dict[str, Any]] = []

    def describe(self) -> dict[str, Any] | None:
        return self._services.pop(0) if len(self._services) > 1 else self._services[0]

    def causes(self, *_: object) -> list[str]:
        return ["the cause"]

    def update_service(self, **asked: Any) -> None:
        self.asked.append({name: asked[name] for name in asked if name not in {"cluster", "service"}})


def deployment(number: int, state: str, *, status: str = "PRIMARY") -> dict[str, Any]:
    return {
        "id": f"ecs-svc/{number}",
        "status": status,
        "taskDefinition": f"arn/day02:{number}",
        "rolloutState": state,
    }


def described(*deployments: dict[str, Any], count: int = 2) -> dict[str, Any]:
    """A service that runs the task definition of its primary deployment, the first one."""
    return {
        "taskDefinition": deployments[0]["taskDefinition"],
        "deployments": list(deployments),
        "desiredCount": count,
        "runningCount": count,
        "pendingCount": 0,
        "events": [],
    }


def test_what_runs_is_compared_with_what_was_asked_for() -> None:
    """A deployment succeeds only if the requested task definition is the one that ECS works towards."""
    failed = deployment(2, "FAILED", status="ACTIVE")
    Stopped(described(deployment(2, "COMPLETED"))).wait_until_completed("arn/day02:2", "", Reporter())

    with pytest.raises(Failed, match=r"rolled back: day02:2 was requested, day02:1 runs\n    the cause"):
        Stopped(described(deployment(1, "COMPLETED"))).wait_until_completed("arn/day02:2", "", Reporter())
    with pytest.raises(Failed, match="rolled back"):
        Stopped(described(deployment(1, "IN_PROGRESS"), failed)).wait_until_completed(
            "arn/day02:2", "", Reporter()
        )


def test_a_deployment_is_awaited_until_ecs_has_completed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """ECS watches the alarms after the tasks are healthy, and can roll back until the rollout is COMPLETED.

    Source: docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
    """
    monkeypatch.setattr("deploy.service.PAUSE", 0)
    in_progress = described(deployment(2, "IN_PROGRESS"))
    completed = Stopped(in_progress, in_progress, described(deployment(2, "COMPLETED")))
    alarmed = Stopped(
        in_progress, described(deployment(1, "IN_PROGRESS"), deployment(2, "FAILED", status="ACTIVE"))
    )

    completed.wait_until_completed("arn/day02:2", "", Reporter())

    assert len(completed._services) == 1
    with pytest.raises(Failed, match="rolled back"):
        alarmed.wait_until_completed("arn/day02:2", "", Reporter())


def test_a_first_deployment_that_failed_ends_the_apply() -> None:
    """A new deployment that stays the primary one and FAILED has nothing to return to.

    An earlier failure is ignored: the apply corrects it. Source:
    docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
    """
    failed = described(deployment(1, "FAILED"))
    watch = Stopped(None, None, described(deployment(1, "IN_PROGRESS")), failed).watch("")

    assert [watch(), watch()] == [None, None]
    failure = watch()
    assert failure is not None
    assert "no earlier one to return to\n    the cause" in failure.why
    assert Stopped(failed).watch("")() is None


def test_the_previous_task_definition_is_brought_back() -> None:
    """After a failed smoke test the previous task definition is deployed again, if there was one."""
    service = Stopped(described(deployment(2, "COMPLETED")), described(deployment(1, "COMPLETED")))

    assert service.bring_back("arn/day02:1", "", Reporter()) == "The previous tasks serve again: day02:1"
    assert service.asked == [{"taskDefinition": "arn/day02:1"}]
    assert "no earlier deployment" in service.bring_back(None, "", Reporter())


def test_only_a_completed_deployment_can_be_returned_to() -> None:
    """A deployment that is in progress, or has no tasks, is never the one to return to."""
    assert Stopped(described(deployment(1, "COMPLETED"))).completed() == "arn/day02:1"
    assert Stopped(described(deployment(1, "IN_PROGRESS"))).completed() is None
    assert Stopped(described(deployment(1, "COMPLETED"), count=0)).completed() is None
    assert Stopped(None).completed() is None


def test_an_interrupted_destroy_leaves_no_service_without_tasks() -> None:
    """A service with fewer tasks than the minimum gets the minimum; one with more keeps them."""
    destroyed, scaled = (
        Stopped(described(deployment(1, "COMPLETED"), count=0)),
        Stopped(described(deployment(1, "COMPLETED"), count=4)),
    )

    destroyed.restore(2, Reporter())
    scaled.restore(2, Reporter())

    assert destroyed.asked == [{"desiredCount": 2}]
    assert scaled.asked == []


def test_scaling_that_raises_the_count_does_not_stop_a_destroy() -> None:
    """Automatic scaling may set the count to its minimum again while the tasks stop."""
    service = Stopped(
        described(deployment(1, "COMPLETED")),
        described(deployment(1, "COMPLETED")),
        described(deployment(1, "COMPLETED"), count=0),
    )
    service.scale_to_zero(Reporter())

    assert service.asked == [{"desiredCount": 0}] * 2


def test_a_connection_that_cannot_be_made_blames_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A security group drops packets from an address that allowed_cidrs does not contain.

    A task that answers, even with an error, can be reached.
    """
    monkeypatch.setattr("deploy.smoke.ANSWERS_WITHIN", 0)

    class Opener:
        def __init__(self, error: OSError) -> None:
            self.error = error

        def open(self, _url: str, **_: object) -> Any:
            raise self.error

    dropped, answered = URLError(TimeoutError()), HTTPError("", 500, "", Message(), None)
    for error, kind in ((dropped, Unreachable), (answered, Failed)):
        monkeypatch.setattr("deploy.smoke.through", lambda _balancer, error=error: Opener(error))
        with pytest.raises(Failed) as failed:
            smoke("http://files.example.com", None, Reporter())
        assert type(failed.value) is kind


@pytest.mark.terraform
def test_an_interrupted_apply_keeps_its_state_and_releases_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that the watch returns ends the apply, and the next one carries on without an unlock."""
    (tmp_path / "main.tf").write_text(
        """
        variable "image" {}
        variable "data_bucket_name" {}
        resource "terraform_data" "first" {}
        resource "terraform_data" "slow" {
          depends_on = [terraform_data.first]
          provisioner "local-exec" { command = "exec sleep ${var.image}" }
        }
        """
    )
    monkeypatch.setattr(Environment, "root", tmp_path)
    stack = Stack(Environment("day02", "day02-x", ""), Reporter())
    stack._run("init", "-input=false")

    with pytest.raises(Failed, match="the tasks die"):
        stack.apply("600", watch=lambda: Failed("the tasks die"))

    assert "terraform_data.first" in stack._run("state", "list")
    assert stack.apply("0")


@pytest.mark.terraform
def test_the_outputs_are_those_of_the_last_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apply, a destroy and `terraform show` tell the outputs, as `terraform output` does."""
    (tmp_path / "main.tf").write_text(
        """
        variable "image" {}
        variable "data_bucket_name" {}
        resource "terraform_data" "this" { input = var.image }
        output "image" { value = terraform_data.this.output }
        output "nothing" { value = terraform_data.this.id == "" ? "x" : null }
        """
    )
    monkeypatch.setattr(Environment, "root", tmp_path)
    environment = Environment("day02", "day02-x", "")
    stack = Stack(environment, Reporter())
    stack._run("init", "-input=false")

    def told() -> dict[str, Any]:
        asked = Stack(environment, Reporter())
        assert asked.outputs() == stack.outputs()
        return stack.outputs()

    assert told() == {}
    stack.apply("first")
    assert told() == {"image": "first"}
    stack.apply("second")
    assert told() == {"image": "second"}
    shown = Stack(environment, Reporter())
    assert [resource.type for resource in shown.resources()] == ["terraform_data"]
    assert shown.outputs() == {"image": "second"}
    stack.destroy()
    assert told() == {}


@pytest.mark.terraform
def test_the_addresses_are_those_of_managed_resources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `terraform show`, without data sources, and there are none before the first apply."""
    (tmp_path / "other.tfstate").write_text('{"version": 4, "serial": 1, "lineage": "other"}')
    source = """
        data "terraform_remote_state" "other" {
          backend = "local"
          config  = { path = "other.tfstate" }
        }
        """
    module = tmp_path / "module"
    module.mkdir()
    (module / "main.tf").write_text(f'resource "terraform_data" "data" {{}}\n{source}')
    (tmp_path / "main.tf").write_text(
        """
        variable "image" {}
        variable "data_bucket_name" {}
        resource "terraform_data" "this" { for_each = toset(["a.data.b", "[x]"]) }
        module "data" {
          for_each = toset(["data.c"])
          source   = "./module"
        }
        """
        + source
    )
    monkeypatch.setattr(Environment, "root", tmp_path)
    stack = Stack(Environment("day02", "day02-x", ""), Reporter())
    stack._run("init", "-input=false")

    assert stack.addresses() == set()
    stack.apply("first")
    expected = {
        'terraform_data.this["a.data.b"]',
        'terraform_data.this["[x]"]',
        'module.data["data.c"].terraform_data.data',
    }
    assert stack.addresses() == expected
    shown = json.loads(stack._run("show", "-json"))["values"]["root_module"]
    assert {entry["address"] for entry in managed(shown)} == expected


# --- variables


def a_root(directory: Path, assigned: str) -> Path:
    """A copy of day02's variables with other values."""
    shutil.copy(CHECKOUT / "envs/day02/variables.tf", directory)
    values = (CHECKOUT / "envs/day02/10_terraform.auto.tfvars").read_text()
    (directory / terraform_variables.FILE).write_text(values + assigned)
    return directory


def test_another_region_and_project_need_only_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region, names and bucket are those in 10_terraform.auto.tfvars, for boto3 and for the state."""
    root = a_root(tmp_path, 'data_bucket_name = "acme-files"\n')
    file = root / terraform_variables.FILE
    text = file.read_text().replace("eu-west-1", "eu-central-1").replace('= "day02"', '= "acme"')
    file.write_text(text)
    monkeypatch.setattr(Environment, "root", root)
    where = Environment("day02", "", "").with_account("123456789012")

    assert where.client("ecs").meta.endpoint_url == "https://ecs.eu-central-1.amazonaws.com"
    assert where.bucket == "acme-files"
    assert where.state_bucket == "acme-123456789012-tfstate"
    assert where.secrets == {"SIGNING_KEY": "/acme/signing_key"}
    assert where.project_tag == "acme"


def test_the_policies_of_a_deployer_have_the_names_in_the_file() -> None:
    """With another project, role and topic, no policy names those of the course."""
    values = {
        "project_name": "acme",
        "task_role_name": "acme-files",
        "billing_topic_name": "AcmeBilling",
    }

    text = "".join(iam_policies.documents(values).values())

    assert not re.findall(r"day02|s3_access|BillingAlarm|<\w+>", text)
    assert '"aws:RequestTag/project_name": "acme"' in text
    assert '"arn:aws:s3:::acme*-tfstate/*"' in text
    assert '"arn:aws:iam::*:role/acme-files"' in text
    assert '"arn:aws:sns:*:*:AcmeBilling*"' in text


def test_a_deployer_changes_records_of_one_zone() -> None:
    """The policies name the zone of the API's name. Without a zone they allow none."""
    values = {"project_name": "day02", "task_role_name": "s3_access", "billing_topic_name": "BillingAlarm"}

    def zones(**more: str) -> set[str]:
        text = iam_policies.documents({**values, **more})["deployer-operations"]
        return set(re.findall(r"hostedzone/([^\"]+)", text))

    assert zones(zone_id="Z0123456789ABCDEFGHIJ") == {"Z0123456789ABCDEFGHIJ"}
    assert zones() == {"ZONE_ID"}


# Names of roots and of things on this machine. They do not depend on the project.
NAMES_ON_THIS_MACHINE = {"day02", "prod", "day02-aws", "day02-aws:local", "day02-aws-rehearsal-"}


def test_only_the_files_of_variables_name_the_project() -> None:
    """No text in the code of the deployment names the project, its region, role or topic."""
    found = set()
    for path in (CHECKOUT / "services/deploy").glob("*.py"):
        tree = ast.parse(path.read_text())
        prose = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and isinstance(node.body[0], ast.Expr)
        }
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
            if re.search(r"day02|eu-west-1|s3_access|BillingAlarm", node.value)
        }

    hints = {"make rehearse ENV=prod, or ENV=day02"}
    prices_of = {"eu-west-1"}  # deploy.prices, and the default of an emulated AWS without a root
    assert found - NAMES_ON_THIS_MACHINE - hints == prices_of


def test_only_the_files_of_variables_name_the_project_for_terraform() -> None:
    """No argument in a module or a root names the project. The tag and the state have the root's name."""
    for path in (*CHECKOUT.glob("modules/*/*.tf"), *CHECKOUT.glob("envs/*/*.tf")):
        code = re.sub(r"#.*|^\s*description *=.*", "", path.read_text(), flags=re.MULTILINE)
        root = path.parent.name
        code = code.replace(f'environment = "{root}"', "").replace(f'"{root}/terraform.tfstate"', "")
        assert re.findall(r"day02|eu-west-1|s3_access|BillingAlarm", code) == [], path


@pytest.mark.parametrize(
    ("assigned", "says"),
    [("", "billing_email"), ('billing_email = "owner"', "must be an e-mail address")],
    ids=["missing", "wrong"],
)
def test_a_variable_is_checked_before_the_image_is_built(tmp_path: Path, assigned: str, says: str) -> None:
    """A missing or wrong address fails without a provider, a backend or AWS, and names the file."""
    root = a_root(tmp_path, assigned)

    with pytest.raises(Failed, match=says) as failed:
        terraform_variables.check(root, {"image": "sha256:0"}, os.environ)

    assert terraform_variables.FILE in failed.value.then


def test_valid_variables_pass(tmp_path: Path) -> None:
    """The check accepts values that the root accepts."""
    root = a_root(tmp_path, 'billing_email = "owner@example.com"')

    terraform_variables.check(root, {"image": "sha256:0"}, os.environ)


# --- destroy


class Answers:
    """An environment whose AWS gives recorded answers, in the form of botocore."""

    def __init__(self, name: str, **answers: Callable[..., Any]) -> None:
        self._where = environment(name, {}).with_account("123456789012")
        self._answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._where, name)

    def client(self, service: str, region: str | None = None) -> Any:
        client = self._where.client(service, region)
        answers = self._answers

        def answer(model: Any, **_: object) -> tuple[Any, Any] | None:
            given = answers[model.name]()
            if isinstance(given, str):
                return SimpleNamespace(status_code=400), {"Error": {"Code": given, "Message": given}}
            return SimpleNamespace(status_code=200), given

        def keep(params: dict[str, Any], model: Any, **_: object) -> None:
            self.asked.append((model.name, params))

        client.meta.events.register("provide-client-params", keep)
        client.meta.events.register("before-call", answer)
        return client


@pytest.mark.parametrize(
    ("variables", "then"),
    [
        ({}, "CONFIRM=day02-prod"),
        ({"CONFIRM": "yes", "IMAGES": "keep"}, "CONFIRM=day02-prod"),
        ({"CONFIRM": "day02-prod"}, "IMAGES=keep"),
        ({"CONFIRM": "day02-prod", "IMAGES": "some"}, "IMAGES=keep"),
    ],
)
def test_production_is_removed_only_with_a_confirmation(variables: dict[str, str], then: str) -> None:
    """Removing prod needs its name, and a choice for the images. The failure prints the command."""
    with pytest.raises(Failed, match="nothing was changed") as failed:
        destroy_steps.confirmed(environment("prod", {}), variables)

    assert then in failed.value.then


def test_what_is_confirmed() -> None:
    """The choice for the images is returned; only prod asks."""
    prod = {"CONFIRM": "day02-prod", "IMAGES": "keep"}

    assert destroy_steps.confirmed(environment("prod", {}), prod) == "keep"
    assert destroy_steps.confirmed(environment("day02", {}), {}) == "delete"


BALANCER = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/day02-prod-alb/1"


@pytest.mark.parametrize("protected", ["true", "false", None])
def test_deletion_protection_stops_a_removal(protected: str | None) -> None:
    """A protected balancer stops it before anything changes; without a balancer there is no protection."""
    attributes = [{"Key": "deletion_protection.enabled", "Value": protected}]
    where: Any = Answers(
        "prod",
        DescribeLoadBalancers=lambda: (
            {"LoadBalancers": [{"LoadBalancerArn": BALANCER}]} if protected else "LoadBalancerNotFound"
        ),
        DescribeLoadBalancerAttributes=lambda: {"Attributes": attributes},
    )

    if protected == "true":
        with pytest.raises(Failed, match="nothing was changed") as failed:
            destroy_steps.unprotected(where)
        assert "deletion_protection = false" in failed.value.then
    else:
        destroy_steps.unprotected(where)


@pytest.mark.parametrize("images", [1, 100, 101, 250])
def test_each_image_is_deleted_once(images: int) -> None:
    """AWS takes 100 images in a call, and an image that stays makes the deletion of the registry fail.

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html
    """
    digests = [f"sha256:{number:064x}" for number in range(images)]
    listed = [{"imageDigest": digest, "imageTag": tag} for digest in digests for tag in ("a", "b")]
    pages = iter([{"imageIds": listed[:150], "nextToken": "next"}, {"imageIds": listed[150:]}])
    where: Any = Answers("prod", ListImages=lambda: next(pages), BatchDeleteImage=lambda: {"failures": []})

    assert destroy_steps.delete_images(where) == images
    batches = [asked["imageIds"] for operation, asked in where.asked if operation == "BatchDeleteImage"]
    assert [image["imageDigest"] for batch in batches for image in batch] == digests
    assert max(map(len, batches)) <= 100


def test_a_refused_removal_names_what_it_did_not_do() -> None:
    """The steps after the refused one are named."""
    report = Reporter()

    with (
        pytest.raises(Failed) as failed,
        destroy_steps.naming_what_remains(environment("day02", {})),
        report.step(destroy_steps.DESTROY),
    ):
        raise Failed("refused", "Give the permission")

    assert "Not done: task definitions, audit by tag." in failed.value.then


def test_aws_is_removed_without_a_docker_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make destroy` of AWS reaches AWS on a machine without an engine."""

    def no_engine() -> None:
        raise AssertionError("asked for the engine")

    def stop(*_: object) -> None:
        raise Failed("reached")

    monkeypatch.setattr(commands, "docker_engine", no_engine)
    monkeypatch.setattr(prepare, "account", stop)

    with pytest.raises(Failed, match="reached"):
        commands.destroy(environment("day02", {}), Reporter())


# --- preflight


def instance_type(
    name: str, *, offered: bool = True, zones: Sequence[str] = ("eu-west-1a", "eu-west-1b")
) -> dict[str, Any]:
    return {
        "DescribeInstanceTypeOfferings": lambda: {
            "InstanceTypeOfferings": [{"Location": zone} for zone in zones] if offered else []
        },
        "DescribeInstanceTypes": lambda: {
            "InstanceTypes": [
                {"InstanceType": name, "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]}},
                {"InstanceType": "t4g.micro", "ProcessorInfo": {"SupportedArchitectures": ["arm64"]}},
            ]
        },
    }


def test_the_free_plan_needs_an_eligible_type() -> None:
    """On the free plan, t2.micro is refused, and the alternatives for this image are named."""
    free = {"GetAccountPlanState": lambda: {"accountPlanType": "FREE"}}

    with pytest.raises(Failed, match=r"does not include t2\.micro") as failed:
        preflight.instance_type(cast("Environment", Answers("day02", **instance_type("t3.micro"), **free)))

    assert "t3.micro" in failed.value.then
    assert "t4g" not in failed.value.then


@pytest.mark.parametrize("plan", [{"accountPlanType": "PAID"}, "ResourceNotFoundException"])
def test_other_accounts_may_start_any_type(plan: Any) -> None:
    """An account on the paid plan, and one from before the plans, may start t2.micro."""
    answers = {**instance_type("t3.micro"), "GetAccountPlanState": lambda: plan}

    preflight.instance_type(cast("Environment", Answers("day02", **answers)))


def test_a_type_that_the_region_lacks_is_refused() -> None:
    """A region without the type fails before anything is made."""
    where = cast("Environment", Answers("day02", **instance_type("t3.micro", offered=False)))

    with pytest.raises(Failed, match=r"eu-west-1 has no t2\.micro"):
        preflight.instance_type(where)


def test_a_zone_without_the_type_is_refused() -> None:
    """Not every zone of a region has every type, and instances start in the zones of both subnets.

    Source: docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html
    """
    where = cast(
        "Environment", Answers("day02", **instance_type("t3.micro", zones=["eu-west-1a", "eu-west-1c"]))
    )

    with pytest.raises(Failed, match=r"^eu-west-1b has no t2\.micro") as failed:
        preflight.instance_type(where)

    assert "eu-west-1a, eu-west-1c" in failed.value.then


def test_a_type_without_memory_for_two_tasks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment runs an old and a new task on one instance. Types that have the memory are named."""
    root = a_root(tmp_path, "")
    file = root / terraform_variables.FILE
    file.write_text(file.read_text().replace("limit = 384", "limit = 768"))
    monkeypatch.setattr(Environment, "root", root)

    with pytest.raises(Failed, match=r"two tasks of 768 MiB do not fit on one t2\.micro") as failed:
        preflight.instance_type(cast("Environment", Answers("day02", **instance_type("t3.micro"))))

    assert failed.value.then.endswith("one of t3.small, t3.medium, c7i-flex.large, m7i-flex.large")
    file.write_text(file.read_text().replace("t2.micro", "t3.nano"))
    terraform_variables.values.cache_clear()
    with pytest.raises(Failed, match=r"the memory of t3\.nano is not known"):
        preflight.instance_type(cast("Environment", Answers("day02", **instance_type("t3.micro"))))


GROUP = "AWSManagedRulesKnownBadInputsRuleSet"


@pytest.mark.parametrize(
    ("listed", "deployed", "fails"),
    [
        (["Version_1.22"], None, False),
        (["Version_1.25"], "Version_1.22", False),
        (["Version_1.25"], "Version_1.21", True),
        (["Version_1.25"], None, True),
    ],
    ids=["offered", "expires, is deployed", "expires, is a change", "expires, is new"],
)
def test_the_firewalls_rules_must_be_offered(
    listed: list[str], deployed: str | None, fails: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version that AWS will remove can stay in a firewall. No firewall can change to it.

    AWS neither lists nor describes such a version, so only the firewall tells whether it has it.
    Sources: docs.aws.amazon.com/waf/latest/developerguide/waf-managed-rule-groups-versioning-lifecycle.html
    and docs.aws.amazon.com/waf/latest/APIReference/API_DescribeManagedRuleGroup.html (VersionName)
    """
    answer = {"Versions": [{"Name": name} for name in listed], "CurrentDefaultVersion": listed[-1]}
    acls = [{"Name": "another-waf", "Id": "acl-0"}, {"Name": "day02-prod-waf", "Id": "acl-1"}]
    rules: list[dict[str, Any]] = [
        {"Statement": {"RateBasedStatement": {"Limit": 2000}}},
        {"Statement": {"ManagedRuleGroupStatement": {"Name": GROUP, "Version": deployed}}},
    ]
    where: Any = Answers(
        "prod",
        ListAvailableManagedRuleGroupVersions=lambda: answer,
        ListWebACLs=lambda: {"WebACLs": acls if deployed else acls[:1]},
        GetWebACL=lambda: {"WebACL": {"Rules": rules}},
    )

    if fails:
        with pytest.raises(Failed, match=r"AWS does not offer Version_1\.22") as failed:
            preflight.firewall_rules(where, Reporter())
        assert "one of Version_1.25; AWS's default is Version_1.25" in failed.value.then
    else:
        preflight.firewall_rules(where, Reporter())
        said = "AWS will remove Version_1.22 of the firewall's rules, or has removed it"
        assert (said in capsys.readouterr().err) == ("Version_1.22" not in listed)
    assert f'"{preflight.RULE_GROUP}"' in (CHECKOUT / "modules/load_balancer/firewall.tf").read_text()


def test_day02_has_no_firewall_to_check() -> None:
    """The check of the firewall's rules asks AWS nothing in an environment without a firewall."""
    preflight.firewall_rules(cast("Environment", Answers("day02")), Reporter())


def test_a_type_of_another_architecture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A type that cannot run the image fails before it is built. AWS says what a type supports.

    Source: docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ProcessorInfo.html
    """
    root = a_root(tmp_path, "")
    file = root / terraform_variables.FILE
    file.write_text(file.read_text().replace("t2.micro", "t4g.micro"))
    monkeypatch.setattr(Environment, "root", root)
    answers = {**instance_type("t3.micro"), "GetAccountPlanState": lambda: {"accountPlanType": "PAID"}}
    where = cast("Environment", Answers("day02", **answers))

    with pytest.raises(Failed, match=r"t4g\.micro is arm64, and architecture is x86_64"):
        preflight.instance_type(where)
    file.write_text(file.read_text().replace('"x86_64"', '"arm64"'))
    terraform_variables.values.cache_clear()
    preflight.instance_type(where)


@pytest.mark.parametrize("platform", [{"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}, None])
def test_a_deployment_does_not_change_the_architecture(platform: dict[str, str] | None) -> None:
    """No instance could run the new tasks. A task definition from before `architecture` is one of x86-64."""

    class Ecs:
        def describe_task_definition(self, **_: object) -> dict[str, Any]:
            return {"taskDefinition": {"runtimePlatform": platform}}

    service, day02 = Stopped(described(deployment(1, "COMPLETED"))), environment("day02", {})
    service._ecs = cast("Any", Ecs())

    preflight.same_architecture(day02, Stopped(None))
    if platform is None:
        preflight.same_architecture(day02, service)
    else:
        with pytest.raises(
            Failed, match="runs on arm64, and a deployment cannot change that to x86_64"
        ) as no:
            preflight.same_architecture(day02, service)
        assert "make destroy ENV=day02" in no.value.then


#: Answers of an account that has no other resource with a name of the stack.
NOTHING_ELSE: dict[str, Callable[[], Any]] = {
    "GetInstanceProfile": lambda: "NoSuchEntity",
    "DescribeLaunchTemplates": lambda: {"LaunchTemplates": []},
    "DescribeLogGroups": lambda: {"logGroups": []},
    "DescribeClusters": lambda: {"clusters": []},
    "DescribeCapacityProviders": lambda: {"capacityProviders": []},
    "ListWebACLs": lambda: {"WebACLs": []},
}


#: Answers of an account that has no resource with a name of the stack.
NOTHING_OF_THE_STACK = {
    **NOTHING_ELSE,
    "GetRole": lambda: "NoSuchEntity",
    "GetTopicAttributes": lambda: "NotFound",
    "DescribeRepositories": lambda: "RepositoryNotFoundException",
    "DescribeLoadBalancers": lambda: "LoadBalancerNotFound",
    "DescribeTargetGroups": lambda: "TargetGroupNotFound",
}


@pytest.fixture
def prod_with_a_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prod with a name of the API and the zone of that name."""
    for file in ("variables.tf", terraform_variables.FILE):
        shutil.copy(CHECKOUT / "envs/prod" / file, tmp_path)
    (tmp_path / "20.auto.tfvars").write_text('domain_name = "files.example.com"\nzone_id = "Z0123456789"\n')
    monkeypatch.setattr(Environment, "root", tmp_path)


def records(name: str, type_: str) -> Callable[[], Any]:
    """The answer of Route 53 to ListResourceRecordSets with one record."""
    answer = {"ResourceRecordSets": [{"Name": name, "Type": type_}], "IsTruncated": False}
    return lambda: answer


@pytest.mark.usefixtures("prod_with_a_zone")
@pytest.mark.parametrize(
    ("name", "type_", "found"),
    [
        ("files.example.com.", "A", True),
        ("files.example.com.", "AAAA", False),
        ("files2.example.com.", "A", False),
    ],
)
def test_a_record_is_a_name_that_collides(name: str, type_: str, found: bool) -> None:
    """Route 53 refuses a second A record. It lists from a name and type on, so another record can be first.

    Source: docs.aws.amazon.com/Route53/latest/APIReference/API_ListResourceRecordSets.html
    """
    where: Any = Answers("prod", ListResourceRecordSets=records(name, type_), **NOTHING_OF_THE_STACK)

    if not found:
        preflight.made_by_hand(where, ())
        return
    with pytest.raises(Failed) as failed:
        preflight.made_by_hand(where, ())
    address = "module.domain.aws_route53_record.alias[0]"
    assert f"terraform import  '{address}' 'Z0123456789_files.example.com_A'" in failed.value.why
    assert 'resource "aws_route53_record" "alias" {' in (CHECKOUT / "modules/domain/main.tf").read_text()
    preflight.made_by_hand(where, {address})


@pytest.mark.usefixtures("prod_with_a_zone")
@pytest.mark.parametrize(
    ("answer", "why", "then"),
    [
        (
            records("files.example.com.", "CNAME"),
            "has a CNAME record for files.example.com",
            "Delete that record",
        ),
        (lambda: "NoSuchHostedZone", "there is no Route 53 zone Z0123456789", "Set zone_id in envs/"),
    ],
    ids=["CNAME", "no zone"],
)
def test_a_name_that_collides_or_has_no_zone_is_refused(
    answer: Callable[[], Any], why: str, then: str
) -> None:
    """Route 53 allows no other record of the name of a CNAME record, and no import turns it into an alias.

    Source: docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#CNAMEFormat
    """
    answers = {**NOTHING_OF_THE_STACK, "ListResourceRecordSets": answer}

    with pytest.raises(Failed, match=why) as failed:
        preflight.made_by_hand(cast("Environment", Answers("prod", **answers)), ())

    assert failed.value.then.startswith(then)


@pytest.mark.parametrize("name", ["day02", "prod"])
def test_every_name_that_collides_is_found(name: str) -> None:
    """AWS refuses a second resource of these names, so each one that exists is found, with its import.

    The addresses are resources of the modules that the root calls.
    """
    project = environment(name, {}).project
    groups = [f"/ecs/{project}", f"/ecs/{project}-other", f"/vpc/{project}", f"aws-waf-logs-{project}"]
    where: Any = Answers(
        name,
        GetRole=lambda: {"Role": {"RoleName": "role"}},
        GetTopicAttributes=lambda: {"Attributes": {"TopicArn": "topic"}},
        DescribeRepositories=lambda: {"repositories": [{"repositoryName": project}]},
        DescribeLoadBalancers=lambda: {"LoadBalancers": [{"LoadBalancerArn": "balancer"}]},
        DescribeTargetGroups=lambda: {"TargetGroups": [{"TargetGroupArn": "targets"}]},
        GetInstanceProfile=lambda: {"InstanceProfile": {"InstanceProfileName": "profile"}},
        DescribeLaunchTemplates=lambda: {"LaunchTemplates": [{"LaunchTemplateId": "lt-1"}]},
        DescribeLogGroups=lambda: {"logGroups": [{"logGroupName": group} for group in groups]},
        DescribeClusters=lambda: {"clusters": [{"status": "ACTIVE"}]},
        DescribeCapacityProviders=lambda: {"capacityProviders": [{"status": "ACTIVE"}]},
        ListWebACLs=lambda: {"WebACLs": [{"Name": f"{project}-waf", "Id": "acl-1"}]},
        ListAttachedRolePolicies=lambda: {"AttachedPolicies": []},
    )

    with pytest.raises(Failed) as failed:
        preflight.made_by_hand(where, ())

    imports = dict(re.findall(r"terraform import  '(\S+)' '(\S+)'", failed.value.why))
    assert imports["module.cluster.aws_launch_template.this"] == "lt-1"
    assert imports["module.service.aws_cloudwatch_log_group.this"] == f"/ecs/{project}"
    assert imports["module.cluster.aws_ecs_capacity_provider.this"] == f"{project}-flask"
    acl = imports.get("module.load_balancer.aws_wafv2_web_acl.this[0]")
    assert acl == (f"acl-1/{project}-waf/REGIONAL" if name == "prod" else None)
    assert len(imports) == (16 if name == "prod" else 12)
    for imported in imports:
        _, module, type_, resource = imported.removesuffix("[0]").split(".")
        text = "".join(path.read_text() for path in (CHECKOUT / "modules" / module).glob("*.tf"))
        assert f'resource "{type_}" "{resource}" {{' in text, imported


def test_what_the_course_made_by_hand_is_imported() -> None:
    """The role and the topic of the course are found, with the commands that import them.

    The course gives the role full access to S3. An import alone would leave it that.
    """
    full = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
    topic = "arn:aws:sns:us-east-1:123456789012:BillingAlarm"
    where: Any = Answers(
        "day02",
        GetRole=lambda: {"Role": {"RoleName": "s3_access"}},
        ListAttachedRolePolicies=lambda: {"AttachedPolicies": [{"PolicyArn": full}]},
        GetTopicAttributes=lambda: {"Attributes": {"TopicArn": topic}},
        DescribeRepositories=lambda: "RepositoryNotFoundException",
        DescribeLoadBalancers=lambda: "LoadBalancerNotFound",
        DescribeTargetGroups=lambda: "TargetGroupNotFound",
        **NOTHING_ELSE,
    )

    with pytest.raises(Failed) as failed:
        preflight.made_by_hand(where, (), "-var=image=x")
    roles = {f"module.{role}" for role in ("service.aws_iam_role.execution", "cluster.aws_iam_role.instance")}
    preflight.made_by_hand(
        where, {"module.service.aws_iam_role.task", "module.billing_alarm.aws_sns_topic.this", *roles}
    )

    assert "terraform import -var=image=x 'module.service.aws_iam_role.task' 's3_access'" in failed.value.why
    assert f"'module.billing_alarm.aws_sns_topic.this' '{topic}'" in failed.value.why
    detach = f"aws iam detach-role-policy --role-name s3_access --policy-arn {full}"
    assert failed.value.then.endswith(f"the stack gives them none.\n    {detach}")


# --- the API's own name


def test_the_smoke_test_asks_the_balancer_for_the_apis_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that DNS does not know is reached at the balancer, and its certificate is checked."""
    files = make_certificate(tmp_path, "files.example.invalid")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with HTTPServer(("127.0.0.1", 0), EchoHost) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
        url = f"https://files.example.invalid:{server.server_port}/"
        try:
            with through(Balancer("127.0.0.1")).open(url, timeout=10) as answer:
                said = answer.read().decode()
            with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
                through(Balancer("127.0.0.1")).open(url.replace("files", "other"), timeout=10)
        finally:
            server.shutdown()

    assert said == f"files.example.invalid:{server.server_port}"


class EchoHost(BaseHTTPRequestHandler):
    """Answers with the host of the request."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, *_: object) -> None:
        pass


def test_curl_lines_work_before_dns_does() -> None:
    """Until the name leads to the balancer, curl connects to the balancer; afterwards it needs no option."""
    assert (
        curl("https://files.example.invalid", Balancer("127.0.0.1"))
        == "curl --connect-to files.example.invalid:443:127.0.0.1:443"
    )
    assert curl("https://localhost:8443", Balancer("127.0.0.1")) == "curl"
    assert curl("http://127.0.0.1:5000", None) == "curl"


# --- buckets


@pytest.mark.parametrize("given", ["0", "-1", "ninety", "90d", "100000"])
def test_days_that_s3_does_not_support_are_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed, and the message says what to give."""
    monkeypatch.setenv("OLD_VERSION_DAYS", given)

    with pytest.raises(Failed, match=f"OLD_VERSION_DAYS={given} is not a number of days"):
        prepare.make_buckets(environment("day02", {}), Reporter())


@pytest.fixture
def logs(ministack_s3: S3, bucket_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """prod with a name for the bucket of access logs, on an S3 that has its other buckets."""
    for file in ("variables.tf", terraform_variables.FILE):
        shutil.copy(CHECKOUT / "envs/prod" / file, tmp_path)
    name = f"day02-{bucket_name}-logs"
    (tmp_path / "20.auto.tfvars").write_text(f'access_logs_bucket_name = "{name}"\n')
    monkeypatch.setattr(Environment, "root", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ministack_s3.url)
    for variable, value in ministack_s3.credentials.items():
        monkeypatch.setenv(variable, value)
    for other in (bucket_name, f"{bucket_name}-tfstate"):
        ministack_s3.make_bucket(other)
    where = Environment("prod", bucket_name, f"{bucket_name}-tfstate").with_account("000000000000")
    assert where.access_logs_bucket == name
    return where


def test_the_bucket_of_access_logs_is_made_and_missed(logs: Environment, ministack_s3: S3) -> None:
    """A deployment without it fails before anything is built. `make bucket` makes it; the balancer may write.

    Source: docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    name = str(logs.access_logs_bucket)
    with pytest.raises(Failed, match=f"the bucket {name} does not exist") as failed:
        prepare.buckets_exist(logs)
    prepare.buckets_exist(logs, access_logs=False)

    prepare.make_buckets(logs, Reporter())
    prepare.make_buckets(logs, Reporter())

    prepare.buckets_exist(logs)
    statements = json.loads(ministack_s3.client().get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    [own] = [statement for statement in statements if statement.get("Sid") == "AccessLogs"]
    assert own["Principal"] == {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"}
    assert own["Resource"] == f"arn:aws:s3:::{name}/day02-prod/AWSLogs/000000000000/*"
    assert bucket.tls_only(name) in statements
    assert "make bucket ENV=prod" in failed.value.then


@pytest.mark.parametrize("algorithm", ["aws:kms", "aws:kms:dsse"])
def test_a_bucket_of_access_logs_with_a_key_of_kms_is_refused(
    algorithm: str, logs: Environment, ministack_s3: S3
) -> None:
    """The load balancer could not write to it: "The only server-side encryption option […] is […] (SSE-S3)".

    Source: docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    name, s3 = str(logs.access_logs_bucket), ministack_s3.client()
    ministack_s3.make_bucket(name)
    rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})

    with pytest.raises(Failed, match=f"the bucket {name} encrypts with {algorithm}, and") as failed:
        prepare.make_buckets(logs, Reporter())

    assert "Set AES256 as its default encryption" in failed.value.then
    s3.delete_bucket_encryption(Bucket=name)
    prepare.make_buckets(logs, Reporter())


def test_a_missing_name_for_access_logs_is_said(
    ministack_s3: S3, bucket_name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make bucket` makes the buckets that have a name, and says how to make the other one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ministack_s3.url)
    for variable, value in ministack_s3.credentials.items():
        monkeypatch.setenv(variable, value)
    where = Environment("prod", bucket_name, f"{bucket_name}-tfstate").with_account("000000000000")

    prepare.make_buckets(where, Reporter())

    assert where.access_logs_bucket is None
    assert "access_logs_bucket_name has no value" in capsys.readouterr().err


def test_a_bucket_is_protected_once(ministack_s3: S3, bucket_name: str) -> None:
    """The first call corrects every setting; the second changes nothing."""
    s3 = ministack_s3.client()
    ministack_s3.make_bucket(bucket_name)

    first = bucket.correct(s3, bucket_name)
    second = bucket.correct(s3, bucket_name)

    assert {"versioned", "incomplete uploads aborted after a day", "TLS only"} <= set(first)
    assert s3.get_bucket_cors(Bucket=bucket_name)["CORSRules"][0]["ExposeHeaders"] == ["ETag", "Location"]
    assert second == []
    assert s3.get_bucket_versioning(Bucket=bucket_name)["Status"] == "Enabled"
    assert s3.get_public_access_block(Bucket=bucket_name)["PublicAccessBlockConfiguration"] == bucket.CLOSED
    assert s3.get_bucket_encryption(Bucket=bucket_name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert json.loads(s3.get_bucket_policy(Bucket=bucket_name)["Policy"])["Statement"] == [
        bucket.tls_only(bucket_name)
    ]


@pytest.fixture
def another_accounts(ministack_s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """An S3 whose buckets belong to the account 222222222222."""

    def refused(asked: Asked) -> bool:
        return asked.headers.get("x-amz-expected-bucket-owner") not in (None, "222222222222")

    with running_faulty_s3(ministack_s3) as proxy, proxy.failing(AnswerError(403, "AccessDenied"), refused):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.s3.url)
        for name, value in ministack_s3.credentials.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.mark.parametrize(
    "use", [prepare.buckets_exist, lambda where: prepare.make_buckets(where, Reporter())]
)
def test_a_bucket_of_another_account_is_not_used(
    ministack_s3: S3, another_accounts: FaultyS3, use: Callable[[Environment], None]
) -> None:
    """A bucket that another account has taken under a guessed name is neither used nor changed."""
    where = environment("day02", {}).with_account("111111111111")
    for name in (where.bucket, where.state_bucket):
        if name not in {entry["Name"] for entry in ministack_s3.client().list_buckets()["Buckets"]}:
            ministack_s3.make_bucket(name)
    another_accounts.asked.clear()

    with pytest.raises(Failed, match=f"{where.bucket} does not belong to the account 111111111111") as failed:
        use(where)
    use(replace(where, account="222222222222"))

    assert "BUCKET=day02-" in failed.value.then
    assert {asked.headers.get("x-amz-expected-bucket-owner") for asked in another_accounts.asked} == {
        "111111111111",
        "222222222222",
    }


def test_the_states_bucket_must_be_the_accounts_too(
    ministack_s3: S3, another_accounts: FaultyS3, bucket_name: str
) -> None:
    """A state bucket of another account, which could read the whole state, is refused by name."""
    state = f"{bucket_name}-tfstate"
    ministack_s3.make_bucket(bucket_name)
    ministack_s3.make_bucket(state)
    where = environment("day02", {"BUCKET": bucket_name, "STATE_BUCKET": state}).with_account("222222222222")

    def refused(asked: Asked) -> bool:
        return asked.path.startswith(f"/{state}") and "x-amz-expected-bucket-owner" in asked.headers

    with (
        another_accounts.failing(AnswerError(403, "AccessDenied"), refused),
        pytest.raises(Failed, match=f"{state} does not belong") as failed,
    ):
        prepare.buckets_exist(where)

    assert "STATE_BUCKET=day02-" in failed.value.then


def test_what_the_owner_put_there_stays(ministack_s3: S3, bucket_name: str) -> None:
    """Lifecycle rules and policy statements of the owner are kept."""
    s3 = ministack_s3.client()
    ministack_s3.make_bucket(bucket_name)
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    own = {
        "Sid": "Own",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteBucket",
        "Resource": f"arn:aws:s3:::{bucket_name}",
    }
    s3.put_bucket_lifecycle_configuration(Bucket=bucket_name, LifecycleConfiguration={"Rules": [rule]})
    s3.put_bucket_policy(Bucket=bucket_name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [own]}))

    bucket.correct(s3, bucket_name)

    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket_name)["Rules"]
    statements = json.loads(s3.get_bucket_policy(Bucket=bucket_name)["Policy"])["Statement"]
    assert {found["ID"] for found in rules} == {"old", "abort-incomplete-uploads", "remove-old-versions"}
    assert {found["Sid"] for found in statements} == {"Own", "TlsOnly"}
