"""A page of another origin, in a real browser, against the S3 that a user runs on the same machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import boto3.session
import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from playwright.sync_api import Browser, Page

from local_servers import REGION
from support.http_server import serving
from support.localstack import running_localstack
from support.servers import S3

BUCKET = "day02-attacked"
#: Fetches all, one after the other; what a script can learn of each.
FETCH = """async (attacks) => {
  const told = [];
  for (const [url, options] of attacks) {
    try {
      const answer = await fetch(url, options);
      told.push(`${answer.type} ${answer.status} ${await answer.text()}`);
    } catch (error) {
      told.push(error.name);
    }
  }
  return told;
}"""
SUBMIT = """([url, fields]) => {
  const form = Object.assign(document.createElement("form"),
    { method: "post", enctype: "multipart/form-data", action: url });
  for (const [name, value] of Object.entries(fields))
    form.append(Object.assign(document.createElement("input"), { name, value }));
  document.body.append(form);
  form.submit();
}"""


@dataclass(frozen=True)
class Target:
    """An S3 with one file in a bucket, and the attacker's origin."""

    s3: S3
    evil: str

    @property
    def url(self) -> str:
        return f"{self.s3.url}/{BUCKET}"

    def is_unharmed(self) -> bool:
        client = self.s3.client()
        kept: bytes = client.get_object(Bucket=BUCKET, Key="kept")["Body"].read()
        versions = client.list_object_versions(Bucket=BUCKET)
        return kept == b"kept" and len(versions["Versions"]) == 1 and "DeleteMarkers" not in versions


@pytest.fixture(scope="module")
def evil() -> Iterator[str]:
    """The origin of a page that the user happens to visit."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>evil</title><body>")

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module", params=["ministack", "localstack"])
def target(request: pytest.FixtureRequest, evil: str) -> Iterator[Target]:
    if request.param == "ministack":
        yield with_a_file(request.getfixturevalue("page_s3"), evil)
    else:
        with running_localstack("http://127.0.0.1:5999") as s3:
            yield with_a_file(s3, evil)


def with_a_file(s3: S3, evil: str) -> Target:
    """The target; even a bucket that lets every page in must not open the emulator."""
    s3.make_bucket(BUCKET, versioned=True)
    client = s3.client()
    rule = {
        "AllowedMethods": ["GET", "PUT", "POST", "DELETE"],
        "AllowedOrigins": ["*"],
        "AllowedHeaders": ["*"],
    }
    client.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [rule]})
    client.put_object(Bucket=BUCKET, Key="kept", Body=b"kept")
    return Target(s3, evil)


@pytest.fixture
def page(browser: Browser, target: Target) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(target.evil)
    yield page
    context.close()


def attacked(page: Page, *attacks: tuple[str, dict[str, Any]]) -> list[str]:
    told: list[str] = page.evaluate(FETCH, list(attacks))
    return told


def signed(url: str, method: str, key: str, secret: str) -> dict[str, str]:
    """The header fields of a signed request, as a page can compute them with WebCrypto."""
    asked = AWSRequest(method, url, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    S3SigV4Auth(Credentials(key, secret), "s3", REGION).add_auth(asked)
    return dict(asked.headers.items())


def test_unsigned(target: Target, page: Page) -> None:
    """The page cannot list, read, overwrite or delete; requests without a preflight change nothing either."""
    told = attacked(
        page,
        (f"{target.s3.url}/", {}),
        (target.url, {}),
        (f"{target.url}/kept", {}),
        (f"{target.url}/kept", {"method": "PUT", "body": "evil"}),
        (f"{target.url}/kept", {"method": "DELETE"}),
        (f"{target.url}?delete", {"method": "POST", "body": "<Delete/>"}),
    )
    blind = attacked(
        page,
        (target.url, {"mode": "no-cors"}),
        (target.url, {"mode": "no-cors", "method": "POST", "body": "key=kept"}),
        (f"{target.url}/kept?uploads", {"mode": "no-cors", "method": "POST"}),
    )

    assert told == ["TypeError"] * 6
    assert blind == ["opaque 0 "] * 3
    assert target.is_unharmed()


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_ministack/config", "/_localstack/state/reset"])
def test_administration(target: Target, page: Page, path: str) -> None:
    """One simple POST, which no browser asks about first, wiped the bucket and the disk before."""
    blind = {"mode": "no-cors", "method": "POST", "body": '{"s3._buckets": {}}'}
    url = f"{target.s3.url}{path}"

    assert attacked(page, (url, blind), (url, {"method": "POST"}), (url, {})) == [
        "opaque 0 ",
        *["TypeError"] * 2,
    ]
    with page.expect_navigation() as navigation:
        page.evaluate(SUBMIT, [url, {"reset": "1"}])
    assert navigation.value
    assert navigation.value.status == 403
    assert target.is_unharmed()


def test_well_known_keys(target: Target, page: Page) -> None:
    """A page that signs with the emulators' old keys gets no further: in headers, in URLs, in forms."""
    client = boto3.session.Session("test", "test", region_name=REGION).client(
        "s3",
        endpoint_url=target.s3.url,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    named = {"Bucket": BUCKET, "Key": "kept"}
    form = client.generate_presigned_post(BUCKET, "kept")
    told = attacked(
        page,
        *(
            (
                f"{target.url}/kept",
                {"method": method, "headers": signed(f"{target.url}/kept", method, "test", "test")},
            )
            for method in ("GET", "PUT", "DELETE")
        ),
        (client.generate_presigned_url("get_object", named), {}),
        (client.generate_presigned_url("put_object", named), {"method": "PUT", "body": "evil"}),
        (client.generate_presigned_url("delete_object", named), {"method": "DELETE"}),
    )
    with page.expect_navigation() as navigation:
        page.evaluate(SUBMIT, [form["url"], {**form["fields"], "file": "evil"}])

    assert told == ["TypeError"] * 6
    assert navigation.value
    assert navigation.value.status == 403
    assert target.is_unharmed()


def test_stolen_url(target: Target, page: Page) -> None:
    """Even a URL that is signed with the right keys is of no use to a script of another origin."""
    client = target.s3.client(signature_version="s3v4")
    named = {"Bucket": BUCKET, "Key": "kept"}
    url = client.generate_presigned_url("get_object", named)
    put = client.generate_presigned_url("put_object", named)

    assert requests.get(url, timeout=10).content == b"kept"
    assert attacked(page, (url, {}), (put, {"method": "PUT", "body": "evil"})) == ["TypeError"] * 2
    assert target.is_unharmed()


def test_a_rebound_name(target: Target, page: Page) -> None:
    """A name of the attacker's that leads to loopback makes the page same-origin, and still gets nothing."""
    port = urlsplit(target.s3.url).port
    name = f"http://evil.localhost:{port}"  # browsers resolve names under localhost to loopback
    answer = page.goto(f"{name}/{BUCKET}")
    told = attacked(
        page,
        (f"{name}/{BUCKET}/kept", {}),
        (f"{name}/{BUCKET}/kept", {"method": "DELETE"}),
        (f"{name}/_ministack/reset", {"method": "POST"}),
        (f"{name}/_localstack/health", {}),
        (f"{name}/_guard/ready", {}),
    )

    assert answer
    assert answer.status == 403
    assert all(one.startswith("basic 403 ") for one in told), told
    assert target.is_unharmed()
