"""HTTP clients that use little CPU: one for many small requests at once, one for long bodies.

Both use HTTP/1.1 over kept connections and check every answer. A wrong answer ends the measurement with
`WrongAnswer`.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit

CHUNK = 1024 * 1024
RECEIVE = 64 * 1024
PATIENCE_SECONDS = 120.0


class WrongAnswer(Exception):
    """A server gave another answer than the one that is measured, so its figure would mean nothing."""


def request_bytes(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """One request, as bytes for a kept connection."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Load:
    """How many requests were answered, in how many seconds, and the CPU seconds of the client itself."""

    requests: int
    seconds: float
    client_cpu: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def client_busy(self) -> float:
        """The share of one core that the client used. Near 1 the client would limit the rate."""
        return self.client_cpu / self.seconds


class _Connection:
    """One kept connection with at most one request under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._head = False

    def send(self, request: bytes) -> None:
        self._received.clear()
        self._head = request.startswith(b"HEAD ")
        self.socket.sendall(request)

    def answer(self) -> tuple[int, bytes] | None:
        """Status and body, when they are complete."""
        data = self.socket.recv(RECEIVE)
        if not data:
            raise WrongAnswer(f"the connection ended before the answer did: {bytes(self._received[:200])!r}")
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end])
        body = end + 4
        length = 0
        if not self._head:
            at = head.lower().find(b"\r\ncontent-length:")
            if at < 0:
                raise WrongAnswer(f"an answer without a Content-Length: {head[:300]!r}")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(self._received) < body + length:
            return None
        return int(head[9:12]), bytes(self._received[body : body + length])


def load(
    url: str,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float | None,
    contains: bytes = b"",
) -> Load:
    """Send the requests over several connections; each sends its next request after it has an answer.

    With `seconds` the requests are repeated for that time; without, each is sent exactly once. Every answer
    must be 200 and contain the bytes `contains`.
    """
    parts = urlsplit(url)
    deadline = time.perf_counter() + seconds if seconds else float("inf")
    following: Iterator[bytes] = itertools.cycle(requests) if seconds else iter(requests)
    answered = 0
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())

        def send_next(connection: _Connection) -> bool:
            """Send a request if one is left; whether it was sent."""
            request = next(following, None) if time.perf_counter() < deadline else None
            if request is not None:
                connection.send(request)
            return request is not None

        begun, cpu = time.perf_counter(), time.thread_time()
        busy = 0
        for _ in range(connections):
            connection = _Connection((parts.hostname or "", parts.port or 80))
            stack.enter_context(connection.socket)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            busy += send_next(connection)
        while busy:
            ready = selector.select(PATIENCE_SECONDS)
            if not ready:
                raise WrongAnswer(f"no answer from {url} within {PATIENCE_SECONDS} s")
            for key, _ in ready:
                answer = key.data.answer()
                if answer is None:
                    continue
                answered += 1
                if answer[0] != 200 or contains not in answer[1]:
                    raise WrongAnswer(f"{url}: {answer[0]} {answer[1][:300]!r}")
                busy += send_next(key.data) - 1
        return Load(answered, time.perf_counter() - begun, time.thread_time() - cpu)


@dataclass(frozen=True)
class Answer:
    """An answer that was read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def expect(self, *statuses: int) -> Answer:
        if self.status not in statuses:
            raise WrongAnswer(f"{self.status} {self.body[:300]!r}")
        return self


class Client:
    """One kept connection, for one request at a time. `ca` signed the certificate of an https URL."""

    def __init__(self, url: str, ca: str | None = None) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        self._connection = (
            http.client.HTTPSConnection(
                host,
                parts.port,
                timeout=PATIENCE_SECONDS,
                context=ssl.create_default_context(cafile=ca),
                blocksize=CHUNK,
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, PATIENCE_SECONDS, blocksize=CHUNK)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _begin(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        self._connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()

    def _answer(self) -> Answer:
        response = self._connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request and read its answer whole."""
        given = dict(headers or {})
        if body:
            given["Content-Length"] = str(len(body))
        self._begin(method, target, given)
        if body:
            self._connection.send(body)
        return self._answer()

    def upload(
        self,
        method: str,
        target: str,
        content: Content,
        headers: Mapping[str, str] | None = None,
        *,
        form: tuple[bytes, bytes] = (b"", b""),
    ) -> Answer:
        """Send the content, with the form's parts before and after it, and read the answer."""
        before, after = form
        given = {**(headers or {}), "Content-Length": str(len(before) + content.size + len(after))}
        self._begin(method, target, given)
        # A server that refuses the body closes before it has received all of it; its answer says why.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(before)
            content.send(self._connection.sock)
            self._connection.send(after)
        return self._answer()

    def download(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        statuses: Sequence[int] = (200,),
        look: Callable[[memoryview], object] | None = None,
    ) -> int:
        """GET, pass the body to `look` piece by piece, and return its length in bytes."""
        self._begin("GET", target, headers or {})
        response = self._connection.getresponse()
        if response.status not in statuses:
            raise WrongAnswer(f"{response.status} {response.read()[:300]!r}")
        piece = memoryview(bytearray(CHUNK))
        total = 0
        while count := response.readinto(piece):
            total += count
            if look is not None:
                look(piece[:count])
        return total


@dataclass(frozen=True)
class Content:
    """A body of `size` bytes: a file that the kernel sends, repeated until the size is reached."""

    path: Path
    size: int

    def send(self, to: socket.socket) -> None:
        with self.path.open("rb") as file:
            available = file.seek(0, 2)
            left = self.size
            while left > 0:
                file.seek(0)  # over TLS, sendfile(offset=0) reads from where the file is
                left -= to.sendfile(file, 0, min(left, available))

    def sha256(self) -> str:
        """In hex."""
        digest = hashlib.sha256()
        left = self.size
        with self.path.open("rb") as file:
            while left > 0:
                data = _read(file, min(left, CHUNK))
                digest.update(data)
                left -= len(data)
        return digest.hexdigest()


def _read(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if not data:
        file.seek(0)
        data = file.read(length)
    return data


def ask(
    url: str, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Send one request over a new connection."""
    with Client(url) as client:
        return client.request(method, path, headers, body)
