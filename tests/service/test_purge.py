"""`make purge` removes what `make destroy` and `make down` keep, and nothing without the name."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from deploy import leftovers, purge
from deploy.environments import Environment, environment
from deploy.leftovers import Leftovers
from deploy.steps import Failed, Reporter
from support.containers import docker_engine
from support.servers import S3, unguarded_ministack

PARAMETERS = ("/day02/signing_key", "/day02-prod/signing_key")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with unguarded_ministack(tmp_path_factory.mktemp("aws"), "s3", "ssm", "sts", "tagging") as s3:
        yield s3


@pytest.fixture
def day02(aws: S3, bucket_name: str, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment `day02` with its buckets and parameters; its AWS is emulated."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    where = Environment("day02", bucket_name, f"{bucket_name}-tfstate", credentials=aws.credentials)
    aws.make_bucket(where.bucket, versioned=True)
    aws.make_bucket(where.state_bucket, versioned=True)
    for name in PARAMETERS:
        where.client("ssm").put_parameter(Name=name, Type="SecureString", Value="x", Overwrite=True)
    return where


def buckets(where: Environment) -> set[str]:
    names = {bucket["Name"] for bucket in where.client("s3").list_buckets()["Buckets"]}
    return names & {where.bucket, where.state_bucket}


def parameters(where: Environment) -> set[str]:
    return {entry["Name"] for entry in where.client("ssm").describe_parameters()["Parameters"]}


def typed(text: str) -> Callable[[str], str]:
    return lambda _question: f"{text}\n"


def test_everything_of_an_environment_is_removed(day02: Environment) -> None:
    """Every version, delete marker and open upload, more than one page of them, and the parameters."""
    s3 = day02.client("s3")
    for number in range(3):
        s3.put_object(Bucket=day02.bucket, Key="twice ü.txt", Body=str(number).encode())
    s3.delete_object(Bucket=day02.bucket, Key="twice ü.txt")
    s3.create_multipart_upload(Bucket=day02.bucket, Key="open")
    s3.put_object(Bucket=day02.state_bucket, Key="day02/terraform.tfstate", Body=b"{}")
    purge.purge(day02, Reporter(), typed(day02.bucket))

    assert buckets(day02) == set()
    assert parameters(day02) & set(PARAMETERS) == {"/day02-prod/signing_key"}


def test_the_state_of_another_environment_stays(day02: Environment) -> None:
    """Environments may share the bucket for their states. Nothing is removed then, and no name is asked."""
    key = "prod/terraform.tfstate"
    day02.client("s3").put_object(Bucket=day02.state_bucket, Key=key, Body=b"{}")
    with pytest.raises(Failed, match=f"{day02.state_bucket} also has {key}; nothing was removed"):
        purge.purge(day02, Reporter(), lambda _question: pytest.fail("it asked"))

    assert buckets(day02) == {day02.bucket, day02.state_bucket}


def test_many_versions_are_removed_page_by_page(day02: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """More versions than one request deletes."""
    monkeypatch.setattr(purge, "BATCH", 2)
    s3 = day02.client("s3")
    for number in range(7):
        s3.put_object(Bucket=day02.bucket, Key=f"{number % 3}", Body=b"x")
    purge.remove_bucket(s3, day02.bucket)

    assert buckets(day02) == {day02.state_bucket}


@pytest.mark.parametrize("text", ["", "yes", "day02-other"])
def test_nothing_is_removed_without_the_name(
    day02: Environment, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What would be removed is listed first. Another name, or the end of the input, removes nothing."""
    with pytest.raises(Failed, match="nothing was removed"):
        purge.purge(day02, Reporter(), typed(text))
    listed = capsys.readouterr().err

    assert buckets(day02) == {day02.bucket, day02.state_bucket}
    assert set(PARAMETERS) <= parameters(day02)
    for name in (day02.bucket, day02.state_bucket, "/day02/signing_key"):
        assert name in listed


