"""Starts and stops servers on this machine: `make run`, tests and benchmarks use it.

The embedded S3 is MiniStack behind the guard (services/guard), in its own Python environment.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3.session
from botocore.config import Config

REGION = "eu-west-1"
SERVICES = Path(__file__).resolve().parent
STARTED_WITHIN = 30.0
STOPPED_WITHIN = 40.0


class CannotRun(Exception):
    """A server cannot run on this machine. The message says what to do."""


def free_port() -> int:
    """A free port of 127.0.0.1, outside the range of outgoing connections.

    A connection to it is opened and closed here. The kernel then keeps the port for a minute (TIME_WAIT), so
    that no other process is given it by this function. A server can listen on it: servers set SO_REUSEADDR.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.listen(1)
            with socket.create_connection(("127.0.0.1", port)) as client:
                probe.accept()[0].close()
                client.recv(1)
            return port


def wait_for(url: str, process: subprocess.Popen[bytes], what: str, log: Path | None = None) -> None:
    """Return when the URL answers. Raise `CannotRun` if the process ends first or takes too long."""
    deadline = time.monotonic() + STARTED_WITHIN
    hint = f"; see {log}" if log else ""
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotRun(f"{what} ended with status {process.returncode}{hint}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise CannotRun(f"{what} did not answer within {STARTED_WITHIN:.0f} s{hint}")


@dataclass(frozen=True)
class EmbeddedS3:
    """A running embedded S3. `credentials` are environment variables; `keys` is the file they come from."""

    url: str
    keys: Path
    credentials: Mapping[str, str] = field(repr=False)

    def client(self) -> Any:
        session = boto3.session.Session(
            aws_access_key_id=self.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
        )
        return session.client("s3", endpoint_url=self.url, config=Config(s3={"addressing_style": "path"}))


@contextmanager
def embedded_s3(
    python: Path,
    data: Path,
    origins: Iterable[str] = (),
    *,
    ports: Iterable[int] = (),
    held: tuple[int, ...] = (),
) -> Iterator[EmbeddedS3]:
    """Run MiniStack behind the guard, with its files and keys in the directory `data`.

    `origins` are the origins of the pages that may use it. `ports` are the ports of proxies in front of it.
    `held` are file descriptors that it inherits and keeps open.
    """
    port = free_port()
    hosts = [f"{name}:{number}" for number in (port, *ports) for name in ("127.0.0.1", "localhost")]
    guard = {
        "PYTHONPATH": str(SERVICES),
        "GUARD_KEYS": str(data),
        "GUARD_HOSTS": ",".join(hosts),
        "GUARD_ORIGINS": ",".join(origins),
    }
    with ministack([str(python), "-m", "guard"], data / "s3", port, guard, "/_guard/ready", held=held) as url:
        keys = data / "credentials"
        yield EmbeddedS3(url, keys, credentials_in(keys.read_text(encoding="ascii")))


def credentials_in(text: str) -> dict[str, str]:
    """The keys in the text of a credentials file of AWS tools, as environment variables."""
    parser = ConfigParser(interpolation=None)
    parser.read_string(text)
    profile = parser["default"]
    return {name.upper(): profile[name] for name in ("aws_access_key_id", "aws_secret_access_key")}


@contextmanager
def ministack(
    command: Sequence[str],
    data: Path,
    port: int,
    environment: Mapping[str, str],
    ready: str,
    *,
    held: tuple[int, ...] = (),
) -> Iterator[str]:
    """Run MiniStack by a command. Yield its URL when the path `ready` answers."""
    private_directory(data)
    log = data / "ministack.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={
                **without_aws(os.environ),
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(port),
                "MINISTACK_REGION": REGION,
                "SERVICES": "s3",
                "S3_PERSIST": "1",
                "S3_DATA_DIR": str(data / "objects"),
                "PERSIST_STATE": "1",
                "STATE_DIR": str(data / "state"),
                "LOG_LEVEL": "WARNING",
                "TMPDIR": str(data),
                **environment,
            },
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not reach it: `make run` stops the API first
            pass_fds=held,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}{ready}", process, "the embedded S3", log)
        yield url
    finally:
        stop(process)


def private_directory(path: Path) -> None:
    """Make the directory if it is missing, and close it to other users of the machine."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without AWS_*, so that nothing that runs locally can use a real account."""
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
