"""The decisions of a move to another bucket. tests/deploy/test_stack.py moves a stack on emulated AWS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from deploy import bucket_move, commands, terraform_variables
from deploy.environments import CHECKOUT, Environment, environment
from deploy.service import Service
from deploy.stack import Stack
from deploy.steps import Failed, Reporter

ACCOUNT = "123456789012"
DEFAULT = f"day02-{ACCOUNT}"


def day02(**variables: str) -> Environment:
    return environment("day02", variables).with_account(ACCOUNT)


class Tasks(Service):
    """A service with a task definition for each bucket, `arn/<bucket>`, and tasks in given states."""

    def __init__(self, wanted: str | None, *looks: Mapping[str, str]) -> None:
        self.cluster = "day02"
        self._wanted = wanted
        self._looks = list(looks)
        self._ecs = self

    def describe(self) -> dict[str, Any] | None:
        return {"taskDefinition": f"arn/{self._wanted}"} if self._wanted else None

    def describe_task_definition(self, **asked: str) -> dict[str, Any]:
        value = asked["taskDefinition"].removeprefix("arn/")
        container = {"image": "x", "environment": [{"name": "BUCKET", "value": value}]}
        return {"taskDefinition": {"containerDefinitions": [container]}}

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **asked: str) -> list[dict[str, Any]]:
        stopping = asked["desiredStatus"] == "STOPPED"
        states = self._looks[0]
        if stopping and len(self._looks) > 1:
            self._looks.pop(0)
        return [
            {"taskArns": [bucket for bucket, state in states.items() if (state != "RUNNING") == stopping]}
        ]

    def describe_tasks(self, **asked: Any) -> dict[str, Any]:
        states = self._looks[0]
        return {
            "tasks": [
                {"taskDefinitionArn": f"arn/{arn}", "lastStatus": states.get(arn, "STOPPED")}
                for arn in asked["tasks"]
            ]
        }


# --- the choice


def test_no_deployment_moves_back_unasked() -> None:
    """A stack that was moved by BUCKET is not moved back by a deployment without it."""
    moved = Tasks("day02-new")

    with pytest.raises(Failed, match="the tasks use the bucket day02-new") as failed:
        bucket_move.check(day02(), moved)

    assert 'data_bucket_name = "day02-new"' in failed.value.then
    assert f"BUCKET={DEFAULT}" in failed.value.then


def test_a_deployment_to_the_bucket_that_runs_or_that_is_named_goes_on() -> None:
    """Without a service, with the default bucket, and with a named bucket there is nothing to refuse."""
    bucket_move.check(day02(), Tasks(None))
    bucket_move.check(day02(), Tasks(DEFAULT))
    bucket_move.check(day02(BUCKET="day02-other"), Tasks(DEFAULT))
    bucket_move.check(day02(BUCKET=DEFAULT), Tasks("day02-new"))


def test_the_local_stack_is_not_moved_by_the_file_of_day02() -> None:
    """`local` has the root of day02, but the bucket in its file is one on AWS. BUCKET names local's own."""
    local = environment("local", {})

    with pytest.raises(Failed, match="the tasks use the bucket day02-mine") as failed:
        bucket_move.check(local, Tasks("day02-mine"))
    bucket_move.check(environment("local", {"BUCKET": "day02-other"}), Tasks("day02-mine"))

    assert "make deploy ENV=local BUCKET=day02-mine" in failed.value.then


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of variables in a copy of the root of day02."""
    for name in ("variables.tf", terraform_variables.FILE):
        shutil.copy(CHECKOUT / "envs/day02" / name, tmp_path)
    monkeypatch.setattr(Environment, "root", tmp_path)
    return tmp_path / terraform_variables.FILE


def chosen(bucket: str = "") -> Environment:
    return Environment("day02", bucket, "").with_account(ACCOUNT)


def test_the_choice_is_stored_for_the_next_deployment(file: Path) -> None:
    """After a deployment with BUCKET, one without it has the same bucket. A second choice replaces it."""
    original = file.read_text()

    bucket_move.remember(chosen("day02-new"), Reporter())
    first = chosen()
    bucket_move.remember(chosen("day02-newer"), Reporter())
    second = chosen()

    assert (first.bucket, first.default_bucket) == ("day02-new", False)
    assert (second.bucket, second.default_bucket) == ("day02-newer", False)
    assert file.read_text() == f'{original}data_bucket_name = "day02-newer"\n'


def test_a_default_is_not_stored(file: Path) -> None:
    """A deployment without a choice, and one of `local`, leave the file as it is."""
    original = file.read_text()

    bucket_move.remember(chosen(), Reporter())
    bucket_move.remember(environment("local", {"BUCKET": "day02-mine"}), Reporter())

    assert file.read_text() == original


def test_another_file_that_names_a_bucket_is_reported(file: Path) -> None:
    """Terraform reads a later *.auto.tfvars last, so the stored choice would have no effect."""
    file.with_name("20.auto.tfvars").write_text('data_bucket_name = "day02-other"\n')

    with pytest.raises(Failed, match="names another"):
        bucket_move.remember(chosen("day02-new"), Reporter())


# --- what is allowed


def role_allows(*buckets: str) -> Any:
    """day02 with BUCKET=day02-new, whose role allows these buckets; None is a role that does not exist."""
    where = day02(BUCKET="day02-new")
    statements = [
        {"Resource": arn} for name in buckets for arn in (f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*")
    ]
    answer: Any = {"PolicyDocument": quote(json.dumps({"Statement": statements}))}
    error = {"Error": {"Code": "NoSuchEntity", "Message": "no"}}
    given = (
        (SimpleNamespace(status_code=200), answer) if buckets else (SimpleNamespace(status_code=404), error)
    )
    client = where.client("iam")
    client.meta.events.register("before-call.iam.GetRolePolicy", lambda **_: given)
    return where, client


@pytest.mark.parametrize(
    ("allowed", "previous"),
    [
        ((), ()),
        (("day02-new",), ()),
        (("day02-old",), ("day02-old",)),
        (("day02-new", "day02-old"), ("day02-old",)),
    ],
    ids=["first deployment", "no move", "a move", "an interrupted move"],
)
def test_a_deployment_first_takes_nothing_away(
    allowed: tuple[str, ...], previous: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other bucket that the role allows stays allowed: running tasks use it, or a rollback returns."""
    where, client = role_allows(*allowed)
    monkeypatch.setattr(Environment, "client", lambda *_: client)

    found = bucket_move.with_previous(where)

    assert tuple(found.previous_buckets) == previous
    variables = Stack(found, Reporter())._variables("sha256:0")
    assert variables.get("previous_bucket_names") == (json.dumps(list(previous)) if previous else None)


