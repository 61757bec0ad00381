"""`make base-image` pins the base image by a digest from its registry, here one on this machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import docker
import pytest

from deploy.base_image import DOCKERFILES, pin, read
from deploy.image import build
from deploy.steps import Failed, Reporter
from local_servers import free_port
from support.http_server import serving

INDEX = "application/vnd.oci.image.index.v1+json"  # OCI image specification, "Image Index"


@contextmanager
def registry(manifest: bytes, *, digest: str = "") -> Iterator[str]:
    """A registry that serves the manifest (OCI distribution specification, "Pulling manifests"); its host."""
    stated = digest or digest_of(manifest)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in ("/v2/debian/manifests/trixie-slim", f"/v2/debian/manifests/{stated}")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", INDEX)
            self.send_header("Docker-Content-Digest", stated)
            self.send_header("Content-Length", str(len(manifest)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(manifest)

        def do_HEAD(self) -> None:
            self.do_GET()

    with serving(Handler) as port:
        yield f"127.0.0.1:{port}"


def manifest(note: str) -> bytes:
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"note": note}}
    return json.dumps(index).encode()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Lines(Reporter):
    """Keeps the lines that are reported."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def dockerfiles(tmp_path: Path) -> Callable[[str], list[Path]]:
    """Copies of the Dockerfiles with the base image from another registry."""

    def copies(host: str) -> list[Path]:
        paths = []
        for number, path in enumerate(DOCKERFILES):
            original = path.read_text()
            text = re.sub(
                r"(?<=^ARG BASE_IMAGE=)\S+$", f"{host}/debian:trixie-slim", original, flags=re.MULTILINE
            )
            copy = tmp_path / f"Dockerfile.{number}"
            copy.write_text(text)
            paths.append(copy)
        return paths

    return copies


def test_every_dockerfile_has_the_same_base() -> None:
    """All Dockerfiles have the same base image, and BASE_IMAGE replaces it."""
    assert len(DOCKERFILES) == 3
    assert {image.name for path in DOCKERFILES if (image := read(path))} == {"debian:trixie-slim"}
    assert len({read(path) for path in DOCKERFILES}) == 1
    for path in DOCKERFILES:
        bases = re.findall(r"^FROM (\S+)", path.read_text(), re.MULTILINE)
        assert bases[0] == "${BASE_IMAGE}", path


@pytest.mark.usefixtures("engine")
def test_the_newest_digest_is_pinned(dockerfiles: Callable[[str], list[Path]]) -> None:
    """The registry's digest is written into every Dockerfile.

    A new digest replaces it; the same changes nothing.
    """
    first, second = manifest("first"), manifest("second")
    report = Lines()
    with registry(first) as host:
        paths = dockerfiles(host)
        unpinned = [path.read_text() for path in paths]
        pin(paths, report)
        pinned = [path.read_text() for path in paths]
        pin(paths, report)
        again = [path.read_text() for path in paths]

    with registry(second) as other:
        for path in paths:
            path.write_text(path.read_text().replace(host, other))
        pin(paths, report)

    name = f"{host}/debian:trixie-slim"
    for before, after in zip(unpinned, pinned, strict=True):
        assert after == before.replace(name, f"{name}@{digest_of(first)}", 1)
    assert again == pinned
    assert {image.digest for path in paths if (image := read(path))} == {digest_of(second)}
    assert report.lines[0] == f"{name} is now pinned to {digest_of(first)}; before: not pinned"
    assert "already" in report.lines[1]


def unreachable() -> AbstractContextManager[str]:
    @contextmanager
    def host() -> Iterator[str]:
        yield f"127.0.0.1:{free_port()}"

    return host()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "server",
    [
        unreachable,
        lambda: registry(manifest("other bytes"), digest=digest_of(b"what the registry claims")),
        lambda: registry(b"<html>a portal</html>", digest="latest"),
    ],
    ids=["unreachable", "other bytes than the digest's", "no registry"],
)
def test_a_digest_is_never_made_up(
    dockerfiles: Callable[[str], list[Path]],
    server: Callable[[], AbstractContextManager[str]],
) -> None:
    """A registry that is unreachable or lies changes no Dockerfile and gives an error."""
    with server() as host:
        paths = dockerfiles(host)
        before = [path.read_text() for path in paths]
        with pytest.raises(Failed, match="the registry of"):
            pin(paths, Lines())

    assert [path.read_text() for path in paths] == before


def test_a_pin_is_held_to(
    engine: docker.DockerClient, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pinned base image that is not available fails the build, unless BASE_IMAGE replaces it."""
    ours = read(DOCKERFILES[0])
    assert ours is not None
    absent = f"127.0.0.1:{free_port()}/debian:trixie-slim@sha256:{'0' * 64}"
    (tmp_path / "Dockerfile").write_text(
        f"ARG BASE_IMAGE={absent}\nFROM ${{BASE_IMAGE}}\nLABEL test=pinned\n"
    )
    tag = f"{run_id}:pinned"
    report = Lines()

    with pytest.raises(Failed, match="does not build"):
        build(engine, report, tag, context=tmp_path, dockerfile="Dockerfile")
    monkeypatch.setenv("BASE_IMAGE", ours.name)
    build(engine, report, tag, context=tmp_path, dockerfile="Dockerfile")
    engine.images.remove(tag)

    assert f"  the base image is {ours.name} (BASE_IMAGE)" in report.lines


def test_a_build_without_a_pin_says_so(engine: docker.DockerClient, run_id: str, tmp_path: Path) -> None:
    """A build reports a base image that is not pinned by a digest."""
    ours = read(DOCKERFILES[0])
    assert ours is not None
    (tmp_path / "Dockerfile").write_text(
        f"ARG BASE_IMAGE={ours.name}\nFROM ${{BASE_IMAGE}}\nLABEL test=tag\n"
    )
    report = Lines()
    build(engine, report, f"{run_id}:tag", context=tmp_path, dockerfile="Dockerfile")
    engine.images.remove(f"{run_id}:tag")

    assert f"  the base image {ours.name} is not pinned: make base-image pins it" in report.lines