def test_it_can_be_repeated(day02: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run continues where the first was interrupted; a third has nothing to do, and asks nothing."""
    purge.remove_bucket(day02.client("s3"), day02.bucket)
    purge.purge(day02, Reporter(), typed(day02.bucket))
    purge.purge(day02, Reporter(), typed("not asked"))

    assert buckets(day02) == set()
    assert "nothing is left to remove" in capsys.readouterr().err


def test_a_stack_that_exists_is_not_robbed_of_its_state(
    day02: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the state bucket, Terraform could not destroy the stack any more."""
    arn = "arn:aws:ecs:eu-west-1:000000000000:cluster/day02"
    monkeypatch.setattr(leftovers, "find", lambda _where: Leftovers([arn], []))
    with pytest.raises(Failed, match="still exists") as caught:
        purge.purge(day02, Reporter(), typed(day02.bucket))

    assert "make destroy ENV=day02" in caught.value.then
    assert buckets(day02) == {day02.bucket, day02.state_bucket}


def test_a_version_that_may_not_be_deleted_is_named(day02: Environment) -> None:
    """S3's refusal of one version stops the command, which names it and the permission."""

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(day02.client("s3"), name)

        def delete_objects(self, **_: object) -> dict[str, Any]:
            return {"Errors": [{"Key": "kept.txt", "Code": "AccessDenied"}]}

    day02.client("s3").put_object(Bucket=day02.bucket, Key="kept.txt", Body=b"x")
    with pytest.raises(Failed, match=r"kept\.txt: AccessDenied") as caught:
        purge.remove_bucket(Refusing(), day02.bucket)

    assert "s3:DeleteObjectVersion" in caught.value.then
    assert day02.bucket in buckets(day02)


def test_a_directory_in_use_is_kept(tmp_path: Path) -> None:
    """`make run` is to be stopped first."""
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Failed, match="`make run` uses"):
            purge._check_unused(tmp_path)
    purge._check_unused(tmp_path)


# --- volumes


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    with docker_engine() as client:
        yield client


def test_the_volumes_of_compose_are_removed(engine: docker.DockerClient, bucket_name: str) -> None:
    """Only those of the project go."""
    mine, other = (
        engine.volumes.create(
            f"{project}_keys", labels={"com.docker.compose.project": project, "test": bucket_name}
        )
        for project in (bucket_name, f"{bucket_name}-other")
    )
    try:
        found = list(purge._of_compose(engine, bucket_name))
        for one in found:
            one.remove()

        assert [one.what for one in found] == [f"the volume {mine.name} of make up"]
        with pytest.raises(NotFound):
            engine.volumes.get(mine.name)
        assert engine.volumes.get(other.name)
    finally:
        for volume in engine.volumes.list(filters={"label": f"test={bucket_name}"}):
            volume.remove()


def test_the_local_environment_lists_its_volume_and_directory(
    engine: docker.DockerClient, bucket_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make purge ENV=local` removes the volumes of the emulated AWS, and the directory of `make run`.

    A failed rehearsal leaves a volume too.
    """
    monkeypatch.setattr(purge, "REHEARSALS", {"prod": f"{bucket_name}-rehearsal"})
    monkeypatch.setattr(purge, "DATA", tmp_path / ".data")
    monkeypatch.setattr(purge, "COMPOSE_PROJECT", bucket_name)
    (tmp_path / ".data" / "s3").mkdir(parents=True)
    local = environment("local", {"BUCKET": bucket_name})
    assert local.emulated is not None
    local = replace(local, emulated=replace(local.emulated, name=bucket_name))
    volumes = [
        engine.volumes.create(f"{name}-data", labels={"test": bucket_name})
        for name in (bucket_name, f"{bucket_name}-rehearsal")
    ]
    try:
        purge.purge(local, Reporter(), typed(bucket_name))

        for volume in volumes:
            with pytest.raises(NotFound):
                engine.volumes.get(volume.name)
        assert list(tmp_path.iterdir()) == []
    finally:
        for left in engine.volumes.list(filters={"label": f"test={bucket_name}"}):
            left.remove()
