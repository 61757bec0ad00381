"""Docker for tests: the image as `make image` builds it, the compose file, containers of the API."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container

from deploy.container_commands import Ran, run_in
from local_servers import free_port, without_aws
from support.servers import ROOT, need

COMPOSE_FILE = ROOT / "docker" / "compose.yaml"
SCANNERS = ROOT / ".venv-scanners" / "bin"


@contextmanager
def docker_engine(timeout: int = 60) -> Iterator[docker.DockerClient]:
    """The engine of the `docker` command; its plug-ins buildx and compose are required.

    `timeout` is the limit of each call, in seconds.
    """
    need(shutil.which("docker"), "Docker is not installed")
    for plugin in ("buildx", "compose"):
        found = subprocess.run(["docker", plugin, "version"], capture_output=True, check=False)
        need(found.returncode == 0, f"Docker's plug-in {plugin} is not installed")
    try:
        client = docker.from_env(timeout=timeout)
    except DockerException as error:
        need(False, f"No docker engine answers: {error}")
        raise
    try:
        yield client
    finally:
        client.close()


def image_or_need(engine: docker.DockerClient, name: str) -> None:
    """Require the image; pull it when this machine does not have it."""
    with suppress(ImageNotFound):
        engine.images.get(name)
        return
    try:
        engine.images.pull(name)
    except APIError as error:
        need(False, f"The image {name} is not on this machine and cannot be pulled: {error.explanation}")


def remove_pushed_images(engine: docker.DockerClient, repository: str) -> None:
    """Remove the names that images got in a registry of this machine, such as 127.0.0.1:5000/day02."""
    for image in engine.images.list(name=repository):
        for tag in image.tags:
            if tag.startswith("127.0.0.1:"):
                engine.images.remove(tag, noprune=True)


def of_cluster(tasks: Sequence[Container], name: str) -> list[Container]:
    """Those of the containers that belong to the ECS cluster of this name."""
    return [task for task in tasks if task.labels["com.amazonaws.ecs.cluster"].endswith(f":cluster/{name}")]


# --- the image


def copy_context(to: Path) -> Path:
    """Copy the files of a build, so that later edits do not disturb a test of caching."""
    for path in (".dockerignore", "docker/Dockerfile", "services/requirements.txt"):
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, to / path)
    shutil.copytree(
        ROOT / "services" / "s3api", to / "services" / "s3api", ignore=shutil.ignore_patterns("__pycache__")
    )
    return to


@functools.cache
def revision() -> str:
    """The commit that was checked out at the first call."""
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


@dataclass(frozen=True)
class Build:
    """A build. `executed` has the instructions that did not come from the cache."""

    executed: Sequence[str]


def build(context: Path, tag: str) -> Build:
    """Build the image as `make image` does, with the same DOCKER_BUILD_FLAGS."""
    command = ["docker", "build", "--progress=plain", "-f", str(context / "docker" / "Dockerfile"), "-t", tag]
    command += ["--build-arg", f"REVISION={revision()}", "--build-arg", "VERSION=0"]
    command += shlex.split(os.environ.get("DOCKER_BUILD_FLAGS", ""))
    done = subprocess.run(
        [*command, str(context)],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    steps = dict(re.findall(r"^#(\d+) \[[^\]]+\] ((?:RUN|COPY|WORKDIR) .*)$", done.stdout, re.MULTILINE))
    cached = set(re.findall(r"^#(\d+) CACHED", done.stdout, re.MULTILINE))
    return Build([step for number, step in steps.items() if number not in cached])


# --- what runs


def output_of(container: Container, *command: str, user: str = "") -> str:
    """The output of a command in a container, which must succeed."""
    ran = run_in(container, *command, user=user)
    assert ran.status == 0, ran.output
    return ran.output.strip()


@dataclass
class Api:
    """A running container of the service, and its URL on this machine."""

    container: Container
    url: str

    def at(self, route: str, name: str = "") -> str:
        return f"{self.url}{route}{quote(name, safe='')}"

    def attribute(self, *path: str) -> Any:
        """The current value in `docker inspect`."""
        self.container.reload()
        value: Any = self.container.attrs
        for key in path:
            value = value[key]
        return value

    def run(self, *command: str, user: str = "") -> Ran:
        return run_in(self.container, *command, user=user)

    def output(self, *command: str, user: str = "") -> str:
        return output_of(self.container, *command, user=user)

    def peak_bytes(self) -> int:
        """The peak memory, with tmpfs."""
        return int(self._from_cgroup("memory.peak", "memory/memory.max_usage_in_bytes"))

    def bytes_now(self) -> int:
        return int(self._from_cgroup("memory.current", "memory/memory.usage_in_bytes"))

    def cpu_seconds(self) -> float:
        """The processor time that all processes have used since the start."""
        told = self._from_cgroup("cpu.stat", "cpuacct/cpuacct.usage").split()
        return int(told[1]) / 1e6 if told[0] == "usage_usec" else int(told[0]) / 1e9

    def oom_kills(self) -> int:
        """The number of processes that the kernel has killed; Docker's OOMKilled is about process 1 only."""
        told = self._from_cgroup("memory.events", "memory/memory.oom_control")
        return int(dict(line.split() for line in told.splitlines())["oom_kill"])

    def _from_cgroup(self, unified: str, legacy: str) -> str:
        return self.output(
            "sh", "-c", f"cd /sys/fs/cgroup; if [ -e {unified} ]; then cat {unified}; else cat {legacy}; fi"
        )

    def logs(self) -> str:
        return self.container.logs().decode()

    def assert_never_out_of_memory(self) -> None:
        assert self.oom_kills() == 0, self.logs()[-3000:]
        assert self.attribute("State", "OOMKilled") is False
        assert self.attribute("State", "Status") == "running"
        assert self.attribute("RestartCount") == 0


@dataclass(frozen=True)
class Compose:
    """docker/compose.yaml as a separate project, on free ports."""

    project: str
    image: str
    profiles: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    s3_port: int = field(default_factory=free_port)

    def __call__(self, *arguments: str) -> str:
        """Run `docker compose` with these settings and nothing else of AWS or compose in the environment."""
        clean = {k: v for k, v in without_aws(os.environ).items() if not k.startswith("COMPOSE_")}
        profiles = [f"--profile={profile}" for profile in self.profiles]
        done = subprocess.run(
            ["docker", "compose", "-p", self.project, "-f", str(COMPOSE_FILE), *profiles, *arguments],
            env={
                **clean,
                "S3API_IMAGE": self.image,
                "S3API_PORT": str(self.port),
                "S3_PORT": str(self.s3_port),
                **self.settings,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    def api(self, engine: docker.DockerClient) -> Api:
        return Api(self.container(engine, "api"), f"http://127.0.0.1:{self.port}")

    def container(self, engine: docker.DockerClient, service: str) -> Container:
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        (found,) = engine.containers.list(all=True, filters={"label": labels})
        return found

    def left(self, engine: docker.DockerClient) -> list[str]:
        """The names of the project's containers, networks and volumes that still exist."""
        mine: dict[str, str | list[str] | bool] = {"label": f"com.docker.compose.project={self.project}"}
        things: list[Any] = [*engine.containers.list(all=True, filters=mine)]
        things += engine.networks.list(filters=mine)
        things += engine.volumes.list(filters=mine)
        return [thing.name for thing in things]


#: Starts another container of the service with other settings and the limits of the composed one, and waits
#: until the route `ready` answers.
MakeApi = Callable[..., Api]


@contextmanager
def running_like(engine: docker.DockerClient, model: Api, **settings: str) -> Iterator[Api]:
    """A container with the image, network, limits and settings of the model, changed by `settings`."""
    config, host = model.attribute("Config"), model.attribute("HostConfig")
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    port = free_port()
    container = engine.containers.run(
        config["Image"],
        detach=True,
        environment={**environment, **{name.upper(): value for name, value in settings.items()}},
        ports={"5000/tcp": ("127.0.0.1", port)},
        network=host["NetworkMode"],
        volumes=[
            f"{mount['Name']}:{mount['Destination']}:ro"
            for mount in model.attribute("Mounts")
            if mount["Type"] == "volume"
        ],
        read_only=host["ReadonlyRootfs"],
        cap_drop=host["CapDrop"],
        security_opt=host["SecurityOpt"],
        tmpfs=host["Tmpfs"],
        mem_limit=host["Memory"],
        memswap_limit=host["MemorySwap"],
        pids_limit=host["PidsLimit"],
    )
    try:
        yield Api(container, f"http://127.0.0.1:{port}")
    finally:
        container.remove(force=True, v=True)
