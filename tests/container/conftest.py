"""Fixtures: the engine, the image, the composed service, and other containers of the image."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest
import requests
from docker.models.images import Image

from support.containers import (
    Api,
    Compose,
    MakeApi,
    build,
    copy_context,
    docker_engine,
    image_or_need,
    running_like,
)
from support.localstack import IMAGE as LOCALSTACK
from support.servers import until


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    with docker_engine() as client:
        yield client


@pytest.fixture(scope="session")
def run_id() -> str:
    return f"s3api-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def build_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_context(tmp_path_factory.mktemp("context"))


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient, run_id: str, build_context: Path) -> Iterator[Image]:
    tag = f"{run_id}:first"
    build(build_context, tag)
    yield engine.images.get(tag)
    engine.images.remove(tag)


@pytest.fixture(scope="session")
def compose(engine: docker.DockerClient, run_id: str, image: Image) -> Iterator[Compose]:
    """The compose file as a user starts it. Everything is removed at the end."""
    image_or_need(engine, LOCALSTACK)
    project = Compose(run_id, image.tags[0])
    try:
        project("up", "-d", "--wait")
        yield project
    finally:
        project("down", "--volumes")
    assert project.left(engine) == []


@pytest.fixture(scope="session")
def composed(compose: Compose, engine: docker.DockerClient) -> Api:
    return compose.api(engine)


@pytest.fixture
def make_api(engine: docker.DockerClient, composed: Api) -> Iterator[MakeApi]:
    with ExitStack() as stack:

        def make(*, ready: str = "/readyz", **settings: str) -> Api:
            api = stack.enter_context(running_like(engine, composed, **settings))
            if ready:
                until(lambda: _answers(api, ready), f"{ready} answers")
            return api

        yield make


def _answers(api: Api, route: str) -> bool:
    try:
        return requests.get(api.at(route), timeout=5).ok
    except requests.RequestException:
        return False
