"""Real servers for tests: two S3s and the service. Each has a free port of loopback and stops at the end."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3.session
import botocore.session
import pytest
import requests
from botocore.config import Config

from local_servers import REGION, embedded_s3, free_port, ministack, stop, wait_for, without_aws
from s3api.private import lock_path
from support.certificates import make_certificate

ROOT = Path(__file__).resolve().parents[2]
MINISTACK_PYTHON = ROOT / ".venv-ministack" / "bin" / "python"
#: What SeaweedFS knows: the first pair is that of every test but the one in which credentials change.
SEAWEEDFS_KEYS = {"weed-key": "weed-secret", "weed-key-1": "weed-secret-1", "weed-key-2": "weed-secret-2"}
SIGNING_KEY = "a key for tests only, 32 characters or more"


def need(condition: object, reason: str) -> None:
    """Skip the test when its tool is missing; in CI a missing tool is a failure."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def until(condition: Callable[[], Any], what: str, seconds: float = 20, pause: float = 0.02) -> Any:
    """Wait until the condition is true, and return its value; fail when the time is over.

    `pause` is the time between two looks: a condition that costs much CPU needs a longer one.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(pause)
    return value


@contextmanager
def explained_by(log: Path) -> Iterator[None]:
    """Add the end of the log to an error of the block: the log itself is removed with its directory."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{log.name} ends:\n{log.read_text(errors='replace')[-4000:]}")
        raise


# --- S3


@functools.cache
def _session(key: str, secret: str, ca_bundle: str | None) -> boto3.session.Session:
    """One session for the same credentials, because loading the description of S3 takes long."""
    session = botocore.session.Session()
    session.set_config_variable("ca_bundle", ca_bundle)
    return boto3.session.Session(
        aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION, botocore_session=session
    )


@dataclass(frozen=True)
class S3:
    """A running S3. `credentials` are environment variables, with AWS_CA_BUNDLE when it speaks TLS.

    `ports` has the ports of SeaweedFS by the names of its flags. `proxy_ports` are the ports that a proxy may
    use when the S3 checks the Host header.
    """

    kind: str
    url: str
    credentials: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)
    proxy_ports: tuple[int, ...] = ()

    def session(self) -> boto3.session.Session:
        return _session(
            self.credentials["AWS_ACCESS_KEY_ID"],
            self.credentials["AWS_SECRET_ACCESS_KEY"],
            self.credentials.get("AWS_CA_BUNDLE"),
        )

    def client(self, **config: Any) -> Any:
        """A client of this S3. Without a `config`, all callers share one: making it takes 8 ms."""
        if config:
            return _make_client(self, **config)
        return _shared_client(self.url, tuple(self.credentials.items()))

    def make_bucket(self, name: str, *, versioned: bool = False) -> str:
        client = self.client()
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def keys(self, bucket: str) -> set[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def open_uploads(self, bucket: str) -> list[str]:
        """The keys of the multipart uploads that are neither completed nor aborted."""
        return [
            entry["Key"] for entry in self.client().list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        ]


def _make_client(s3: S3, **config: Any) -> Any:
    return s3.session().client(
        "s3", endpoint_url=s3.url, config=Config(s3={"addressing_style": "path"}, **config)
    )


@functools.cache
def _shared_client(url: str, credentials: tuple[tuple[str, str], ...]) -> Any:
    return _make_client(S3("", url, dict(credentials)))


@contextmanager
def running_ministack(data: Path, *origins: str) -> Iterator[S3]:
    """The S3 of `make run`, behind its guard. Pages of these `origins` may use it."""
    _need_ministack()
    proxies = (free_port(), free_port())
    with embedded_s3(MINISTACK_PYTHON, data, origins, ports=proxies) as s3:
        yield S3("ministack", s3.url, s3.credentials, proxy_ports=proxies)


@contextmanager
def unguarded_ministack(data: Path, *services: str) -> Iterator[S3]:
    """MiniStack without the guard, with these services."""
    _need_ministack()
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    settings = {**keys, "SERVICES": ",".join(services), "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    program = str(MINISTACK_PYTHON.with_name("ministack"))
    with ministack([program], data, port, settings, "/_ministack/health") as url:
        yield S3("ministack", url, keys)


def _need_ministack() -> None:
    need(
        MINISTACK_PYTHON.exists(),
        f"MiniStack is not installed in {MINISTACK_PYTHON.parent}: `make test` does it",
    )


@contextmanager
def running_seaweedfs(data: Path, *, tls: bool = False, volumes: int = 1) -> Iterator[S3]:
    """SeaweedFS, a real S3 server that keeps its data on disk and checks signatures.

    With `tls` it speaks HTTPS. AWS_CA_BUNDLE of its credentials names the CA of its certificate. A bucket
    begins with this number of `volumes`. With seven, SeaweedFS's own default, a test run with 700 buckets has
    no volume left; with one, uploads at the same time wait for each other.
    """
    key, secret = next(iter(SEAWEEDFS_KEYS.items()))
    credentials = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    data.mkdir(parents=True, exist_ok=True)
    identities = data / "identities.json"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": key, "secretKey": secret} for key, secret in SEAWEEDFS_KEYS.items()],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    identities.write_text(json.dumps({"identities": [identity]}))
    names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc"]
    names += ["filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"]
    ports = {name: free_port() for name in names}
    flags: list[str] = []
    if tls:
        files = make_certificate(data)
        flags = [f"-s3.cert.file={files.certificate}", f"-s3.key.file={files.key}"]
        credentials["AWS_CA_BUNDLE"] = str(files.ca)
    log = data / "seaweedfs.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "weed"),
                "-logtostderr=true",
                "server",
                f"-dir={data}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-master.telemetry=false",
                "-master.volumeSizeLimitMB=256",
                "-volume.max=5000",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                f"-s3.config={identities}",
                *(f"-{name}={port}" for name, port in ports.items()),
                *flags,
            ],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=data,
            env=without_aws(os.environ) | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": str(volumes)},
        )
    try:
        scheme = "https" if tls else "http"
        s3 = S3("seaweedfs", f"{scheme}://127.0.0.1:{ports['s3.port']}", credentials, ports)
        if not tls:  # `wait_for` does not know the CA
            with explained_by(log):
                wait_for(s3.url, process, "SeaweedFS", log)
        until(lambda: _lists(s3), "SeaweedFS lists its buckets")
        yield s3
    finally:
        process.kill()  # an orderly stop takes half a minute, and its data is removed anyway
        process.wait()
        shutil.rmtree(data, ignore_errors=True)
        for port in ports.values():  # its sockets have a fixed place
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)


