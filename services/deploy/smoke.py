"""The smoke test: uploads a file, lists it, downloads it by its presigned URL, and deletes it."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.steps import Failed, Reporter

ANSWERS_WITHIN = 60


class Unreachable(Failed):
    """No connection to the load balancer was possible, which says nothing about the tasks."""


@dataclass(frozen=True)
class Balancer:
    """Where the load balancer is, whatever DNS says of the URL's host.

    DNS may not lead to it yet, or may still lead to an older one. `ports` maps the port of a URL to the port
    of `host`, where they differ. `ca` is the certificate file of a private CA.
    """

    host: str
    ports: Mapping[int, int] = field(default_factory=dict)
    ca: Path | None = None

    def port(self, port: int) -> int:
        return self.ports.get(port, port)


def smoke(url: str, token: str | None, report: Reporter, balancer: Balancer | None = None) -> None:
    """Raise `Failed` unless all four work, and `Unreachable` if there is no connection.

    The name of a new balancer may take a minute to resolve.
    """
    opener = through(balancer)
    folder = f"smoke-{secrets.token_hex(6)}"
    name = f"{folder}/file.bin"
    content = secrets.token_bytes(100_000)
    _wait(url, opener)
    if url.startswith("https:"):
        _check_redirect(url, opener)
    _call(opener, "PUT", f"{url}/upload/{name}", token, content)
    listed = _call(opener, "GET", f"{url}/list_files?prefix={folder}/", token)["content"]
    if listed != [name]:
        raise Failed(f"the uploaded file is not listed: {listed}")
    presigned = _call(opener, "GET", f"{url}/download/{name}", token)["content"]
    try:
        with urllib.request.urlopen(presigned, timeout=30) as answer:
            received = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"the file cannot be downloaded by its presigned URL: {error}") from None
    if received != content:
        raise Failed("the downloaded bytes differ from the uploaded ones")
    _call(opener, "DELETE", f"{url}/delete/{name}", token)
    if listed := _call(opener, "GET", f"{url}/list_files?prefix={folder}/", token)["content"]:
        raise Failed(f"the deleted file is still listed: {listed}")
    report.say("uploaded, listed, downloaded by presigned URL, deleted")


def through(balancer: Balancer | None) -> urllib.request.OpenerDirector:
    """Open URLs at the balancer. The name in a URL stays in the request, and the certificate must have it."""
    if balancer is None:
        return urllib.request.build_opener()
    return urllib.request.build_opener(_PlainAtBalancer(balancer), _AtBalancer(balancer))


class _Plain(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, balancer: Balancer, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._balancer = balancer

    def connect(self) -> None:
        where = (self._balancer.host, self._balancer.port(self.port))
        self.sock = socket.create_connection(where, self.timeout)


class _Secure(_Plain):
    default_port = http.client.HTTPS_PORT

    def __init__(self, *arguments: Any, balancer: Balancer, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(*arguments, balancer=balancer, **options)
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


class _PlainAtBalancer(urllib.request.HTTPHandler):
    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        self._balancer = balancer

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Plain, balancer=self._balancer), request)


class _AtBalancer(urllib.request.HTTPSHandler):
    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        context = ssl.create_default_context(cafile=balancer.ca)
        self._connection = partial(_Secure, balancer=balancer, context=context)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, request)


def curl(url: str, balancer: Balancer | None) -> str:
    """The beginning of a curl command for this URL, also while its name does not lead to the balancer."""
    asked = urlsplit(url)
    host, port = asked.hostname or "", asked.port or (443 if asked.scheme == "https" else 80)
    if balancer is None:
        return "curl"
    trust = f" --cacert {balancer.ca}" if balancer.ca else ""
    same = host == balancer.host or _addresses(host) & _addresses(balancer.host)
    if same and balancer.port(port) == port:
        return f"curl{trust}"
    return f"curl{trust} --connect-to {host}:{port}:{balancer.host}:{balancer.port(port)}"


def _addresses(host: str) -> set[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def _check_redirect(url: str, opener: urllib.request.OpenerDirector) -> None:
    """Raise unless plain HTTP on port 80 leads to the same URL by HTTPS."""
    asked = urlsplit(url)
    plain = f"http://{asked.hostname}/livez"
    try:
        with opener.open(plain, timeout=30) as answer:
            found = urlsplit(answer.url)
    except OSError as error:
        raise Failed(f"{plain} does not lead to {url}: {error}", "See the listener on port 80") from None
    if (found.scheme, found.hostname, found.port or 443) != ("https", asked.hostname, asked.port or 443):
        raise Failed(f"{plain} leads to {answer.url}, not to {url}", "See the listener on port 80")


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
            # A security group drops the packets. The reason of the error of urllib is then a timeout.
            if isinstance(getattr(problem, "reason", None), TimeoutError):
                raise Unreachable(
                    f"no connection to {url} can be made",
                    "Does allowed_cidrs contain this machine? The new tasks are healthy and stay",
                ) from None
            raise Failed(f"{url} does not answer: {problem}") from None
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
        then = ""
        if error.code in (401, 403):
            then = "Set S3API_TOKEN to a token that may list, read, write and delete"
        raise Failed(
            f"{method} {url.split('?', maxsplit=1)[0]} answered {error.code}: {said}", then
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Failed(f"{method} {url.split('?', maxsplit=1)[0]}: {error}") from None
