"""Fixtures: the browser, services for the page, and a window for each test."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, expect

from local_servers import free_port
from s3api.auth import new_token
from s3api.settings import Verb
from support.chromium import running_chromium
from support.servers import S3, Service, running_ministack, until
from ui.window import MakeWindow, MiB, Window

expect.set_options(timeout=60_000)


#: Names that lead to this machine, as an attacker's own does after DNS rebinding. Chromium does not send
#: Sec-Fetch-Site to such plain-HTTP names, as it does to loopback.
PLAIN_NAMES = ["evil.test", "day02.test"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    rules = ",".join(f"MAP {name} 127.0.0.1" for name in PLAIN_NAMES)
    with running_chromium(f"--host-resolver-rules={rules}") as browser:
        yield browser


@pytest.fixture
def make_window(browser: Browser) -> Iterator[MakeWindow]:
    """Open windows. At the end, no window may have had an error that its test did not expect."""
    windows: list[Window] = []
    with ExitStack() as stack:

        def make(service: Service, s3: S3, bucket: str, **options: Any) -> Window:
            context = browser.new_context(**{"locale": "en-GB", "timezone_id": "UTC", **options})
            stack.callback(context.close)
            windows.append(Window(context, service, s3, bucket, folder=f"{uuid.uuid4().hex[:8]}/"))
            return windows[-1]

        yield make
    assert [one for window in windows for one in window.unforgiven()] == []


def allow_origin(s3: S3, bucket: str, origin: str) -> str:
    """The bucket, which lets the pages of an origin in."""
    rule = {"AllowedMethods": ["GET", "PUT", "POST"], "AllowedOrigins": [origin], "AllowedHeaders": ["*"]}
    s3.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    return bucket


@pytest.fixture(scope="package")
def pages() -> list[int]:
    """The ports of the services whose pages the guard of `page_s3` lets in."""
    return [free_port(), free_port(), free_port()]


@pytest.fixture(scope="package")
def page_s3(tmp_path_factory: pytest.TempPathFactory, pages: list[int]) -> Iterator[S3]:
    origins = [f"http://127.0.0.1:{port}" for port in pages]
    with running_ministack(tmp_path_factory.mktemp("ministack"), *origins) as s3:
        yield s3


@pytest.fixture(scope="package")
def versioned(page_s3: S3, pages: list[int], make_service: Callable[..., Service]) -> tuple[Service, S3, str]:
    """A service whose bucket keeps versions."""
    bucket = page_s3.make_bucket("day02-page", versioned=True)
    allow_origin(page_s3, bucket, f"http://127.0.0.1:{pages[0]}")
    return make_service(page_s3, bucket, port=pages[0]), page_s3, bucket


@pytest.fixture(scope="package")
def unversioned(seaweedfs_s3: S3, make_service: Callable[..., Service]) -> tuple[Service, S3, str]:
    """A service on an S3 that keeps its files on disk; small files already go up in parts."""
    bucket = allow_origin(seaweedfs_s3, seaweedfs_s3.make_bucket("day02-page"), "*")
    service = make_service(seaweedfs_s3, bucket, multipart_threshold_bytes=5 * MiB)
    # SeaweedFS takes seconds for the first file of a bucket on a busy machine, and the service does not wait.
    client = seaweedfs_s3.client()
    client.put_object(Bucket=bucket, Key="first", Body=b"x")
    until(lambda: requests.get(service.at("/list_files"), timeout=30).ok, "S3 lists the first file", 60)
    client.delete_object(Bucket=bucket, Key="first")
    return service, seaweedfs_s3, bucket


@pytest.fixture(scope="package")
def closed(seaweedfs_s3: S3, make_service: Callable[..., Service]) -> tuple[Service, S3, str]:
    """A service whose bucket lets only the pages of another origin in."""
    bucket = seaweedfs_s3.make_bucket("day02-closed")
    allow_origin(seaweedfs_s3, bucket, "https://elsewhere.example")
    return make_service(seaweedfs_s3, bucket, multipart_threshold_bytes=5 * MiB), seaweedfs_s3, bucket


@pytest.fixture(scope="package")
def tokens() -> dict[str, tuple[str, str]]:
    """By name: the token, and its entry in the configuration."""
    granted: dict[str, tuple[set[Verb], str]] = {
        "everything": ({"list", "read", "write", "delete"}, ""),
        "reader": ({"list", "read"}, ""),
        "uploader": ({"write"}, ""),
        "team": ({"list", "read", "write"}, "team/"),
    }
    made = {name: new_token(name, frozenset(verbs), prefix) for name, (verbs, prefix) in granted.items()}
    return {name: (token, entry.model_dump_json()) for name, (token, entry) in made.items()}


@pytest.fixture(scope="package")
def guarded(
    page_s3: S3,
    pages: list[int],
    make_service: Callable[..., Service],
    tokens: dict[str, tuple[str, str]],
) -> tuple[Service, S3, str]:
    """A service that needs a token."""
    origin = f"http://127.0.0.1:{pages[1]}"
    bucket = allow_origin(page_s3, page_s3.make_bucket("day02-guarded"), origin)
    entries = json.dumps([json.loads(entry) for _, entry in tokens.values()])
    service = make_service(page_s3, bucket, api_tokens=entries, allow_anonymous="false", port=pages[1])
    return service, page_s3, bucket


@pytest.fixture
def window(make_window: MakeWindow, versioned: tuple[Service, S3, str]) -> Window:
    return make_window(*versioned)


@pytest.fixture
def large_window(make_window: MakeWindow, unversioned: tuple[Service, S3, str]) -> Window:
    return make_window(*unversioned)
