"""The servers that are measured: the service, its opponents, and the limits.

An opponent is what others run for the same work. A limit does the least that the work needs. Each server
starts on a free port of loopback and ends with its context. All of them get the same S3. All Python servers
run under gunicorn's gevent worker unless their name says otherwise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local_servers import REGION, free_port, stop, wait_for, without_aws
from support import nginx as nginx_server
from support.servers import ROOT, S3, explained_by, running_service, service_environment

HERE = Path(__file__).resolve().parent
OPPONENTS = ROOT / ".venv-bench" / "bin"
NODE_MODULES = HERE / "node_modules"
MiB = 1024 * 1024
GiB = 1024 * MiB


@dataclass(frozen=True)
class Server:
    """A running server: its URL, and what the kernel says of its processes."""

    url: str
    process: subprocess.Popen[bytes]

    def processes(self) -> list[int]:
        """The ids of the process that was started and of all below it."""
        found = [self.process.pid]
        for pid in found:  # grows while it is read
            for task in _entries(Path(f"/proc/{pid}/task")):
                found += [int(child) for child in _read(task / "children").split()]
        return found

    def cpu_seconds(self) -> float:
        """The CPU time of all its processes and their threads, user and system, to the nanosecond."""
        return sum(_cpu_seconds(pid) for pid in self.processes())

    def forget_peak(self) -> None:
        """Make `peak_mib` start again from the current memory."""
        for pid in self.processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """The peak resident memory of its largest process, in MiB."""
        return max(self._memory(pid, "status", "VmHWM") for pid in self.processes())

    def resident_mib(self) -> float:
        """The current resident memory of its largest process, in MiB."""
        return max(self._memory(pid, "status", "VmRSS") for pid in self.processes())

    def together_mib(self) -> float:
        """The current memory of all its processes, in MiB. Memory that they share counts once."""
        return sum(self._memory(pid, "smaps_rollup", "Pss:") for pid in self.processes())

    @staticmethod
    def _memory(pid: int, file: str, field: str) -> float:
        for line in _read(Path(f"/proc/{pid}/{file}")).splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return 0.0


def _cpu_seconds(pid: int) -> float:
    """The reading of the process's CPU clock (clock_getcpuclockid(3)); it has the threads that ended too."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:  # the process has ended
        return 0.0


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


def missing(tool: str) -> str | None:
    """Why a tool cannot be used on this machine, and how to install it; None when it can be used."""
    if tool == "node":
        if shutil.which("node") is None:
            return "Node is not installed (Debian: apt install nodejs npm)"
        if not NODE_MODULES.is_dir():
            return "its packages are not installed (`make bench` does it with npm)"
    elif tool in ("rclone", "flask") and not (OPPONENTS / tool).exists():
        return "its environment is not installed (`make bench` does it)"
    elif tool == "haproxy" and shutil.which(tool) is None:
        return "HAProxy is not installed (Debian: apt install haproxy)"
    elif tool == "nginx" and nginx_server.program() is None:
        return "nginx is not installed (Debian: apt install nginx-light)"
    elif tool == "docker":
        if shutil.which("docker") is None:
            return "Docker is not installed"
        if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
            return "no Docker engine answers"
    return None


@contextmanager
def started(
    name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path, *, answers_at: str
) -> Iterator[Server]:
    """Run a server on the PORT of its environment. It is ready when the path gives any answer."""
    url = f"http://127.0.0.1:{environment['PORT']}"
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**without_aws(os.environ), **environment},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=directory,
            start_new_session=True,
        )
    try:
        with explained_by(log):
            wait_for(url + answers_at, process, name, log)
        yield Server(url, process)
    finally:
        stop(process)


def _opponent_environment(s3: S3, bucket: str, directory: Path, port: int) -> dict[str, str]:
    files = directory / "files"
    files.mkdir(exist_ok=True)
    return {
        **s3.credentials,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "S3_URL": s3.url,
        "BUCKET": bucket,
        "PORT": str(port),
        "FILES": str(files),
    }


@contextmanager
def service(s3: S3, bucket: str, directory: Path, **settings: object) -> Iterator[Server]:
    """The service, configured as in the image, and with these settings."""
    with running_service(s3, bucket, directory / "service", malloc_arena_max=2, **settings) as running:
        yield Server(running.url, running.process)


@contextmanager
def bare_flask(s3: S3, bucket: str, directory: Path) -> Iterator[Server]:
    """A limit: the smallest Flask routes, with the service's environment and its gunicorn configuration."""
    port = free_port()
    environment = service_environment(
        s3, bucket, directory / "bare", port=port, metrics_port=0, malloc_arena_max=2, pythonpath=HERE
    )
    command = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "bare.conf.py"), "bare_flask:app"]
    with started("bare-flask", command, environment, directory, answers_at="/bare") as server:
        yield server


@contextmanager
def flask_boto3(s3: S3, bucket: str, directory: Path, *workers: str) -> Iterator[Server]:
    """Flask with boto3 under gunicorn, both at the service's versions; by default with one gevent worker."""
    port = free_port()
    environment = {
        **_opponent_environment(s3, bucket, directory, port),
        "PYTHONPATH": str(HERE),
        "MALLOC_ARENA_MAX": "2",
    }
    command = [str(OPPONENTS / "python")]
    if not workers:
        # gunicorn patches after it has imported ssl, and boto3's clients then recurse without end
        # (gunicorn #2515). gevent's own runner patches first.
        command += ["-m", "gevent.monkey"]
        workers = ("--worker-class", "gevent")
    command += [str(OPPONENTS / "gunicorn"), "--bind", f"127.0.0.1:{port}", "--keep-alive", "75"]
    command += ["--no-control-socket", "--worker-tmp-dir", "/dev/shm", *workers]
    name = "flask-" + "-".join(worker.strip("-") for worker in workers)
    with started(name, [*command, "flask_boto3:app"], environment, directory, answers_at="/livez") as server:
        yield server


@contextmanager
def companion(s3: S3, bucket: str, directory: Path) -> Iterator[Server]:
    """Uppy Companion."""
    port = free_port()
    environment = {**_opponent_environment(s3, bucket, directory, port), "NODE_ENV": "production"}
    command = ["node", str(HERE / "companion.mjs")]
    with started("companion", command, environment, directory, answers_at="/") as server:
        yield server


@contextmanager
def tus(s3: S3, bucket: str, directory: Path) -> Iterator[Server]:
    """@tus/server over @tus/s3-store."""
    port = free_port()
    environment = {
        **_opponent_environment(s3, bucket, directory, port),
        "NODE_ENV": "production",
        "TMPDIR": str(directory / "files"),
    }
    command = ["node", str(HERE / "tus.mjs")]
    with started("tus", command, environment, directory, answers_at="/files") as server:
        yield server


@contextmanager
def rclone(kind: str, s3: S3, bucket: str, directory: Path) -> Iterator[Server]:
    """`rclone serve`: `http` to read, `webdav` to write."""
    port = free_port()
    environment = {
        "PORT": str(port),
        "RCLONE_CONFIG": str(directory / "no-rclone.conf"),
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": s3.credentials["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": s3.credentials["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG_S3_ENDPOINT": s3.url,
        "RCLONE_CONFIG_S3_REGION": REGION,
        "RCLONE_CONFIG_S3_NO_CHECK_BUCKET": "true",
    }
    command = [str(OPPONENTS / "rclone"), "serve", kind, f"s3:{bucket}", "--addr", f"127.0.0.1:{port}"]
    command += ["--dir-cache-time", "1s", "--no-modtime", "--cache-dir", str(directory / "rclone")]
    with started(f"rclone-{kind}", command, environment, directory, answers_at="/nothing-here") as server:
        yield server


@contextmanager
def nginx(s3: S3, bucket: str, directory: Path) -> Iterator[Server]:  # noqa: ARG001 - as every other server
    """A limit: nginx as a proxy of S3 that stores no body on disk; over TLS it verifies S3's certificate."""
    port = free_port()
    tls = ""
    if ca := s3.credentials.get("AWS_CA_BUNDLE"):
        tls = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca};"
        tls += "proxy_ssl_name localhost; proxy_ssl_session_reuse on;"
    block = f"""
upstream s3 {{ server {urlsplit(s3.url).netloc}; keepalive 16; }}
server {{
  listen 127.0.0.1:{port};
  client_max_body_size 0;
  location / {{
    proxy_pass {urlsplit(s3.url).scheme}://s3;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host {urlsplit(s3.url).netloc};
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    {tls}
  }}
}}"""
    folder = directory / "nginx"
    folder.mkdir()
    with nginx_server.running(block, port, folder) as process:
        yield Server(f"http://127.0.0.1:{port}", process)


@contextmanager
def stalling_s3(how: str, directory: Path) -> Iterator[S3]:
    """An S3 that takes every request and then hangs (`hang`) or sends its answer byte by byte (`drip`)."""
    port = free_port()
    command = [sys.executable, str(HERE / "stalling_s3.py"), how]
    with started(f"s3-{how}", command, {"PORT": str(port)}, directory, answers_at="/ready") as server:
        yield S3(how, server.url, {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"})
