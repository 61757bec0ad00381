"""The content and the settings of the image."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from docker.models.images import Image

from deploy.container_commands import run_in
from support.containers import SCANNERS, build, output_of, revision
from support.servers import ROOT, need, until

MAX_BYTES_OVER_BASE = 80_000_000
DOCKERFILES = ["docker/Dockerfile", "docker/ministack/Dockerfile"]


@pytest.fixture(scope="module")
def shell(engine: docker.DockerClient, image: Image) -> Iterator[Container]:
    """A container of the image in which only the commands of the tests run."""
    container = engine.containers.run(
        image, ["60"], entrypoint="sleep", detach=True, network_mode="none", init=True
    )
    yield container
    container.remove(force=True)


def test_output_that_waits_for_its_reader(shell: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a command has ended before the client reads. `exec_run` of docker-py lost its output.

    https://github.com/docker/docker-py/issues/2042
    """
    assert shell.client
    api = shell.client.api
    begin, post = http.client.HTTPResponse.begin, api.post

    def read_late(response: http.client.HTTPResponse) -> None:
        monkeypatch.undo()
        until(lambda: not engine.api.exec_inspect(started[-1])["Running"], "the end of the command")
        begin(response)

    def start(url: str, **options: Any) -> Any:
        if url.endswith("/start"):
            started.append(url.split("/")[-2])
            monkeypatch.setattr(http.client.HTTPResponse, "begin", read_late)
        return post(url, **options)

    started: list[str] = []
    with closing(docker.from_env()) as engine:
        engine.ping()
        monkeypatch.setattr(api, "post", start)
        ran = run_in(shell, "sh", "-c", "echo one; echo two >&2; exit 3")

    assert len(started) == 1
    assert (ran.status, ran.stdout, sorted(ran.output.split())) == (3, "one\n", ["one", "two"])


def ours(image: Image) -> list[dict[str, Any]]:
    """The history of the image without that of its base."""
    return [entry for entry in image.history() if entry["Comment"].startswith("buildkit")]


def test_user(image: Image) -> None:
    """The image runs as a numeric user other than root, so that an orchestrator can check it."""
    assert image.attrs["Config"]["User"] == "10001:10001"


def test_entrypoint(image: Image) -> None:
    """The service is process 1, without a shell."""
    config = image.attrs["Config"]

    assert config["Entrypoint"] == ["python3", "-m", "s3api.serve"]
    assert not config["Cmd"]
    assert list(config["ExposedPorts"]) == ["5000/tcp"]


def test_health_check(image: Image) -> None:
    """The image's health check uses the service's probe of liveness."""
    check = image.attrs["Config"]["Healthcheck"]

    assert check["Test"] == ["CMD", "python3", "-m", "s3api.health", "http://127.0.0.1:5000/livez"]


def test_labels(image: Image) -> None:
    """The labels name the image, its version and its commit."""
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.labels.items()}

    assert labels["title"] == "s3api"
    assert labels["revision"] == revision()
    assert {"description", "licenses", "version"} < set(labels)


def test_size(image: Image) -> None:
    """The image adds no more than its budget to the base image."""
    size = sum(entry["Size"] for entry in ours(image))
    print(f"{size / 1e6:.0f} MB over the base image")

    assert 20_000_000 < size <= MAX_BYTES_OVER_BASE


def test_jwts(shell: Container) -> None:
    """The image verifies each kind of JWT, with Debian's cryptography."""
    program = """
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
for name, key in (
    ("RS256", rsa.generate_private_key(65537, 2048)),
    ("ES256", ec.generate_private_key(ec.SECP256R1())),
    ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
):
    token = jwt.encode({"sub": name}, key, name)
    print(jwt.decode(token, key.public_key(), [name])["sub"])
from s3api import jwt_tokens
"""
    assert output_of(shell, "python3", "-c", program).split() == ["RS256", "ES256", "EdDSA"]


def test_environment(image: Image) -> None:
    """The image's environment contains exactly these settings and no secret."""
    text = " ".join(entry["CreatedBy"] for entry in ours(image))
    names = {entry.partition("=")[0] for entry in image.attrs["Config"]["Env"]}
    set_by_us = {name for name in names if re.search(rf"\b{name}=", text)}

    assert set_by_us == {
        "HOST",
        "LOG_FORMAT",
        "MALLOC_ARENA_MAX",
        "MALLOC_MMAP_THRESHOLD_",
        "METRICS_PORT",
        "PATH",
        "PORT",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "REVISION",
        "STAGING_DIR",
    }


