"""Decisions of the deployment that need no AWS: environments, error messages, settings of buckets."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy import __main__ as command_line
from deploy import prepare
from deploy.commands import REGISTRY, address
from deploy.environments import CHECKOUT, PROJECTS, SECRETS, EmulatedAws, Environment, environment
from deploy.image import _follow, push
from deploy.service import Service
from deploy.stack import Stack, failure_of
from deploy.steps import Failed, Reporter, explain
from s3api import bucket
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


def test_nothing_is_printed_in_another_way() -> None:
    """Only the two functions that escape text call `print`."""
    printing = re.compile(r"\bprint\(|\bstd(?:out|err)\.write\(")
    found = {
        path.name: len(printing.findall(path.read_text()))
        for path in (CHECKOUT / "services/deploy").glob("*.py")
    }

    assert {name: count for name, count in found.items() if count} == {"steps.py": 2}


# --- environments


@pytest.mark.parametrize("name", PROJECTS)
def test_names_are_those_of_the_environment(name: str) -> None:
    """The project and the parameters of the tasks are the same as in the environment's main.tf."""
    text = (CHECKOUT / "envs" / name / "main.tf").read_text()
    service = text.split('module "service"', 1)[1].split("\nmodule", 1)[0]
    secrets = service.split("secrets = {", 1)[1].split("}", 1)[0]

    assert re.findall(r'\n\s+name\s+= "([^"]+)"', service) == [PROJECTS[name]]
    assert dict(re.findall(r'(\w+)\s+= "([^"]+)"', secrets)) == SECRETS[name]


@pytest.mark.parametrize("name", PROJECTS)
def test_the_registry_comes_first(name: str) -> None:
    """The target of the first apply is a module of every environment."""
    modules = re.findall(r'^module "(\w+)"', (CHECKOUT / "envs" / name / "main.tf").read_text(), re.MULTILINE)

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
    """For `local`, neither boto3 nor Terraform ever gets the operator's real AWS key."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_PROFILE", "real")
    local = Environment(
        "local",
        "day02-x",
        "",
        work=tmp_path,
        emulated=EmulatedAws(),
        credentials={"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"},
    )

    terraform = Stack(local, Reporter())._environment()

    assert not any(variable.startswith("AWS_") for variable in terraform)
    assert terraform["TF_VAR_access_key"] == "k"
    assert local.client("s3")._request_signer._credentials.access_key == "k"


# --- failures


def test_a_missing_permission_is_named() -> None:
    """The denied action is taken from Terraform's error, and the message names the policy file."""
    said = (
        "operation error ECS: CreateCluster, api error AccessDeniedException: User: arn:aws:iam::1:user/d is "
        "not authorized to perform: ecs:CreateCluster because no identity-based policy allows the action"
    )

    failed = failure_of("terraform apply", [said, said])

    assert failed.why == "terraform apply: the deployer may not ecs:CreateCluster"
    assert "services/deploy/iam" in failed.then


@pytest.mark.parametrize(
    ("said", "then"),
    [
        ("Error acquiring the state lock", "force-unlock"),
        (
            'No value for required variable The root module input variable "billing_email" is not set',
            "terraform.tfvars",
        ),
        ("something else", "deploy again"),
    ],
)
def test_other_failures_say_what_to_do(said: str, then: str) -> None:
    """A lock, a missing variable and any other error give a hint about what to do."""
    assert then in failure_of("terraform plan", [said]).then


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

    def client(self, _: str) -> Any:
        return self

    def get_authorization_token(self) -> dict[str, Any]:
        return {"authorizationData": [{"authorizationToken": base64.b64encode(b"AWS:x").decode()}]}

    def describe_images(self, **_: object) -> dict[str, Any]:
        return {"imageDetails": [{"imageDigest": self.stored}] if self.stored else []}

    def get(self, _: str) -> Any:
        return self

    def tag(self, *_: object) -> None:
        pass

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


class Stopped(Service):
    """A service with given tasks and a given log."""

    def __init__(self, running: str, deployments: int) -> None:
        self.environment = environment("day02", {})
        self.cluster = self.name = "day02"
        self._service = {"taskDefinition": running, "deployments": [{}] * deployments, "events": []}

    def describe(self) -> dict[str, Any] | None:
        return self._service

    def causes(self, *_: object) -> list[str]:
        return ["the cause"]


def test_what_runs_is_compared_with_what_was_asked_for() -> None:
    """A deployment succeeds only if the requested task definition is the only one that runs."""
    Stopped("arn/day02:2", 1).check("arn/day02:2", "")

    with pytest.raises(Failed, match=r"rolled back: day02:2 was requested, day02:1 runs\n    the cause"):
        Stopped("arn/day02:1", 1).check("arn/day02:2", "")
    with pytest.raises(Failed, match="rolled back"):
        Stopped("arn/day02:2", 2).check("arn/day02:2", "")


# --- buckets


def test_a_bucket_is_protected_once(ministack_s3: S3, bucket_name: str) -> None:
    """The first call corrects every setting; the second changes nothing."""
    s3 = ministack_s3.client()
    ministack_s3.make_bucket(bucket_name)

    first = bucket.correct(s3, bucket_name)
    second = bucket.correct(s3, bucket_name)

    assert {"versioned", "incomplete uploads aborted after a day", "TLS only"} <= set(first)
    assert s3.get_bucket_cors(Bucket=bucket_name)["CORSRules"][0]["ExposeHeaders"] == ["ETag"]
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
    assert {found["ID"] for found in rules} == {"old", "abort-incomplete-uploads"}
    assert {found["Sid"] for found in statements} == {"Own", "TlsOnly"}