class Applied:
    """Stands in the place of `Stack` and records what is applied."""

    def __init__(self, log: list[Any]) -> None:
        self._log = log

    def __call__(self, where: Environment, _: Reporter) -> Applied:
        self._where = where
        return self

    def apply(self, image: str, *, targets: tuple[str, ...]) -> None:
        assert targets == bucket_move.POLICIES
        self._log.append((image, self._where.bucket, tuple(self._where.previous_buckets)))


def test_the_old_bucket_is_allowed_until_its_last_task_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that ECS wants to stop but that still finishes its requests counts."""
    log: list[Any] = []
    monkeypatch.setattr(bucket_move, "Stack", Applied(log))
    monkeypatch.setattr(bucket_move, "PAUSE", 0)
    moving = replace(day02(BUCKET="day02-new"), previous_buckets=("day02-old",))
    tasks = Tasks(
        "day02-new",
        {"day02-new": "RUNNING", "day02-old": "RUNNING"},
        {"day02-new": "RUNNING", "day02-old": "DEACTIVATING"},
        {"day02-new": "RUNNING", "day02-old": "STOPPING"},
        {"day02-new": "RUNNING", "day02-old": "STOPPED"},
    )

    bucket_move.allow_one(moving, tasks, "image", Reporter())

    assert log == [("image", "day02-new", ())]
    assert len(tasks._looks) == 1


def test_a_bucket_that_is_still_used_stays_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a task does not stop, nothing is taken away, and the failure says what to do."""
    log: list[Any] = []
    monkeypatch.setattr(bucket_move, "Stack", Applied(log))
    monkeypatch.setattr(bucket_move, "STOPPED_WITHIN", -1)
    moving = replace(day02(BUCKET="day02-new"), previous_buckets=("day02-old",))

    with pytest.raises(Failed, match="tasks still use day02-old") as failed:
        bucket_move.allow_one(moving, Tasks("day02-new", {"day02-old": "RUNNING"}), "image", Reporter())

    assert log == []
    assert "make deploy ENV=day02 again" in failed.value.then


def test_without_a_move_no_policy_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that keeps its bucket applies no policy for two buckets."""
    log: list[Any] = []
    monkeypatch.setattr(bucket_move, "Stack", Applied(log))
    where = day02()

    bucket_move.allow_both(where, Applied(log)(where, Reporter()), "image", Reporter())  # type: ignore[arg-type]
    bucket_move.allow_one(where, Tasks(where.bucket), "image", Reporter())

    assert log == []


@pytest.mark.parametrize(("name", "waits"), [("day02", [180]), ("local", [])])
def test_tasks_wait_for_the_policy_of_the_endpoint(
    name: str, waits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On AWS a changed policy of an endpoint takes effect after a few minutes, so the rollout starts later.

    Source: docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
    """
    log: list[Any] = []
    monkeypatch.setattr(bucket_move, "time", SimpleNamespace(sleep=log.append))
    where = environment(name, {"BUCKET": "day02-new"}).with_account(ACCOUNT)
    moving = replace(where, previous_buckets=("day02-old",))

    bucket_move.allow_both(moving, Applied(log)(moving, Reporter()), "image", Reporter())  # type: ignore[arg-type]

    assert log == [("image", "day02-new", ("day02-old",)), *waits]


# --- the order


class Release:
    """What a deployment touches, without AWS, Terraform or an engine. `log` has what it does in order."""

    def __init__(self, failing: str = "") -> None:
        self.log: list[str] = []
        self._failing = failing

    def __call__(self, *given: object, **_: object) -> Release:
        """In the place of `Stack`, and of functions whose results do not matter here."""
        if given and isinstance(given[0], Environment):
            self._where = given[0]
        return self

    def outputs(self) -> dict[str, str]:
        return {"repository_url": "r/day02", "task_definition_arn": "arn/2", "min_tasks": "2", "url": "u"}

    def apply(self, _: str, *, targets: tuple[str, ...] = (), **__: object) -> None:
        what = "policies" if targets else "all"
        self.log.append(f"{what}: {' '.join((self._where.bucket, *self._where.previous_buckets))}")

    def wait_until_completed(self, *_: object) -> None:
        self._do("rollout")

    def smoke(self, *_: object) -> None:
        self._do("smoke")

    def bring_back(self, *_: object) -> str:
        self.log.append("bring back")
        return "The previous tasks serve again"

    def buckets_in_use(self) -> set[str]:
        self.log.append("tasks")
        return {"day02-new"}

    def _do(self, step: str) -> None:
        self.log.append(step)
        if step == self._failing:
            raise Failed(f"{step} failed")

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: ""


BOTH_FIRST = ["policies: day02-new day02-old", "all: day02-new day02-old", "rollout"]


@pytest.mark.parametrize(
    ("failing", "log"),
    [
        ("", [*BOTH_FIRST, "smoke", "tasks", "policies: day02-new"]),
        ("rollout", BOTH_FIRST),
        ("smoke", [*BOTH_FIRST, "smoke", "bring back"]),
    ],
    ids=["succeeds", "is rolled back", "fails its smoke test"],
)
def test_the_old_bucket_is_taken_away_last(
    failing: str, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the rollout both buckets are allowed. A failed rollout takes neither away."""
    release = Release(failing)
    monkeypatch.setattr(bucket_move, "ENDPOINT_CHANGED_WITHIN", 0)
    moving = replace(day02(BUCKET="day02-new"), previous_buckets=("day02-old",))
    for name in ("Stack", "build", "push", "docker_engine", "balancer", "curl", "preflight"):
        monkeypatch.setattr(commands, name, release)
    monkeypatch.setattr(commands, "smoke", release.smoke)
    monkeypatch.setattr(commands, "_service", release)
    monkeypatch.setattr(bucket_move, "Stack", release)
    monkeypatch.setattr(bucket_move, "with_previous", lambda where: where)

    if failing:
        with pytest.raises(Failed, match=f"{failing} failed"):
            commands.release(moving, Reporter())
    else:
        commands.release(moving, Reporter())

    assert release.log == log
