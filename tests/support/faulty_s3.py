"""A proxy in front of a real S3 that fails on request: it refuses, hangs, resets, drips or answers errors."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.http_server import Server
from support.raw_client import RESET_ON_CLOSE
from support.servers import S3

PIECE = 64 * 1024
#: Every answer of S3 has this header.
REQUEST_ID = ("x-amz-request-id", "4442587FB7D0A2F9")
#: Every error of the proxy contains it, as errors of S3 do. No client may see it.
ARN = "arn:aws:sts::123456789012:assumed-role/s3api-task/0a1b2c"


@dataclass(frozen=True)
class Asked:
    """A request that reached S3."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AnswerError:
    """Answer with an error in S3's format, without asking S3, `after` this many bytes of the body, or all."""

    status: int
    code: str
    after: int | None = None


@dataclass(frozen=True)
class Instead:
    """Answer with this, without asking S3. An `endless` answer repeats the `body` without end.

    `length` is the Content-Length of the answer. The connection ends after the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    length: int | None = None
    endless: bool = False


@dataclass(frozen=True)
class Hang:
    """Read the request and never answer."""


@dataclass(frozen=True)
class Late:
    """Pass on the request unchanged after this many seconds."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """Reset the connection after this number of bytes of the body has reached S3."""

    after: int = 0


@dataclass(frozen=True)
class BreakAnswer:
    """Pass on the head of S3's answer and this number of bytes of its body; then close, or hang."""

    after: int
    hang: bool = False


@dataclass(frozen=True)
class Drip:
    """Pass on the head of S3's answer and this number of bytes of its body, then ten bytes per second.

    After `seconds`, the rest is passed on: a test ends, although nothing limits the answer.
    """

    after: int
    seconds: float = 30


@dataclass(frozen=True)
class Swallow:
    """Read the body, drop it, and answer that it was stored; for bodies that are too large to store."""


@dataclass(frozen=True)
class Damage:
    """Change the byte of the request's body at this offset."""

    at: int = 50_000


Fault = AnswerError | Instead | Hang | Late | Reset | BreakAnswer | Drip | Swallow | Damage


def always(_asked: Asked) -> bool:
    return True


