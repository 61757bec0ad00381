"""The works of the image: more tasks behind a balancer, its size, and its time to healthy."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import urllib3

from bench import opponents
from bench.client import load, request_bytes
from bench.stage import JSON, OURS, Bar, Contestant, Metric, Stage, Work
from local_servers import free_port
from support.servers import ROOT, service_environment, until

TASKS = (1, 2, 4)
TASK_CPUS = 0.25


def tasks(stage: Stage) -> Work | None:
    """Upload plans by 1, 2 and 4 containers behind HAProxy; each container has a quarter of a CPU."""
    if reason := opponents.missing("haproxy") or opponents.missing("docker"):
        stage.absent[OURS] = reason
        return None
    _build_image(stage)
    ports = [stage.enter_context(_task(stage, number)) for number in range(max(TASKS))]
    fronts = stage.enter_context(_haproxy(stage, ports))
    body = b'{"name": "reports/plan.csv", "size": 4}'

    def rate(tasks: int) -> float:
        url = f"http://127.0.0.1:{fronts[tasks]}"
        asked = request_bytes("POST", f"{url}/uploads", JSON, body)
        return load(
            url, [asked], connections=8 * tasks, seconds=3 * stage.sizes.seconds, contains=b"x-amz-signature"
        ).rate

    def measure() -> Mapping[str, float]:
        rates = {tasks: rate(tasks) for tasks in TASKS}
        figures = {f"rate{tasks}": value for tasks, value in rates.items()}
        return {**figures, **{f"linear{n}": rates[n] / (n * rates[1]) for n in TASKS[1:]}}

    for tasks in TASKS:
        rate(tasks)
    return Work(
        "More tasks: 1, 2 and 4 containers of 0.25 CPU behind HAProxy",
        "The kernel's quota limits each container; upload plans, 8 connections for each container. Linear is "
        "the rate of one container times their number.",
        [
            *(Metric(f"rate{n}", f"{n} container{'s' if n > 1 else ''}", "requests/s", 0) for n in TASKS),
            *(Metric(f"linear{n}", f"{n} of linear", "", 2) for n in TASKS[1:]),
        ],
        [Contestant(OURS, "ours", measure)],
        [Bar(f"linear{n}", at_least=0.95) for n in TASKS[1:]],
        stage.sizes.long_rounds,
    )


IMAGE = "s3api:bench"


def _build_image(stage: Stage) -> None:
    """Build the image as `make image` does, with DOCKER_BUILD_FLAGS; remove it when the stage ends."""
    stage.callback(subprocess.run, ["docker", "rmi", IMAGE], capture_output=True, check=False)
    built = subprocess.run(
        ["make", "image", f"IMAGE={IMAGE}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if built.returncode:
        raise RuntimeError(f"the image was not built: {built.stdout[-1000:]}")


@contextmanager
def _container(name: str, settings: Mapping[str, str], *options: str) -> Iterator[None]:
    """A container of the image with these settings; removed at the end."""
    name = f"s3api-bench-{os.getpid()}-{name}"
    command = ["docker", "run", "--detach", "--name", name, "--memory", "384m", *options]
    for key, value in settings.items():
        command += ["--env", f"{key}={value}"]
    try:
        subprocess.run([*command, IMAGE], capture_output=True, check=True)
        yield
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


@contextmanager
def _task(stage: Stage, number: int) -> Iterator[int]:
    """A container with its share of a CPU, on a free port of loopback."""
    port = free_port()
    settings = service_environment(stage.s3, stage.bucket, stage.directory, port=port, metrics_port=0)
    ours = {"PORT", "METRICS_PORT", "BUCKET", "SIGNING_KEY", "ALLOW_ANONYMOUS", "LOG_FORMAT"}
    given = {k: v for k, v in settings.items() if k in ours or k.startswith("AWS_")}
    given["HOST"] = "127.0.0.1"
    options = ["--network", "host", f"--cpus={TASK_CPUS}", "--no-healthcheck"]
    with _container(f"task-{number}", given, *options):
        until(lambda: _answers(f"http://127.0.0.1:{port}/livez"), "a container answers", 60)
        yield port


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        return urllib3.request("GET", url, timeout=1.0, retries=False).status == 200
    return False


@contextmanager
def _haproxy(stage: Stage, ports: Sequence[int]) -> Iterator[Mapping[int, int]]:
    """HAProxy with a port for each number of tasks; it balances as the load balancer of the stack does."""
    fronts = {tasks: free_port() for tasks in TASKS}
    lines = [
        "global",
        "  nbthread 1",
        "defaults",
        "  mode http",
        "  balance leastconn",
        "  http-reuse always",
    ]
    lines += ["  timeout connect 10s", "  timeout client 60s", "  timeout server 60s"]
    for tasks, front in fronts.items():
        lines += [f"listen tasks-{tasks}", f"  bind 127.0.0.1:{front}"]
        lines += [f"  server task-{port} 127.0.0.1:{port}" for port in ports[:tasks]]
    file = stage.directory / "haproxy.cfg"
    file.write_text("\n".join([*lines, ""]))
    process = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(file)], start_new_session=True)
    try:
        until(lambda: _answers(f"http://127.0.0.1:{fronts[1]}/livez"), "HAProxy answers")
        yield fronts
    finally:
        process.kill()
        process.wait()


# --- the image


def image(stage: Stage) -> Work | None:
    """The size of the image over its base, and the time until the engine calls a container healthy."""
    if reason := opponents.missing("docker"):
        stage.absent[OURS] = reason
        return None
    _build_image(stage)
    megabytes = _bytes_over_base() / 1e6
    settings = {"BUCKET": "day02-unused", "SIGNING_KEY": "0" * 32, "ALLOW_ANONYMOUS": "true"}

    def measure() -> Mapping[str, float]:
        name = f"s3api-bench-{os.getpid()}-healthy"
        # The health check asks without S3, and inside the container, so no network is needed.
        with _container("healthy", settings, "--network", "none"):
            first = until(lambda: _first_success(name), "the container is healthy", 60)
        return {"size": megabytes, "healthy": first}

    return Work(
        "The image: size, and time until a container is healthy",
        "The size is that of the layers over the base image. The time is from the start of a container to "
        "the end of its first successful health check, by the engine's clock.",
        [Metric("size", "size over the base", "MB", 0), Metric("healthy", "healthy after", "s", 2)],
        [Contestant(OURS, "ours", measure)],
        [Bar("size", at_most=80), Bar("healthy", at_most=2)],
        stage.sizes.long_rounds,
    )


def _bytes_over_base() -> int:
    """The sum of the layers that the build made; those of the base have another comment, or none."""
    history = _docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.Comment}}", IMAGE)
    layers = [line.partition("\t") for line in history.splitlines()]
    return sum(int(size) for size, _, comment in layers if comment.startswith("buildkit"))


def _first_success(name: str) -> float | None:
    """Seconds from the start of the container to the end of its first successful health check."""
    state = json.loads(_docker("inspect", "--format", "{{json .State}}", name))
    ends = [check["End"] for check in state["Health"]["Log"] or () if check["ExitCode"] == 0]
    return (_time(ends[0]) - _time(state["StartedAt"])).total_seconds() if ends else None


def _time(value: str) -> datetime:
    """A time of the engine; Python reads microseconds, the engine writes nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", value))


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout
