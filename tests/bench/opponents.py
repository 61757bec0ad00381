"""The servers that are measured: the service, what others run for the same work, and the least that can be.

Each is started on a free port of loopback and gone when its context ends. All are given the same S3 and,
where they use threads, as many as the service.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_servers import REGION, free_port, stop, wait_for, without_aws
from support.servers import ROOT, S3, running_service, service_environment

HERE = Path(__file__).resolve().parent
OPPONENTS = ROOT / ".venv-bench" / "bin"
NODE_MODULES = HERE / "node_modules"
THREADS = 64
TICKS = os.sysconf("SC_CLK_TCK")
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
        """User and system time of all its processes and threads, those that have ended too."""
        ticks = 0
        for pid in self.processes():
            fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            ticks += sum(int(value) for value in fields[11:15])
        return ticks / TICKS

    def forget_peak(self) -> None:
        """Let `peak_mib` begin anew."""
        for pid in self.processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """The most memory its largest process has had resident, in MiB."""
        return max(self._memory(pid, "VmHWM") for pid in self.processes())

    def resident_mib(self) -> float:
        """The memory that its largest process has resident now, in MiB."""
        return max(self._memory(pid, "VmRSS") for pid in self.processes())

    @staticmethod
    def _memory(pid: int, field: str) -> float:
        for line in _read(Path(f"/proc/{pid}/status")).splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return 0.0


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended meanwhile
        return ""


def missing(tool: str) -> str | None:
    """Why a tool cannot be used here and what brings it; None when it can."""
    if tool == "node":
        if shutil.which("node") is None:
            return "Node is not installed (Debian: apt install nodejs npm)"
        if not NODE_MODULES.is_dir():
            return "its packages are not installed (`make bench` does it with npm)"
    elif tool in ("rclone", "flask") and not (OPPONENTS / tool).exists():
        return "its environment is not installed (`make bench` does it)"
    elif tool == "haproxy" and shutil.which(tool) is None:
        return "HAProxy is not installed (Debian: apt install haproxy)"
    return None


@contextmanager
def started(
    name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path, *, answers_at: str
) -> Iterator[Server]:
    """A server that answers at the path on the PORT of its environment, whatever it answers."""
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
def service(s3: S3, bucket: str, directory: Path) -> Iterator[Server]:
    """Ours, configured as the image is."""
    with running_service(s3, bucket, directory / "service", malloc_arena_max=2) as running:
        yield Server(running.url, running.process)


@contextmanager
def bare_flask(s3: S3, bucket: str, directory: Path) -> Iterator[Server]:
    """The limit: Flask's least, in the service's environment and by its gunicorn configuration."""
    port = free_port()
    environment = service_environment(
        s3, bucket, directory / "bare", port=port, metrics_port=0, malloc_arena_max=2, pythonpath=HERE
    )
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "services" / "s3api" / "gunicorn.conf.py")]
    command.append("bare_flask:app")
    with started("bare-flask", command, environment, directory, answers_at="/bare") as server:
        yield server


@contextmanager
def flask_boto3(s3: S3, bucket: str, directory: Path, *workers: str) -> Iterator[Server]:
    """Flask with boto3 under gunicorn, of the service's versions; by default its workers and threads too."""
    port = free_port()
    environment = {
        **_opponent_environment(s3, bucket, directory, port),
        "PYTHONPATH": str(HERE),
        "MALLOC_ARENA_MAX": "2",
    }
    command = [str(OPPONENTS / "gunicorn"), "--bind", f"127.0.0.1:{port}", "--keep-alive", "75"]
    command += ["--no-control-socket", "--worker-tmp-dir", "/dev/shm"]
    command += workers or ["--worker-class", "gthread", "--threads", str(THREADS)]
    name = "flask-" + "-".join(w.strip("-") for w in workers) if workers else "flask"
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