def test_history(image: Image) -> None:
    """No instruction of the image's history names a secret."""
    text = " ".join(entry["CreatedBy"] for entry in ours(image))

    assert not re.search(r"(?i)secret|password|token|signing_key|access_key|-----BEGIN|://[^/ ]*@", text)


def test_contents(shell: Container) -> None:
    """The image contains only the interpreter, the dependencies, the package and the staging directory."""
    assert output_of(shell, "ls", "-A", "/srv").split() == ["app", "uploads", "venv"]
    assert output_of(shell, "ls", "-A", "/srv/app").split() == ["s3api"]
    assert output_of(shell, "ls", "-A", "/srv/uploads") == ""
    assert output_of(shell, "stat", "-c", "%u:%g", "/srv/uploads") == "10001:10001"


def test_nothing_of_the_build_is_left(shell: Container) -> None:
    """The image contains no compiler, no pip and no package cache."""
    for program in ("gcc", "cc", "make", "pip", "pip3", "uv", "curl", "wget"):
        assert shell.exec_run(["sh", "-c", f"command -v {program}"])[0] != 0, program
    assert shell.exec_run(["python3", "-c", "import pip"])[0] != 0
    assert shell.exec_run(["python3", "-c", "import ensurepip._bundled"])[0] != 0

    left = output_of(
        shell, "sh", "-c", "find /var/lib/apt/lists /var/cache/apt /srv /tmp -type f 2>/dev/null || :"
    )
    assert [path for path in left.splitlines() if path.endswith((".deb", ".whl", "Packages", ".bin"))] == []


def test_the_user_owns_nothing_that_runs(shell: Container) -> None:
    """The service cannot change its own code, even if the root file system is writable."""
    assert output_of(shell, "find", "/srv/app", "/srv/venv", "-writable", "!", "-type", "l") == ""


def test_bytecode_is_there(shell: Container) -> None:
    """Every module is compiled in the image, because a read-only root allows no later compilation."""
    script = """
import importlib.util, pathlib, sysconfig
roots = ["/srv/app", "/srv/venv/lib", sysconfig.get_path("stdlib")]
files = [path for root in roots for path in pathlib.Path(root).rglob("*.py")]
missing = [str(path) for path in files if not pathlib.Path(importlib.util.cache_from_source(path)).exists()]
print(len(files) > 1000, missing)
"""

    assert output_of(shell, "python3", "-c", script) == "True []"


def test_modules_import(shell: Container) -> None:
    """The interpreter has the modules that the service needs, and botocore the services that it uses."""
    script = """
import ctypes, fcntl, mmap, sqlite3, ssl, zlib
import boto3, gunicorn.workers.ggevent, s3api.app, s3api.manage
for service in ("s3", "sts", "sso", "sso-oidc"):
    boto3.session.Session(region_name="eu-west-1").client(service)
assert ssl.create_default_context().get_ca_certs()
"""

    assert output_of(shell, "python3", "-W", "error", "-c", script) == ""


def test_operators_commands(shell: Container) -> None:
    """The operator's commands run in the image."""
    token = "python3 -m s3api token new --name ops 2>/dev/null"
    assert output_of(shell, "sh", "-c", token).startswith("s3api_")


# --- the cache


def test_second_build(engine: docker.DockerClient, image: Image, run_id: str, build_context: Path) -> None:
    """A second build of the same sources uses only the cache and gives the same image."""
    again = build(build_context, f"{run_id}:second")
    second = engine.images.get(f"{run_id}:second")
    engine.images.remove(f"{run_id}:second")

    assert again.executed == []
    assert second.attrs["RootFS"] == image.attrs["RootFS"]


def test_change_of_code(
    engine: docker.DockerClient, image: Image, run_id: str, build_context: Path, tmp_path: Path
) -> None:
    """A change of the code rebuilds only the layer of the code."""
    context = tmp_path / "context"
    shutil.copytree(build_context, context)
    with (context / "services" / "s3api" / "files.py").open("a") as file:
        file.write("\n# changed\n")
    changed = build(context, f"{run_id}:changed")
    layers = engine.images.get(f"{run_id}:changed").attrs["RootFS"]["Layers"]
    engine.images.remove(f"{run_id}:changed")

    assert all("/srv/app" in step for step in changed.executed), changed.executed
    assert layers[:-1] == image.attrs["RootFS"]["Layers"][:-1]
    assert layers[-1] != image.attrs["RootFS"]["Layers"][-1]


