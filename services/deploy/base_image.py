"""`make base-image`: pins the base image of the Dockerfiles to its newest digest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.environments import CHECKOUT
from deploy.steps import Failed, Reporter, explain

DOCKERFILES = tuple(sorted((CHECKOUT / "docker").rglob("Dockerfile")))
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LINE = re.compile(rf"^ARG BASE_IMAGE=(?P<name>[^\s@]+)(?:@(?P<digest>{_DIGEST.pattern}))?$", re.MULTILINE)


@dataclass(frozen=True)
class BaseImage:
    """A name such as debian:trixie-slim, and the digest that pins it; None if it is not pinned."""

    name: str
    digest: str | None


def read(dockerfile: Path) -> BaseImage | None:
    """The base image that the Dockerfile names in ARG BASE_IMAGE, or None."""
    found = _LINE.search(dockerfile.read_text(encoding="utf-8"))
    return BaseImage(found["name"], found["digest"]) if found else None


def newest(name: str) -> str:
    """The current digest of the name in its registry, for all platforms together."""
    try:
        done = subprocess.run(
            ["docker", "buildx", "imagetools", "inspect", name, "--format", "{{json .Manifest}}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"cannot ask the registry of {name}: {error}", "Install Docker with buildx") from None
    if done.returncode:
        raise Failed(
            f"cannot ask the registry of {name}: {done.stderr.strip()[-500:]}",
            "Nothing was changed. Try again on a machine that can reach the registry",
        )
    digest = str(json.loads(done.stdout).get("digest"))
    if not _DIGEST.fullmatch(digest):
        raise Failed(f"the registry of {name} returned no digest", "Nothing was changed")
    return digest


def pin(dockerfiles: Iterable[Path], report: Reporter) -> None:
    """Write the newest digest into the Dockerfiles, which must all have the same base image."""
    paths = list(dockerfiles)
    images = {read(path) for path in paths}
    if len(images) != 1 or None in images:
        raise Failed(
            "the Dockerfiles do not name one base image", "Write the same ARG BASE_IMAGE into all of them"
        )
    (image,) = images
    assert image is not None
    digest = newest(image.name)
    if digest == image.digest:
        report.line(f"{image.name} is already pinned to the newest digest: {digest}")
        return
    for path in paths:
        text = _LINE.sub(f"ARG BASE_IMAGE={image.name}@{digest}", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    report.line(f"{image.name} is now pinned to {digest}; before: {image.digest or 'not pinned'}")


def main() -> int:
    report = Reporter()
    try:
        pin(DOCKERFILES, report)
    except Failed as failure:
        failure.step = "base image"
        report.line(explain(failure, "base-image"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
