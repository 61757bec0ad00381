"""`make purge`: removes the data that `make destroy` and `make down` keep, after asking for the bucket.

On AWS these are the data bucket with every version, the bucket of Terraform's state, and the parameters. On
this machine they are the volumes of `make deploy ENV=local` and of `make up`, what a failed `make rehearse`
left, and the directory `.data`.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import docker
from botocore.exceptions import ClientError

from deploy import emulated_aws, leftovers, prepare
from deploy.environments import CHECKOUT, REHEARSALS, ROOTS, EmulatedAws, Environment
from deploy.image import docker_engine
from deploy.steps import Failed, Reporter

COMPOSE_PROJECT = "s3api"  # of docker/compose.yaml
DATA = CHECKOUT / ".data"
BATCH = 1000  # the most that DeleteObjects accepts


@dataclass(frozen=True)
class Found:
    """Something to remove: its description, and the call that removes it."""

    what: str
    remove: Callable[[], object]


def _asked(question: str) -> str:
    """The answer from standard input; empty at its end."""
    Reporter().line(question)
    return sys.stdin.readline()


def purge(where: Environment, report: Reporter, ask: Callable[[str], str] = _asked) -> None:
    """Remove what is left of an environment. It can be repeated after every failure."""
    with report.step("what is left"):
        if where.emulated:
            found = list(_on_this_machine(docker_engine(), where))
        else:
            where = prepare.account(where, report)
            found = list(_on_aws(where))
        for one in found:
            report.say(one.what)
    if not found:
        report.line("✓ nothing is left to remove")
        return
    report.line("This removes all of it for good, with every version of every file.")
    if ask(f"Type the name of the bucket to continue ({where.bucket}):").strip() != where.bucket:
        raise Failed("that is not the name of the bucket; nothing was removed", "")
    with report.step("remove"):
        for one in found:
            one.remove()
    report.line(f"✓ {len(found)} removed")


# --- on AWS


def _on_aws(where: Environment) -> Iterator[Found]:
    if left := leftovers.find(where).exist:
        raise Failed(
            f"the stack of {where.name} still exists: {len(left)} resources, such as {left[0]}",
            f"Remove it first: {where.command('destroy')}",
        )
    s3, ssm = where.client("s3"), where.client("ssm")
    _check_states(s3, where)
    for name in (where.bucket, where.state_bucket):
        if _exists(s3, name):
            yield Found(f"the bucket {name}", partial(remove_bucket, s3, name))
    for name in sorted(prepare.existing_parameters(where, where.secrets.values())):
        yield Found(f"the parameter {name}", partial(ssm.delete_parameter, Name=name))


def _check_states(s3: Any, where: Environment) -> None:
    """Raise `Failed` if the bucket for states has the state of another root, which would be lost."""
    if not _exists(s3, where.state_bucket):
        return
    own = f"{ROOTS[where.name]}/"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=where.state_bucket)
    names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    if others := [name for name in names if not name.startswith(own)]:
        raise Failed(
            f"the bucket {where.state_bucket} also has {others[0]}; nothing was removed",
            "Remove the other environment first, or move its state",
        )


def _exists(s3: Any, bucket: str) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def remove_bucket(s3: Any, bucket: str) -> None:
    """Delete every version, delete marker and open upload of the bucket, then the bucket."""
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", ()):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    # The first page again and again: what it had is deleted.
    while True:
        page = s3.list_object_versions(Bucket=bucket, MaxKeys=BATCH)
        entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if not entries:
            break
        keys = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        if errors := answer.get("Errors"):
            first = f"{errors[0]['Key']}: {errors[0]['Code']}"
            raise Failed(
                f"{len(errors)} versions in {bucket} cannot be deleted, such as {first}",
                "You need s3:DeleteObjectVersion. Object Lock keeps a version until its time",
            )
    s3.delete_bucket(Bucket=bucket)


# --- on this machine


def _on_this_machine(engine: docker.DockerClient, where: Environment) -> Iterator[Found]:
    assert where.emulated is not None
    emulated = where.emulated
    if emulated_aws.tasks(engine, emulated, every=False):
        raise Failed("tasks of the local stack still run", "Remove it first: make destroy ENV=local")
    yield from _of_compose(engine, COMPOSE_PROJECT)
    yield from _of_emulated(engine, emulated, f"the volume {emulated.volume} of the emulated AWS")
    for name in REHEARSALS.values():
        yield from _of_emulated(
            engine, replace(emulated, name=name), f"the emulated AWS {name} of a rehearsal"
        )
    if DATA.exists():
        _check_unused(DATA)
        yield Found(f"the directory {DATA}", lambda: shutil.rmtree(DATA))


def _of_emulated(engine: docker.DockerClient, emulated: EmulatedAws, what: str) -> Iterator[Found]:
    """An emulated AWS that has a container or a volume. A failed rehearsal leaves both."""
    volumes = {volume.name for volume in engine.volumes.list()}
    if emulated_aws.container(engine, emulated) or emulated.volume in volumes:
        yield Found(what, lambda: emulated_aws.purge(engine, emulated))


def _of_compose(engine: docker.DockerClient, project: str) -> Iterator[Found]:
    """The volumes of `make up`, with the stopped containers that hold them."""
    label: dict[str, Any] = {"label": f"com.docker.compose.project={project}"}
    if engine.containers.list(filters=label):
        raise Failed("containers of `make up` still run", "Stop them first: make down")
    for container in engine.containers.list(all=True, filters=label, ignore_removed=True):
        yield Found(f"the container {container.name} of make up", container.remove)
    for volume in engine.volumes.list(filters=label):
        yield Found(f"the volume {volume.name} of make up", volume.remove)


def _check_unused(data: Path) -> None:
    """`make run` holds a lock in its directory while it runs."""
    lock = data / "lock"
    if not lock.exists():
        return
    with closing(lock.open("r+")) as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"`make run` uses {data}", "Stop it first, with Ctrl-C") from None
