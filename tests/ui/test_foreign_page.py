"""Attacks by a web page of another origin, in a real browser, on a service that wants no token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Error, Page, expect

from support.http_server import serving
from support.servers import S3, Service, presigned
from ui.conftest import allow_origin
from ui.window import Window

SCRIPT = "<!doctype html><title>harmless</title><script>document.title = 'owned'</script>"


@dataclass
class Attack:
    """An attacker's page, and the service that it is after: at loopback, and at a name of its own."""

    page: Page
    foreign_url: str
    service: Service
    s3: S3
    bucket: str

    @property
    def targets(self) -> list[str]:
        return [self.service.url, self.named]

    @property
    def named(self) -> str:
        return f"http://day02.test:{urlsplit(self.service.url).port}"

    def names(self) -> set[str]:
        return self.s3.keys(self.bucket)

    def run(self, script: str, *arguments: str) -> Any:
        return self.page.evaluate(script, list(arguments))


@pytest.fixture(scope="module")
def foreign_url() -> Iterator[str]:
    """Another web server, whose page is empty: tests run the attacker's scripts in it."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    with serving(Empty) as port:
        yield f"http://evil.test:{port}/"


@pytest.fixture(scope="module")
def attacked(ministack_s3: S3, make_service: Callable[..., Service]) -> tuple[Service, S3, str]:
    """A service that also answers to a name in plain HTTP, as one behind a load balancer does."""
    bucket = allow_origin(ministack_s3, ministack_s3.make_bucket("day02-attacked"), "*")
    return make_service(ministack_s3, bucket, allowed_hosts="day02.test"), ministack_s3, bucket


@pytest.fixture
def attack(browser: Browser, foreign_url: str, attacked: tuple[Service, S3, str]) -> Iterator[Attack]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(foreign_url)
    service, s3, bucket = attacked
    s3.client().put_object(Bucket=bucket, Key="precious.txt", Body=b"precious", ContentType="text/plain")
    yield Attack(page, foreign_url, service, s3, bucket)
    context.close()


# Requests that need no preflight: whatever becomes of the answer, which cannot be read, the request is made.
BLIND = """([url, method, type, body]) => fetch(url, {
  method, mode: "no-cors", credentials: "include", ...(body && { body, headers: { "Content-Type": type } }),
}).then(() => null, () => null)"""
FORM = """async ([url]) => {
  const form = new FormData();
  form.append("file", new File(["evil"], "precious.txt"));
  await fetch(url + "/upload", { method: "POST", mode: "no-cors", body: form }).catch(() => null);
}"""
# Requests that do need one.
SEEN = """([url, method, body]) => fetch(url, {
  method, ...(body && { body, headers: { "Content-Type": "application/json" } }),
}).then((answer) => answer.text(), () => "refused")"""


def test_a_foreign_page_changes_nothing(attack: Attack) -> None:
    """Overwriting, bulk deletion and plans, with and without a preflight, leave the files as they were."""
    listed = '{"files": ["precious.txt"]}'
    planned = '{"name": "precious.txt", "size": 100000000}'
    for url in attack.targets:
        attack.run(FORM, url)
        for kind in ("text/plain", "text/plain;application/json", "application/x-www-form-urlencoded"):
            attack.run(BLIND, f"{url}/delete", "POST", kind, listed)
            attack.run(BLIND, f"{url}/uploads", "POST", kind, planned)
        attack.run(BLIND, f"{url}/restore/precious.txt", "POST", "", "")
        assert attack.run(SEEN, f"{url}/delete", "POST", listed) == "refused"
        assert attack.run(SEEN, f"{url}/delete/precious.txt", "DELETE", "") == "refused"
        assert attack.run(SEEN, f"{url}/upload/precious.txt", "PUT", "evil") == "refused"

    assert attack.names() == {"precious.txt"}
    found = attack.s3.client().get_object(Bucket=attack.bucket, Key="precious.txt")
    assert found["Body"].read() == b"precious"
    assert attack.s3.open_uploads(attack.bucket) == []
    refused = [line for line in attack.service.log_lines() if line.get("status") == 403]
    assert len(refused) >= 16, "the browser did not send what it was told to"


def test_a_form_of_a_foreign_page_changes_nothing(attack: Attack) -> None:
    """A form that a page submits by itself, which is a navigation, is refused as well."""
    for url in attack.targets:
        with attack.page.expect_response(f"{url}/upload") as answer:
            attack.run(
                """([url]) => {
                  const form = document.createElement("form");
                  const kind = { method: "post", enctype: "multipart/form-data" };
                  Object.assign(form, { action: url + "/upload", ...kind });
                  const field = document.createElement("input");
                  Object.assign(field, { type: "file", name: "file" });
                  const files = new DataTransfer();
                  files.items.add(new File(["evil"], "precious.txt"));
                  field.files = files.files;
                  form.append(field);
                  document.body.append(form);
                  form.submit();
                }""",
                url,
            )
        assert answer.value.status == 403
        attack.page.wait_for_url(f"{url}/upload")
        attack.page.goto(attack.foreign_url)

    assert attack.names() == {"precious.txt"}


def test_a_foreign_page_reads_nothing(attack: Attack) -> None:
    """Listings, files and URLs of files are no text, no picture, no script and no frame of a foreign page."""
    attack.s3.client().put_object(
        Bucket=attack.bucket, Key="p.svg", Body=b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    )
    for url in attack.targets:
        for path in ("/list_files", "/files/precious.txt", "/download/precious.txt"):
            assert attack.run(SEEN, url + path, "GET", "") == "refused"
        loads = """([tag, url]) => new Promise((settle) => {
          const one = document.createElement(tag);
          one.onload = () => settle("loaded");
          one.onerror = () => settle("refused");
          one.src = url;
          document.body.append(one);
        })"""
        assert attack.run(loads, "img", f"{url}/ui/ui.svg") == "refused"
        assert attack.run(loads, "script", f"{url}/list_files") == "refused"
    attack.s3.client().delete_object(Bucket=attack.bucket, Key="p.svg")


@pytest.mark.parametrize("path", ["/docs", "/ui", "/files/precious.txt", "/list_files", "/"])
def test_no_page_is_framed(attack: Attack, path: str) -> None:
    """A page of another origin cannot put one of the service's in a frame, to have the user click on it."""
    framed = """([url]) => new Promise((settle) => {
      const frame = Object.assign(document.createElement("iframe"), { src: url, onload: settle });
      document.body.append(frame);
    }).then(() => null)"""
    for url in attack.targets:
        attack.run(framed, url + path)

    assert len(attack.page.frames) == 3
    for frame in attack.page.frames[1:]:
        frame.wait_for_url("chrome-error://**")