def _lists(s3: S3) -> bool:
    try:
        s3.client(retries={"total_max_attempts": 1}).list_buckets()
    except Exception:
        return False
    return True


# --- the service


@dataclass
class Service:
    """The API in a real gunicorn."""

    process: subprocess.Popen[bytes]
    url: str
    metrics_url: str
    staging: Path
    log_path: Path

    def at(self, route: str, name: str = "") -> str:
        """The URL of a route; the file's name is percent-encoded once."""
        return f"{self.url}{route}{quote(name, safe='')}"

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]

    def staged(self) -> list[Path]:
        """The files in the staging directory, without the lock file, which stays."""
        lock = lock_path(self.staging)
        return [path for path in self.staging.rglob("*") if path.is_file() and path != lock]


def service_environment(s3: S3, bucket: str, directory: Path, **settings: object) -> dict[str, str]:
    """The environment of a service. `settings` have the names of the fields of `Settings`."""
    return {
        **without_aws(os.environ),
        **s3.credentials,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": s3.url,
        "BUCKET": bucket,
        "SIGNING_KEY": SIGNING_KEY,
        "ALLOW_ANONYMOUS": "true",
        "STAGING_DIR": str(directory / "uploads"),
        "LOG_FORMAT": "json",
        **{name.upper(): str(value) for name, value in settings.items()},
    }


@contextmanager
def running_service(s3: S3, bucket: str, directory: Path, **settings: object) -> Iterator[Service]:
    """The API under gunicorn with its own configuration, on a free port; stopped at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"port": free_port(), "metrics_port": free_port(), **settings}
    environment = service_environment(s3, bucket, directory, **settings)
    log = directory / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "services" / "s3api" / "gunicorn.conf.py")],
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=directory,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{settings['port']}"
    try:
        with explained_by(log):
            wait_for(f"{url}/livez", process, "the service", log)
            yield Service(
                process,
                url,
                f"http://127.0.0.1:{settings['metrics_port']}/metrics",
                Path(environment["STAGING_DIR"]),
                log,
            )
    finally:
        stop(process)


def presigned(answer: requests.Response) -> str:
    """The presigned URL in an answer of /download."""
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["content"]
    return url
