"""The image: built and pushed with the Docker SDK, and named by its digest."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import docker
from botocore.exceptions import ClientError
from docker.errors import APIError, BuildError, DockerException

from deploy import base_image
from deploy.environments import CHECKOUT, Environment
from deploy.steps import Failed, Reporter

_TAG_LENGTH = 16


def engine() -> docker.DockerClient:
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except DockerException as error:
        raise Failed(
            f"no Docker engine answers: {error}", "Install Docker, start it, and try again"
        ) from None
    return client


def build(
    client: docker.DockerClient,
    report: Reporter,
    name: str,
    *,
    context: Path = CHECKOUT,
    dockerfile: str = "docker/Dockerfile",
    arguments: dict[str, str] | None = None,
) -> str:
    """Build an image; its id. What the engine has done before, it does not do again.

    BASE_IMAGE in the environment builds on another base than the Dockerfile's, such as one without a digest
    where no registry can be reached.
    """
    said: list[str] = []
    arguments = dict(arguments or {})
    if (base := base_image.read(context / dockerfile)) is not None:
        if other := os.environ.get("BASE_IMAGE"):
            arguments["BASE_IMAGE"] = other
            report.say(f"the base image is {other}, by BASE_IMAGE")
        elif base.digest is None:
            report.say(f"the base image {base.name} is not pinned: make base-image pins it")
    try:
        for event in client.api.build(
            path=str(context),
            dockerfile=dockerfile,
            tag=name,
            buildargs=arguments,
            rm=True,
            decode=True,
        ):
            if "error" in event:
                tail = "".join(said[-15:]).strip()
                raise Failed(
                    f"{dockerfile} does not build: {event['error'].strip()}", f"The build ended with:\n{tail}"
                )
            text = event.get("stream", "")
            said.append(text)
            if text.startswith("Step "):
                report.say(text.strip()[:100])
    except (APIError, BuildError) as error:
        raise Failed(f"{dockerfile} does not build: {error}") from None
    return str(client.images.get(name).id)


def revision() -> str:
    """The commit that the image is made from, with a mark where files differ from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def push(
    client: docker.DockerClient, environment: Environment, image_id: str, repository: str, report: Reporter
) -> str:
    """Put the image into the repository, unless it is there. Returns its reference, which holds its digest.

    The tag is the image's own id, so a tag never moves.
    """
    tag = image_id.removeprefix("sha256:")[:_TAG_LENGTH]
    ecr = environment.client("ecr")
    name = repository.partition("/")[2]
    if digest := _stored(ecr, name, tag):
        report.say(f"{tag} is there already")
        return f"{repository}@{digest}"
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    client.images.get(image_id).tag(repository, tag)
    events = client.api.push(
        repository, tag, stream=True, decode=True, auth_config={"username": user, "password": password}
    )
    digest = _follow(events, report)
    stored = _stored(ecr, name, tag)
    if not digest or stored != digest:
        raise Failed(
            f"the registry holds {stored or 'nothing'} under {tag}, and {digest or 'nothing'} was pushed",
            "Push again: make deploy can be repeated",
        )
    report.say(f"{repository}@{digest}")
    return f"{repository}@{digest}"


def _stored(ecr: Any, repository: str, tag: str) -> str:
    """The digest of the image with that tag, or nothing."""
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except ClientError as error:
        if error.response["Error"]["Code"] in {"ImageNotFoundException", "RepositoryNotFoundException"}:
            return ""
        raise
    return str(found[0]["imageDigest"]) if found else ""


def _follow(events: Any, report: Reporter) -> str:
    """Show the progress of a push; the digest that it ends with."""
    digest = ""
    sizes: dict[str, int] = {}
    told = 0
    for event in events:
        if "error" in event:
            raise Failed(
                f"the registry does not take the image: {event['error']}",
                "Push again: make deploy can be repeated",
            )
        digest = (event.get("aux") or {}).get("Digest", digest)
        sent = (event.get("progressDetail") or {}).get("current")
        if sent:
            sizes[event["id"]] = max(sent, sizes.get(event["id"], 0))
            if sum(sizes.values()) - told > 50_000_000:
                told = sum(sizes.values())
                report.say(f"{told // 1_000_000} MB of {len(sizes)} layers")
        elif event.get("status") in {"Pushed", "Layer already exists"}:
            report.say(f"{event.get('id', '')}: {event['status'].lower()}")
    return digest
