"""The smoke test: uploads a file, lists it, downloads it by its presigned URL, and deletes it."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
import urllib.error
import urllib.request
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from deploy.steps import Failed, Reporter

ANSWERS_WITHIN = 60


def smoke(url: str, token: str | None, report: Reporter, balancer: str = "") -> None:
    """Raise unless all four work. The name of a new balancer may take a minute to resolve.

    With `balancer`, connect to that name: DNS may not lead to it yet, or may still lead to an older one.
    """
    opener = through(balancer)
    folder = f"smoke-{secrets.token_hex(6)}"
    name = f"{folder}/file.bin"
    content = secrets.token_bytes(100_000)
    _wait(url, opener)
    _call(opener, "PUT", f"{url}/upload/{name}", token, content)
    listed = _call(opener, "GET", f"{url}/list_files?prefix={folder}/", token)["content"]
    if listed != [name]:
        raise Failed(f"the uploaded file is not listed: {listed}", "Read the log of the API: make logs")
    presigned = _call(opener, "GET", f"{url}/download/{name}", token)["content"]
    with urllib.request.urlopen(presigned, timeout=30) as answer:
        if answer.read() != content:
            raise Failed(
                "the downloaded bytes differ from the uploaded ones", "Read the log of the API: make logs"
            )
    _call(opener, "DELETE", f"{url}/delete/{name}", token)
    if listed := _call(opener, "GET", f"{url}/list_files?prefix={folder}/", token)["content"]:
        raise Failed(f"the deleted file is still listed: {listed}", "Read the log of the API: make logs")
    report.say("uploaded, listed, downloaded by presigned URL, deleted")


def through(balancer: str) -> urllib.request.OpenerDirector:
    """Open URLs at that host. The name in the URL stays in the request and is checked in the certificate."""
    return urllib.request.build_opener(*([_AtBalancer(balancer)] if balancer else []))


class _Connection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, balancer: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._balancer = balancer

    def connect(self) -> None:
        plain = socket.create_connection((self._balancer, self.port), self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]


class _AtBalancer(urllib.request.HTTPSHandler):
    def __init__(self, balancer: str) -> None:
        super().__init__()
        self._balancer = balancer

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Connection, balancer=self._balancer), request)


def curl(url: str, balancer: str) -> str:
    """The beginning of a curl command for this URL, also while its name does not lead to the balancer."""
    asked = urlsplit(url)
    host, port = asked.hostname or "", asked.port or (443 if asked.scheme == "https" else 80)
    if not balancer or host == balancer or _addresses(host) & _addresses(balancer):
        return "curl"
    return f"curl --connect-to {host}:{port}:{balancer}:{port}"


def _addresses(host: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def _wait(url: str, opener: urllib.request.OpenerDirector) -> None:
    deadline = time.monotonic() + ANSWERS_WITHIN
    while True:
        try:
            with opener.open(f"{url}/livez", timeout=5):
                return
        except urllib.error.HTTPError as error:
            problem: Exception = error
        except OSError as error:
            problem = error
        if time.monotonic() > deadline:
            raise Failed(f"{url} does not answer: {problem}", "Read the log of the API: make logs") from None
        time.sleep(0.5)


def _call(
    opener: urllib.request.OpenerDirector, method: str, url: str, token: str | None, body: bytes | None = None
) -> dict[str, Any]:
    request = urllib.request.Request(url, method=method, data=body)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with opener.open(request, timeout=30) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace")
        then = "Read the log of the API: make logs"
        if error.code == 401:
            then = "Set S3API_TOKEN to a token that may list, read, write and delete"
        raise Failed(
            f"{method} {url.split('?', maxsplit=1)[0]} answered {error.code}: {said}", then
        ) from None
    except OSError as error:
        raise Failed(
            f"{method} {url.split('?', maxsplit=1)[0]}: {error}", "Read the log of the API: make logs"
        ) from None
