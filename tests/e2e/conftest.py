"""Where the service under test is, from the environment.

S3API_URL             its base URL; without it, the suite starts a service whose S3 speaks TLS, as AWS does
S3API_TOKEN           the bearer token to send
S3API_CONNECT_TO      the host:port to connect to for that URL, where its name leads elsewhere
S3API_CA              the file of the CA that signed the service's certificate, where it is no public one
S3API_HOST            the Host header to send, where the service's own name cannot be resolved here
S3API_PRESIGNED_HOST  the host:port to connect to for presigned URLs, where theirs cannot be resolved here
S3API_COURSE_FILE     a CSV file to carry round, instead of a generated one
S3API_VERSIONED       1 where the bucket keeps versions, 0 where it does not; else either is taken
S3API_WAIT_FOR_EXPIRY 1 to wait, at the end of the run, until a presigned URL has died of age
"""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.api import Api, Target, bucket_of, good, working_in_folder
from support.servers import S3

WAIT_FOR_EXPIRY = os.environ.get("S3API_WAIT_FOR_EXPIRY") == "1"
COURSE_FILE_BYTES = 2_600_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test the expired URL last, so that the run's other tests pass the time."""
    items.sort(key=lambda item: "expired" in item.name and "e2e" in item.path.parts)


@pytest.fixture(scope="session")
def base_url(request: pytest.FixtureRequest) -> Iterator[str]:
    given = os.environ.get("S3API_URL")
    if given:
        with connecting_to(os.environ.get("S3API_CONNECT_TO"), urlsplit(given).hostname):
            yield given.rstrip("/")
        return
    url: str = request.getfixturevalue("tls_service").url
    yield url


@contextmanager
def connecting_to(address: str | None, name: str | None) -> Iterator[None]:
    """Connect to this address instead of the one that DNS has for the name."""
    find = socket.getaddrinfo

    def found(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if address and host == name:
            host, _, port = address.rpartition(":")
        return find(host, port, *rest, **named)

    socket.getaddrinfo = found
    yield
    socket.getaddrinfo = find


@pytest.fixture(scope="session")
def target(base_url: str, request: pytest.FixtureRequest) -> Target:
    local: S3 | None = None if os.environ.get("S3API_URL") else request.getfixturevalue("tls_ministack_s3")
    versioned = os.environ.get("S3API_VERSIONED", "" if os.environ.get("S3API_URL") else "1")
    return Target(
        base_url,
        token=os.environ.get("S3API_TOKEN"),
        host=os.environ.get("S3API_HOST"),
        presigned_host=os.environ.get("S3API_PRESIGNED_HOST"),
        keeps_versions=versioned == "1" if versioned else None,
        s3_ca=local.credentials["AWS_CA_BUNDLE"] if local else None,
        ca=os.environ.get("S3API_CA"),
    )


@pytest.fixture(scope="session")
def bucket(target: Target) -> str:
    return bucket_of(target)


@pytest.fixture(scope="session")
def run() -> str:
    """The prefix of every name of this run."""
    return f"e2e-{secrets.token_hex(6)}-"


@pytest.fixture
def api(target: Target, run: str) -> Iterator[Api]:
    with working_in_folder(target, run) as api:
        yield api


@pytest.fixture(scope="session")
def course_file() -> bytes:
    """A CSV of some megabytes, the same in every run."""
    given = os.environ.get("S3API_COURSE_FILE")
    if given:
        return Path(given).read_bytes()
    source = random.Random(2)
    rows = [b"id,name,rating,price\n"]
    size = len(rows[0])
    while size < COURSE_FILE_BYTES:
        row = f'{source.randrange(10**9)},"Spiel – {source.getrandbits(64):x}",{source.random():.4f},0\n'
        rows.append(row.encode())
        size += len(rows[-1])
    return b"".join(rows)


@pytest.fixture(scope="session", autouse=WAIT_FOR_EXPIRY)
def url_from_the_start(target: Target, run: str) -> Iterator[tuple[Api, str, str]]:
    """A presigned URL made when the run begins, and when it says that it expires."""
    with working_in_folder(target, run) as api:
        api.put(api.name("old.txt"), b"soon out of reach")
        body = good(api.call("GET", "/download/", api.name("old.txt")))
        yield api, body["content"], body["expires_at"]