class FaultyS3:
    """The proxy. Clients use `s3`. Without a fault every request goes on to S3 unchanged."""

    def __init__(self, upstream: S3) -> None:
        parts = urlsplit(upstream.url)
        self.kind = upstream.kind
        self._upstream = (str(parts.hostname), int(parts.port or 80))
        self._fault: tuple[Fault, Callable[[Asked], bool]] | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self.asked: list[Asked] = []
        #: How many bytes of bodies it has sent for `Instead`.
        self.sent = 0
        self._server = self._listen(*(upstream.proxy_ports or (0,)))
        self.s3 = S3("faulty", f"http://127.0.0.1:{self._server.server_port}", upstream.credentials)

    @contextmanager
    def failing(self, fault: Fault, when: Callable[[Asked], bool] = always) -> Iterator[None]:
        """Until the block ends, fail every request for which `when` is true."""
        self._over.clear()
        self._fault = fault, when
        try:
            yield
        finally:
            self._fault = None
            self._over.set()
            self._drop_connections()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Until the block ends, refuse every connection."""
        port = self._server.server_port
        self.close()
        try:
            yield
        finally:
            self._server = self._listen(port)

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._drop_connections()

    def _listen(self, *ports: int) -> Server:
        """A server at the first free port of these."""
        *others, last = ports
        for port in others:
            with suppress(OSError):
                return self._serve(port)
        return self._serve(last)

    def _serve(self, port: int) -> Server:
        server = _Server(("127.0.0.1", port), _handler(self))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _drop_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    # --- one request

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        asked = Asked(
            handler.command, parts.path, parse_qs(parts.query, keep_blank_values=True), dict(handler.headers)
        )
        self.asked.append(asked)
        fault = self._fault[0] if self._fault and self._fault[1](asked) else None
        if isinstance(fault, AnswerError):
            self._answer_error(handler, fault)
        elif isinstance(fault, Instead):
            self._answer_instead(handler, fault)
        elif isinstance(fault, Hang):
            self._over.wait()
            handler.close_connection = True
        elif isinstance(fault, Late):
            self._over.wait(fault.seconds)
            self._pass_on(handler, None)
        elif isinstance(fault, Swallow):
            for _ in _body(handler):
                pass
            _answer(handler, 200, [REQUEST_ID, ("ETag", '"0123456789abcdef0123456789abcdef"')], b"")
        elif isinstance(fault, Reset) and not fault.after:
            _reset(handler)
        else:
            self._pass_on(handler, fault)

    def _answer_error(self, handler: BaseHTTPRequestHandler, fault: AnswerError) -> None:
        if "100-continue" in handler.headers.get("Expect", ""):
            handler.close_connection = True  # as S3 does when it does not want the body
        else:
            received = 0
            for data in _body(handler):
                received += len(data)
                if fault.after is not None and received >= fault.after:
                    handler.close_connection = True
                    break
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{fault.code}</Code>'
            f"<Message>User: {ARN} is told {fault.code} by S3</Message>"
            "<RequestId>4442587FB7D0A2F9</RequestId></Error>"
        )
        _answer(handler, fault.status, [REQUEST_ID, ("Content-Type", "application/xml")], body.encode())
        if "100-continue" in handler.headers.get("Expect", ""):
            _linger(handler)

    def _answer_instead(self, handler: BaseHTTPRequestHandler, fault: Instead) -> None:
        if "100-continue" not in handler.headers.get("Expect", ""):
            for _ in _body(handler):
                pass
        handler.close_connection = True
        headers = [*fault.headers, ("Connection", "close")]
        if not fault.endless and fault.status != 204:
            headers.append(("Content-Length", str(len(fault.body) if fault.length is None else fault.length)))
        _head(handler, fault.status, headers)
        if handler.command == "HEAD":
            return
        with suppress(OSError):
            while not self._over.is_set():
                handler.wfile.write(fault.body)
                self.sent += len(fault.body)
                if not fault.endless:
                    break

    def _pass_on(self, handler: BaseHTTPRequestHandler, fault: Fault | None) -> None:
        upstream = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            upstream.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in ("expect", "connection"):
                    upstream.putheader(name, value)
            upstream.endheaders()
            sent = 0
            for data in _body(handler):
                if isinstance(fault, Damage) and 0 <= (here := fault.at - sent) < len(data):
                    data = data[:here] + bytes([data[here] ^ 1]) + data[here + 1 :]  # noqa: PLW2901 - the changed piece is sent
                upstream.send(data)
                sent += len(data)
                if isinstance(fault, Reset) and sent >= fault.after:
                    _reset(handler)
                    return
            self._pass_back(handler, upstream.getresponse(), fault)
        finally:
            upstream.close()

    def _pass_back(
        self, handler: BaseHTTPRequestHandler, answer: http.client.HTTPResponse, fault: Fault | None
    ) -> None:
        kept = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "content-length")
        ]
        length = answer.headers.get("Content-Length")
        if length is None or handler.command == "HEAD":
            _answer(handler, answer.status, kept, answer.read(), length)
            return
        _head(handler, answer.status, [*kept, ("Content-Length", length)])
        sent = 0
        while data := answer.read(PIECE):
            if isinstance(fault, BreakAnswer) and sent + len(data) > fault.after:
                handler.wfile.write(data[: fault.after - sent])
                if fault.hang:
                    self._over.wait()
                handler.close_connection = True
                return
            if isinstance(fault, Drip) and sent + len(data) > fault.after:
                for _ in range(int(fault.seconds * 10)):
                    handler.wfile.write(data[:1])
                    data = data[1:]
                    if self._over.wait(0.1):
                        handler.close_connection = True
                        return
                fault = None
            handler.wfile.write(data)
            sent += len(data)


def _body(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    left = int(handler.headers.get("Content-Length") or 0)
    if left and "100-continue" in handler.headers.get("Expect", ""):
        handler.send_response_only(100)
        handler.end_headers()
    while left:
        data: bytes = handler.rfile.read1(min(left, PIECE))
        if not data:
            raise ConnectionError("The client has gone")
        left -= len(data)
        yield data


def _head(handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]]) -> None:
    handler.send_response_only(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()


def _answer(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    length: str | None = None,
) -> None:
    if status not in (204, 304):
        headers = [*headers, ("Content-Length", length or str(len(body)))]
    _head(handler, status, headers)
    if handler.command != "HEAD":
        handler.wfile.write(body)


def _linger(handler: BaseHTTPRequestHandler) -> None:
    """Read what the client still sends: a client that waited too long for `100 Continue` sends its body.

    To close at once would reset the connection, and the client could lose the answer (RFC 9112, section 9.6).
    """
    handler.connection.shutdown(socket.SHUT_WR)
    handler.connection.settimeout(2)
    with suppress(OSError):
        while handler.rfile.read1():
            pass


def _reset(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


class _Server(Server):
    daemon_threads = True
    block_on_close = False

    def shutdown_request(self, request: Any) -> None:
        if struct.unpack("ii", request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0]:
            self.close_request(request)  # after an orderly shutdown there would be no reset
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are intended here."""


def _handler(proxy: FaultyS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            proxy.opened(self.connection)

        def finish(self) -> None:
            proxy.closed(self.connection)
            with suppress(OSError):
                super().finish()

        def do_GET(self) -> None:
            proxy.serve(self)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server calls these names

        def handle_expect_100(self) -> bool:
            return True  # `_body` sends it when the body is wanted

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def running_faulty_s3(upstream: S3) -> Iterator[FaultyS3]:
    proxy = FaultyS3(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
