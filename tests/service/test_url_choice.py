"""The statements of docs/api.md about URLs: which clients forward a token, and how long URLs work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests

from local_servers import without_aws
from s3api import manage
from s3api.auth import ALL_VERBS, new_token
from support.http_server import serving
from support.servers import ROOT, S3, Service, need, presigned, until

TOKEN, ENTRY = new_token("redirected", ALL_VERBS, "")
#: The clients of the documentation's table, and whether each sends the token on to another host.
DOCUMENTED = {
    client: answer == "yes"
    for client, answer in re.findall(
        r"^\| ([^|]+?) \| (yes|no) \|$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE
    )
}
JAVA = """
import java.net.URI;
import java.net.http.*;
public class Fetch {
  public static void main(String[] of) throws Exception {
    var client = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();
    var request = HttpRequest.newBuilder(URI.create(of[0])).header("Authorization", of[1]).build();
    System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
  }
}
"""
REQUESTS = """
import sys, requests
print(requests.get(sys.argv[1], headers={"Authorization": sys.argv[2]}).text)
"""
URLLIB = """
import sys, urllib.request as http
print(http.urlopen(http.Request(sys.argv[1], headers={"Authorization": sys.argv[2]})).read())
"""
HTTPX = """
import sys, httpx
print(httpx.get(sys.argv[1], headers={"Authorization": sys.argv[2]}, follow_redirects=True).text)
"""
NODE = """
fetch(process.argv[1], {headers: {Authorization: process.argv[2]}})
  .then((answer) => answer.text()).then(console.log)
"""
HEADER = "Authorization: TOKEN"
#: How each client is told to send a header and follow a redirect. `URL` and `TOKEN` are filled in.
COMMANDS = {
    "curl 7.88": ["curl", "-sSfL", "-H", HEADER, "URL"],
    "wget 1.21": ["wget", "-qO-", f"--header={HEADER}", "URL"],
    "aria2 1.36": ["aria2c", "-q", "--no-conf", "-oout", f"--header={HEADER}", "URL"],
    "rclone 1.60": ["rclone", "copyurl", f"--header={HEADER}", "URL", "out"],
    "Python's urllib": [sys.executable, "-c", URLLIB, "URL", "TOKEN"],
    "Python's requests": [sys.executable, "-c", REQUESTS, "URL", "TOKEN"],
    "Python's httpx": [str(ROOT / ".venv-openapi" / "bin" / "python"), "-c", HTTPX, "URL", "TOKEN"],
    "Node's fetch": ["node", "-e", NODE, "URL", "TOKEN"],
    "Java's HttpClient": ["java", "Fetch.java", "URL", "TOKEN"],
}


@dataclass(frozen=True)
class Redirecting:
    """A service whose redirects lead to a logging server; `seen` are the headers of its requests."""

    service: Service
    seen: list[dict[str, str]]


@pytest.fixture(scope="module")
def redirecting(ministack_s3: S3, make_service: Callable[..., Service]) -> Iterator[Redirecting]:
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"bytes")

    with serving(Handler) as port:
        service = make_service(
            ministack_s3,
            ministack_s3.make_bucket("day02-redirecting"),
            api_tokens=f"[{manage.entry_json(ENTRY)}]",
            allow_anonymous=False,
            s3_public_endpoint_url=f"http://localhost:{port}",
        )
        yield Redirecting(service, seen)


def test_the_table_lists_the_clients_that_are_tried() -> None:
    """The documentation has an answer for each client, and for no other."""
    assert DOCUMENTED.keys() == COMMANDS.keys()


@pytest.mark.parametrize("client", COMMANDS)
def test_a_client_forwards_the_token_or_not(client: str, redirecting: Redirecting, tmp_path: Path) -> None:
    """`?redirect=true` leads to another host; a logging server there sees whether the token came along."""
    program = COMMANDS[client][0]
    need(shutil.which(program), f"{program} is not installed: what {client} does with a token is not tried")
    (tmp_path / "Fetch.java").write_text(JAVA)
    redirecting.seen.clear()
    url = redirecting.service.at("/download/", "any.txt") + "?redirect=true&check=false"
    command = [part.replace("TOKEN", f"Bearer {TOKEN}").replace("URL", url) for part in COMMANDS[client]]
    done = subprocess.run(
        command, cwd=tmp_path, env=without_aws(os.environ), capture_output=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert redirecting.seen
    forwarded = any(TOKEN in headers.get("authorization", "") for headers in redirecting.seen)
    assert forwarded == DOCUMENTED[client]


def test_a_presigned_url_ends_in_the_middle_of_a_video(
    seaweedfs_s3: S3, make_service: Callable[..., Service]
) -> None:
    """A player asks for ranges as it goes: after the URL's life S3 answers 403, and `/files` goes on."""
    bucket = seaweedfs_s3.make_bucket("day02-video")
    service = make_service(seaweedfs_s3, bucket, download_url_seconds=1)
    requests.put(service.at("/upload/", "film.mp4"), data=b"0123456789", timeout=10)
    url = presigned(requests.get(service.at("/download/", "film.mp4"), timeout=10))

    def seek(at: str) -> requests.Response:
        return requests.get(at, headers={"Range": "bytes=5-"}, timeout=10)

    until(lambda: seek(url).status_code == 403, "the URL expires")
    through = seek(service.at("/files/", "film.mp4"))

    assert (through.status_code, through.content) == (206, b"56789")
