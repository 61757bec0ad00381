"""One emulated AWS for the session, at an address that `make deploy ENV=local` does not use; one stack on it.

`make test` runs the tests of the stack in one process, and many of the others in another at the same time.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from deploy import commands, emulated_aws
from deploy.environments import EmulatedAws, Environment
from deploy.image import build, push
from deploy.steps import Reporter
from local_servers import free_port
from support.containers import docker_engine, remove_pushed_images
from support.servers import need

#: The AWS SDKs accept the credentials of the stack's tasks only from this address.
FOR_THE_STACK = EmulatedAws(name="day02-aws-test", subnet="169.254.170.16/28", address="169.254.170.23")
WITHOUT_STACK = EmulatedAws(name="day02-aws-test-2", subnet="169.254.170.32/28", address="169.254.170.39")


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    with docker_engine(timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def aws(
    request: pytest.FixtureRequest, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """The emulated AWS with its data bucket, used as its root. Everything is removed at the end."""
    with_stack = any("stack" in getattr(item, "fixturenames", ()) for item in request.session.items)
    local = replace(
        FOR_THE_STACK if with_stack else WITHOUT_STACK,
        aws_port=free_port(),
        api_port=free_port(),
        keys=tmp_path_factory.mktemp("keys"),
    )
    emulated_aws.purge(engine, local)  # left by a run that was killed
    image = f"s3api:{local.name}"
    bucket = f"day02-{uuid.uuid4().hex[:12]}"
    environment = Environment(
        "local",
        bucket,
        f"{bucket}-tfstate",
        image=image,
        work=tmp_path_factory.mktemp("deploy"),
        emulated=local,
        credentials=emulated_aws.root_key(local),
    )
    try:
        emulated_aws.start(engine, local, Reporter())
        environment.client("s3").create_bucket(
            Bucket=environment.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        yield environment
    finally:
        emulated_aws.purge(engine, local)
        remove_pushed_images(engine, f"127.0.0.1:{local.aws_port}/day02")
        with suppress(ImageNotFound):
            engine.images.remove(image, noprune=True)


@pytest.fixture(scope="session")
def task_image(aws: Environment, engine: docker.DockerClient) -> Iterator[str]:
    """The service's image in the emulated registry, by digest. Tasks may use no other image."""
    report = Reporter()
    image_id = build(engine, report, aws.image)
    repository = aws.client("ecr").create_repository(repositoryName="tasks")["repository"]["repositoryUri"]
    yield push(engine, aws, image_id, repository, report)
    aws.client("ecr").delete_repository(repositoryName="tasks", force=True)


@pytest.fixture(scope="session")
def stack(aws: Environment) -> Environment:
    """The stack, deployed to the emulated AWS by the code of `make deploy`, used as the deployer."""
    need(shutil.which("terraform"), "terraform is not on the PATH")
    report = Reporter()
    deployer = commands.prepare_all(aws, report)
    commands.release(deployer, report)
    return deployer


@pytest.fixture(scope="session")
def api(stack: Environment) -> str:
    assert stack.emulated is not None
    return f"http://127.0.0.1:{stack.emulated.api_port}"


@pytest.fixture
def dockerfile(tmp_path: Path, stack: Environment) -> tuple[Path, Environment]:
    """The path of a Dockerfile to write, and an environment that builds its image from it."""
    path = tmp_path / "Dockerfile"
    return path, replace(stack, dockerfile=str(path), image=f"{stack.image}-other")
