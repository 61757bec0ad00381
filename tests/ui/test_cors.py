"""A web application on another origin, in a real browser: what docs/api.md says that it can do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from s3api import bucket
from support.http_server import serving
from support.servers import ROOT, S3, Service

#: The example of docs/api.md, which is the application, and what the test does with it.
EXAMPLE = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
STEPS = """
  const refused = (doing) => doing.then(() => "not refused", (error) => error.message);
  const etag = await upload(name, new Blob([text], { type: "text/plain" }));
  const listed = await list(name);
  const downloaded = await (await download(name)).text();
  const headers = { Authorization: `Bearer ${token}`, Range: "bytes=0-4" };
  const part = await fetch(`${service}/files/${encodeURIComponent(name)}`, { headers });
  await call(`/delete/${encodeURIComponent(name)}`, { method: "DELETE" });
  return {
    etag, listed, downloaded,
    part: [part.status, part.headers.get("Content-Range"), part.headers.get("ETag"), await part.text()],
    left: await list(name),
    refusals: await Promise.all([
      refused(call("/list_files", { headers: { Authorization: "Bearer wrong" } })),
      refused(download("no-such-file")),
      refused(upload(name, { size: 1e9, type: "" })),
    ]),
  };
"""


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[str, str]]:
    """Two web servers with empty pages: the origin that is configured, and one that is not."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>application</title>")

    with serving(Empty) as one, serving(Empty) as another:
        yield f"http://127.0.0.1:{one}", f"http://127.0.0.1:{another}"


@pytest.fixture(scope="module")
def service(
    seaweedfs_s3: S3,
    origins: tuple[str, str],
    tokens: dict[str, tuple[str, str]],
    make_service: Callable[..., Service],
) -> Service:
    """A service with CORS_ORIGINS, whose bucket has the rule of `make bucket` for the same origin."""
    name = seaweedfs_s3.make_bucket("day02-cors-page")
    rule = bucket.open_to_pages([origins[0]])
    seaweedfs_s3.client().put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})
    return make_service(
        seaweedfs_s3,
        name,
        cors_origins=origins[0],
        allow_anonymous="false",
        api_tokens=f"[{tokens['everything'][1]}]",
        max_file_bytes=100_000_000,
    )


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_an_application_on_a_listed_origin_works(
    page: Page, service: Service, origins: tuple[str, str], tokens: dict[str, tuple[str, str]]
) -> None:
    """It lists, uploads to S3 with a form, downloads, deletes, and reads the reason of each refusal."""
    page.goto(origins[0])
    text = "cross-origin"

    arguments = [service.url, tokens["everything"][0], "a b+é.txt", text]
    application = f"async ([service, token, name, text]) => {{ {EXAMPLE[0]} {STEPS} }}"
    said: Any = page.evaluate(application, arguments)

    etag = f'"{hashlib.md5(text.encode()).hexdigest()}"'
    assert said["etag"] == etag
    assert said["listed"] == ["a b+é.txt"]
    assert said["downloaded"] == text
    assert said["part"] == [206, "bytes 0-4/12", etag, "cross"]
    assert said["left"] == []
    for sentence, code in zip(
        said["refusals"], ("unauthorized", "file_not_found", "file_too_large"), strict=True
    ):
        assert re.search(rf"\({code}, request [0-9a-f]+\)$", sentence), sentence


def test_an_application_on_another_origin_reads_nothing(
    page: Page, service: Service, origins: tuple[str, str], tokens: dict[str, tuple[str, str]]
) -> None:
    """With the right token, but from an origin that is not listed: neither the preflight nor an answer."""
    page.goto(origins[1])
    fetched = (
        """([url, headers]) => fetch(url, { headers }).then((answer) => answer.text(), () => "refused")"""
    )

    for headers in ({"Authorization": f"Bearer {tokens['everything'][0]}"}, {}):
        assert page.evaluate(fetched, [f"{service.url}/list_files", headers]) == "refused"
