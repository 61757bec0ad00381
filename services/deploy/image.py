"""Builds the image and pushes it with the Docker SDK. Its reference contains its digest."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import docker
from botocore.exceptions import ClientError
from docker.errors import APIError, BuildError, DockerException

from deploy import base_image
from deploy.environments import CHECKOUT, Environment
from deploy.steps import Failed, Reporter

_ID_LENGTH = 16
_REVISION_LABEL = "org.opencontainers.image.revision"
_TAG = re.compile(rf"(.+)-[0-9a-f]{{{_ID_LENGTH}}}$")
_NOT_STORED = {"ImageNotFoundException", "RepositoryNotFoundException"}


def docker_engine() -> docker.DockerClient:
    try:
        engine = docker.from_env(timeout=120)
        engine.ping()
    except DockerException as error:
        raise Failed(
            f"no Docker engine answers: {error}", "Install Docker, start it, and try again"
        ) from None
    return engine


def build(
    engine: docker.DockerClient,
    report: Reporter,
    name: str,
    *,
    context: Path = CHECKOUT,
    dockerfile: str = "docker/Dockerfile",
    arguments: dict[str, str] | None = None,
    architecture: str | None = None,
) -> str:
    """Build an image and return its id. The engine reuses the layers that it has built before.

    `architecture` is that of the machines that will run it; None is the engine's own.

    The environment variable BASE_IMAGE replaces the Dockerfile's base image, for example by one without a
    digest on a machine that reaches no registry.
    """
    said: list[str] = []
    arguments = dict(arguments or {})
    if (base := base_image.read(context / dockerfile)) is not None:
        if other := os.environ.get("BASE_IMAGE"):
            arguments["BASE_IMAGE"] = other
            report.say(f"the base image is {other} (BASE_IMAGE)")
        elif base.digest is None:
            report.say(f"the base image {base.name} is not pinned: make base-image pins it")
    try:
        for event in engine.api.build(
            path=str(context),
            dockerfile=dockerfile,
            tag=name,
            buildargs=arguments,
            platform=f"linux/{architecture}" if architecture else None,
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
    built = engine.images.get(name)
    if architecture and (found := built.attrs["Architecture"]) != architecture:
        raise Failed(
            f"the image is for {found}, and the instances are {architecture}: its tasks could not start",
            f"Its base image must be for {architecture}: docker pull --platform linux/{architecture} … "
            "A machine of another architecture also needs emulation: docker run --privileged --rm "
            "tonistiigi/binfmt --install all",
        )
    return str(built.id)


def revision() -> str:
    """The commit of the checkout, with `-dirty` if files differ from it that can be in the image.

    An operator writes values of variables into envs, which the image does not contain.
    """
    try:
        commit = _git("rev-parse", "HEAD").strip()
        differs = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)envs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if differs else commit


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout


def commit_of(environment: Environment, reference: str) -> str:
    """The commit of an image in the registry, by its tags; `unknown` if no tag names it."""
    repository, _, digest = reference.partition("@")
    try:
        found = environment.client("ecr").describe_images(
            repositoryName=repository.partition("/")[2], imageIds=[{"imageDigest": digest}]
        )["imageDetails"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_STORED:
            return "unknown"
        raise
    tags = [match for image in found for tag in image.get("imageTags", ()) if (match := _TAG.match(tag))]
    return tags[-1][1] if tags else "unknown"


def push(
    engine: docker.DockerClient, environment: Environment, image_id: str, repository: str, report: Reporter
) -> str:
    """Push the image unless the repository has it. Return its reference, which contains its digest.

    The tag is the image's commit and the start of its id, so a tag never moves to another image.
    """
    commit = engine.images.get(image_id).labels.get(_REVISION_LABEL, "unknown")
    tag = f"{commit}-{image_id.removeprefix('sha256:')[:_ID_LENGTH]}"
    ecr = environment.client("ecr")
    name = repository.partition("/")[2]
    if digest := _stored(ecr, name, tag):
        report.say(f"the repository already has {tag}")
        return f"{repository}@{digest}"
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    engine.images.get(image_id).tag(repository, tag)
    events = engine.api.push(
        repository, tag, stream=True, decode=True, auth_config={"username": user, "password": password}
    )
    pushed = _follow(events, report)
    stored = _stored(ecr, name, tag)
    if not stored or pushed not in {"", stored}:
        raise Failed(
            f"the registry has {stored or 'nothing'} under {tag}, but {pushed or 'an image'} was pushed",
            "Run the same command again: it pushes again",
        )
    report.say(f"{repository}@{stored}")
    return f"{repository}@{stored}"


def _stored(ecr: Any, repository: str, tag: str) -> str:
    """The digest of the image with that tag, or an empty string."""
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_STORED:
            return ""
        raise
    return str(found[0]["imageDigest"]) if found else ""


def _follow(events: Any, report: Reporter) -> str:
    """Report the progress of a push. Return the digest that was pushed, or an empty string.

    An engine with containerd's image store, the default since Engine 29, sends no digest
    (github.com/moby/moby/issues/48331).
    """
    digest = ""
    sizes: dict[str, int] = {}
    reported = 0
    for event in events:
        if "error" in event:
            raise Failed(
                f"the registry refuses the image: {event['error']}",
                "Run the same command again: it pushes again",
            )
        digest = (event.get("aux") or {}).get("Digest", digest)
        sent = (event.get("progressDetail") or {}).get("current")
        if sent:
            sizes[event["id"]] = max(sent, sizes.get(event["id"], 0))
            if sum(sizes.values()) - reported > 50_000_000:
                reported = sum(sizes.values())
                report.say(f"{reported // 1_000_000} MB of {len(sizes)} layers")
        elif event.get("status") in {"Pushed", "Layer already exists"}:
            report.say(f"{event.get('id', '')}: {event['status'].lower()}")
    return digest
