"""`make run`: the API on this machine, beside an S3 that is embedded, or yours.

With BUCKET and AWS_ENDPOINT_URL, or BUCKET and AWS credentials, in the environment, that S3 is used and none
is started. Otherwise MiniStack runs behind the guard (services/guard) on a free port of 127.0.0.1. Its data
is in `.data/s3`. The keys that it takes, random and made once, are in `.data/credentials`.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = "eu-west-1"
LOCAL_BUCKET = "day02-local"
SERVICES = Path(__file__).resolve().parent
#: Multipart uploads that are never completed go after a day.
ABORT_INCOMPLETE: Any = {
    "ID": "abort-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
#: A page may use the presigned URLs that it was given. Here only the service's own page may.
BROWSERS: Any = {
    "AllowedMethods": ["GET", "PUT", "POST"],
    "AllowedOrigins": ["*"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["ETag"],
}
STARTED_WITHIN = 30.0
STOPPED_WITHIN = 40.0


class CannotRun(Exception):
    """Why the service cannot run here, in a sentence that says what to do."""


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
    """Return when the URL answers; raise `CannotRun` when the process ends first, or takes too long."""
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
    """MiniStack, running. `credentials` are environment variables; `keys` is the file that they come from."""

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
def ministack(
    python: Path,
    data: Path,
    origins: Iterable[str] = (),
    *,
    ports: Iterable[int] = (),
    held: tuple[int, ...] = (),
) -> Iterator[EmbeddedS3]:
    """MiniStack behind the guard, its files and keys in a directory; stopped at the end.

    `origins` are those of the pages that may talk to it. `ports` are those of proxies in front of it.
    `held` are descriptors it keeps open while it lives.
    """
    port = free_port()
    hosts = [f"{name}:{at}" for at in (port, *ports) for name in ("127.0.0.1", "localhost")]
    guard = {
        "PYTHONPATH": str(SERVICES),
        "GUARD_KEYS": str(data),
        "GUARD_HOSTS": ",".join(hosts),
        "GUARD_ORIGINS": ",".join(origins),
    }
    with emulator([str(python), "-m", "guard"], data / "s3", port, guard, "/_guard/ready", held=held) as url:
        keys = data / "credentials"
        yield EmbeddedS3(url, keys, credentials_in(keys.read_text(encoding="ascii")))


def credentials_in(text: str) -> dict[str, str]:
    """The keys of a file that AWS tools read, as environment variables."""
    parser = ConfigParser(interpolation=None)
    parser.read_string(text)
    profile = parser["default"]
    return {name.upper(): profile[name] for name in ("aws_access_key_id", "aws_secret_access_key")}


@contextmanager
def emulator(
    command: Sequence[str],
    data: Path,
    port: int,
    environment: Mapping[str, str],
    ready: str,
    *,
    held: tuple[int, ...] = (),
) -> Iterator[str]:
    """MiniStack as the command starts it; yields its URL once the path `ready` answers."""
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
            start_new_session=True,  # Ctrl-C is for this script, which stops the API first
            pass_fds=held,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}{ready}", process, "the embedded S3", log)
        yield url
    finally:
        stop(process)


def private_directory(path: Path) -> None:
    """Have the directory, closed to the machine's other users, also when it was open before."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would send an embedded S3, or its API, to a real account."""
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def make_bucket(s3: Any, bucket: str, origins: Iterable[str]) -> None:
    """Have the bucket: versioned, so that what is deleted can be restored, and open to the page alone.

    A bucket that an earlier version made is corrected.
    """
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [ABORT_INCOMPLETE]})
    rule = {**BROWSERS, "AllowedOrigins": list(origins)}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})


def check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise CannotRun(
                f"Port {port} of 127.0.0.1 is taken; choose another: make run PORT={port + 1}"
            ) from None


def signing_key(data: Path) -> str:
    """The key of this directory, made once; the file gets its name once it is whole."""
    path = data / "signing_key"
    if not path.exists():
        new = data / f".signing_key.{os.getpid()}"
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(32), encoding="ascii")
        new.replace(path)
    path.chmod(0o600)
    return path.read_text(encoding="ascii")


def run(port: int, data: Path, ministack_python: Path) -> None:
    bucket = os.environ.get("BUCKET", "")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    credentials = os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_PROFILE")
    if endpoint and not bucket:
        raise CannotRun("AWS_ENDPOINT_URL is set, but BUCKET is not: name the bucket to use there")
    check_port(port)
    private_directory(data)
    common = {
        "PORT": str(port),
        "SIGNING_KEY": os.environ.get("SIGNING_KEY") or signing_key(data),
        "ALLOW_ANONYMOUS": os.environ.get("ALLOW_ANONYMOUS") or str(not os.environ.get("API_TOKENS")).lower(),
        "METRICS_PORT": os.environ.get("METRICS_PORT") or str(free_port()),
    }
    if bucket and (endpoint or credentials):
        serve({**os.environ, **common}, f"bucket {bucket}" + (f" at {endpoint}" if endpoint else ""))
        return
    bucket = bucket or LOCAL_BUCKET
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"Another `make run` uses {data}; stop it first") from None
        # MiniStack holds the lock as well: should it outlive this script, a second one stays off its data.
        origins = [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]
        with ministack(ministack_python, data, origins, held=(lock.fileno(),)) as s3:
            make_bucket(s3.client(), bucket, origins)
            embedded = {**s3.credentials, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": s3.url, "BUCKET": bucket}
            serve(
                {**without_aws(os.environ), **common, **embedded},
                f"bucket {bucket}, embedded in {data}/s3",
                f"  S3 itself, with the keys of this directory:\n"
                f"    AWS_SHARED_CREDENTIALS_FILE={s3.keys} aws s3 --endpoint-url {s3.url} ls s3://{bucket}\n",
            )


def serve(environment: Mapping[str, str], where: str, more: str = "") -> None:
    """Run the API until it is stopped; raise `CannotRun` when it ends by itself. `more` ends the banner."""
    port = environment["PORT"]
    config = Path(__file__).parent / "s3api" / "gunicorn.conf.py"
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", str(config)],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/livez", process, "the API")
        print(
            f"\n  The file API answers at {url} ({where})\n\n"
            f"    curl {url}/\n"
            f"    curl -F file=@README.md {url}/upload\n"
            f"    curl {url}/list_files\n\n"
            f"  In a browser: {url}/ui   Documentation: {url}/docs\n"
            f"  Metrics: http://127.0.0.1:{environment['METRICS_PORT']}/metrics   Stop: Ctrl-C\n{more}",
            flush=True,
        )
        process.wait()
    finally:
        stop(process)
    if process.returncode:
        raise CannotRun(f"the API ended with status {process.returncode}")


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--ministack", type=Path, default=here / ".venv-ministack" / "bin" / "python")
    arguments = parser.parse_args()
    os.umask(0o077)  # what is kept here is this user's alone
    for stopping in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # a shell that starts us in the background ignores SIGINT
        signal.signal(stopping, interrupt)
    try:
        run(arguments.port, arguments.data, arguments.ministack)
    except CannotRun as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