# --- scanners


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint(name: str) -> None:
    """hadolint finds nothing in the Dockerfiles except what they ignore with a reason."""
    hadolint = Path(sys.executable).parent / "hadolint"
    need(hadolint.exists(), "hadolint is not installed: `make test` does it")
    found = subprocess.run([hadolint, ROOT / name], capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout


def trivy(cache: Path, *arguments: str) -> list[dict[str, Any]]:
    """The findings of trivy by its built-in rules, without downloads."""
    program = SCANNERS / "trivy"
    need(program.exists(), "trivy is not installed: `make test` does it")
    done = subprocess.run(
        [
            program,
            "--quiet",
            f"--cache-dir={cache}",
            *arguments[:1],
            "--format=json",
            "--skip-check-update",
            "--skip-version-check",
            "--disable-telemetry",
            *arguments[1:],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout).get("Results", [])
    return [
        {"target": result["Target"], "id": found.get("ID") or found["RuleID"], "title": found["Title"]}
        for result in results
        for found in [*result.get("Misconfigurations", []), *result.get("Secrets", [])]
    ]


def test_bill_of_materials(image: Image, tmp_path: Path) -> None:
    """`make sbom` lists the content of the image: the locked dependencies and Debian's packages."""
    need((SCANNERS / "trivy").exists(), "trivy is not installed: `make test` does it")
    written = tmp_path / "sbom.json"
    recipe = subprocess.run(
        ["make", "--dry-run", "sbom", f"IMAGE={image.tags[0]}", f"SBOM={written}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (command,) = re.findall(r"^\S+/trivy image (?:.*\\\n)*.*$", recipe, re.MULTILINE)
    subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, "TRIVY_CACHE_DIR": str(tmp_path / "cache")},
        check=True,
        capture_output=True,
    )
    bill = json.loads(written.read_text())
    kinds: dict[str, dict[str, str]] = {"pypi": {}, "deb": {}}
    for component in bill["components"]:
        kind = component.get("purl", "").removeprefix("pkg:").partition("/")[0]
        name = re.sub(r"[-_.]+", "-", component["name"]).lower()  # PEP 503, "Normalized Names"
        kinds.setdefault(kind, {})[name] = component.get("version", "")
    lock = (ROOT / "services" / "requirements.txt").read_text()
    needed = re.findall(r"^([a-z0-9-]+)==(\S+?)(?: ;.*)? \\$", lock, re.MULTILINE)
    print(
        f"{len(bill['components'])} components: {len(kinds['pypi'])} of PyPI, {len(kinds['deb'])} of Debian"
    )

    assert (bill["bomFormat"], len(kinds["deb"]) > 50) == ("CycloneDX", True)
    assert "python3-minimal" in kinds["deb"]
    assert {"cryptography", "flask", "gunicorn", "boto3"} <= set(kinds["pypi"])
    del kinds["pypi"]["cryptography"]  # it is Debian's package, not a wheel
    for name, version in kinds["pypi"].items():
        assert (name, version) in needed, f"{name} {version} is not of the lock"


def scan_image(cache: Path, tag: str) -> list[dict[str, Any]]:
    scanners = ["--scanners=secret", "--image-config-scanners=misconfig,secret"]
    return trivy(cache, "image", "--image-src=docker", *scanners, tag)


def test_trivy_on_the_image(image: Image, tmp_path: Path) -> None:
    """trivy finds no secret in the image's files and nothing wrong in its configuration."""
    assert scan_image(tmp_path, image.tags[0]) == []


@pytest.mark.parametrize("name", DOCKERFILES)
def test_trivy_on_the_files(name: str, tmp_path: Path) -> None:
    """trivy finds nothing wrong in the Dockerfiles."""
    assert trivy(tmp_path, "config", str(ROOT / name)) == []


def test_trivy_would_find(engine: docker.DockerClient, image: Image, run_id: str, tmp_path: Path) -> None:
    """The same scan finds a planted secret and an image that runs as root."""
    key = "wJalrXUtnFEMI" + "K7MDENGbPxRfiCYabcdefghijkl"
    (tmp_path / "notes.txt").write_text(f'aws_secret_access_key = "{key}"\n')
    (tmp_path / "Dockerfile").write_text(f"FROM {image.tags[0]}\nUSER root\nCOPY notes.txt /srv/app/\n")
    tag = f"{run_id}:spoiled"
    subprocess.run(["docker", "build", "--quiet", "-t", tag, str(tmp_path)], capture_output=True, check=True)
    found = {one["id"] for one in scan_image(tmp_path / "cache", tag)}
    engine.images.remove(tag)

    assert {"aws-secret-access-key", "DS-0002"} <= found