@pytest.mark.parametrize("path", ["/ui", "/docs", "/list_files", "/openapi.json", "/files/precious.txt"])
def test_a_rebound_name_is_served_nothing(attack: Attack, path: str) -> None:
    """Under the attacker's name the service would be of the same origin as the attacker's page."""
    port = urlsplit(attack.service.url).port
    answer = attack.page.goto(f"http://evil.test:{port}{path}")

    assert answer is not None
    assert answer.status == 421
    assert answer.json()["code"] == "unknown_host"
    assert attack.names() == {"precious.txt"}


def test_the_own_page_works_under_a_plain_name(attack: Attack) -> None:
    """The service's own page, at a name in plain HTTP, uploads, lists and deletes."""
    page = attack.page
    page.goto(f"{attack.named}/ui")
    page.set_input_files("#pick-files", {"name": "own.txt", "mimeType": "text/plain", "buffer": b"own"})
    expect(page.locator("#uploads li")).to_contain_text("uploaded")
    expect(page.locator("#files")).to_contain_text("own.txt")
    page.get_by_role("button", name="Delete own.txt", exact=True).click()
    page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(page.locator("#files")).not_to_contain_text("own.txt")

    assert attack.names() == {"precious.txt"}


# --- stored files are never shown as pages


@pytest.mark.parametrize(
    "stored_as",
    [
        "text/html",
        "text/plain;charset=utf-8,text/html",
        "text/plain, text/html",
        "text/plain;text/html",
        "image/svg+xml",
        "application/xhtml+xml",
        "image/png, text/html",
        "text/xml",
    ],
)
@pytest.mark.parametrize("name", ["page.txt", "page.png", "page", "page.html"])
def test_html_is_never_rendered(window: Window, stored_as: str, name: str) -> None:
    """Whatever type another client of S3 has stored, neither the service nor a presigned URL shows a page."""
    body = SCRIPT.encode()
    if "svg" in stored_as:
        body = b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title = 'owned'</script></svg>"
    window.put(name, body, ContentType=stored_as)
    through = window.service.at("/files/", window.folder + name)
    asked = window.service.at("/download/", window.folder + name)
    urls = [
        through,
        *(presigned(requests.get(f"{asked}?check={check}", timeout=30)) for check in ("true", "false")),
    ]
    page = window.context.new_page()
    for url in urls:
        with suppress(Error):  # a download is no page
            page.goto(url)
        assert page.title() != "owned", url
