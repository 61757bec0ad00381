"""gunicorn's worker: how long it waits for clients, and what it answers before the application is asked.

Each connection has its own greenlet. A wait for one client never delays another, not even while a connection
is being closed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import re
import resource
import secrets
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from wsgiref.types import WSGIApplication

import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http import RequestParser, wsgi
from gunicorn.http import errors as malformed
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import http_date
from gunicorn.workers.ggevent import GeventWorker
from prometheus_client import Counter

from s3api import cors
from s3api.failures import MalformedBody
from s3api.headers import ALWAYS, TUS_VERSION, UNLESS_SET
from s3api.metrics import requests_waiting
from s3api.observability import registry
from s3api.settings import Settings
from s3api.waiting import IN_MEMORY, NO_PLACE
from s3api.write_headers import unsupported_in_trailer

log = logging.getLogger("s3api")

#: The head of a request, all of it: what AWS's load balancer accepts at most
#: (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html).
HEAD_BYTES = 64 * 1024
#: gunicorn receives up to 1 MiB of a body at once. With many uploads a small task has no memory for that.
RECEIVE_BYTES = 64 * 1024
#: After a refusal, clients may continue to send. The service reads and drops this much at most.
LINGER_BYTES = 256 * 1024 * 1024
LINGER_SECONDS = 30.0
LINGER_SILENCE_SECONDS = 2.0
#: Open files in addition to clients' connections: two connections to S3 and two files for each request, and
#: those that the process always has.
FILES_PER_REQUEST = 4
FILES_OF_PROCESS = 64
MAX_CONNECTIONS = 10_000
#: Connections to the port of the metrics. They do not count among the others, and so are never refused.
METRICS_CONNECTIONS = 16

#: Requests that do not wait for a place among the requests that are served at once.
PROBES = frozenset({"/livez", "/readyz", "/healthz"})

#: What decides about the headers of a refusal. A head that is not valid cannot be parsed, so it is searched.
ORIGIN = re.compile(rb"\r\nOrigin:[ \t]*([\x21-\x7e]+)[ \t]*(?=\r\n)", re.IGNORECASE)
OF_TUS = re.compile(rb"(?:\r\n)?(?!OPTIONS )[A-Za-z]+ (?:https?://[^/ ]+)?/tus")

#: Headers that need no check before they are sent.
CONSTANT = frozenset([*ALWAYS, *UNLESS_SET])

#: A close with this option resets the connection, and drops what the kernel has not sent.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

slow_clients = Counter(
    "s3api_slow_clients",
    "Requests that were ended because the client was too slow, by what it was slow with: head, body, answer",
    ["part"],
    registry=registry,
)


class HeadTooSlow(malformed.ParseException):  # type: ignore[misc]
    """The head of a request did not come in time."""

    def __str__(self) -> str:
        return "the head of the request did not come in time"


class BodyTooSlow(TimeoutError):
    """The body of a request comes more slowly than the minimum, or not at all."""


class AnswerTooSlow(TimeoutError):
    """The client reads the answer more slowly than the minimum, or not at all."""


class UnknownVersion(malformed.ParseException):  # type: ignore[misc]
    """The request is in another major version of HTTP."""

    def __str__(self) -> str:
        return "unknown version"


#: The status, code and message of requests that are refused before the application is asked. The default is
#: 400.
REFUSALS: dict[type[Exception], tuple[str, str, str]] = {
    HeadTooSlow: (
        "408 Request Timeout",
        "request_timeout",
        "The head of the request did not come in time; send it again",
    ),
    malformed.LimitRequestLine: (
        "414 URI Too Long",
        "malformed_request",
        "The request line is longer than 8190 bytes",
    ),
    malformed.ExpectationFailed: (
        "417 Expectation Failed",
        "malformed_request",
        "The only expectation that is understood is 'Expect: 100-continue'",
    ),
    malformed.LimitRequestHeaders: (
        "431 Request Header Fields Too Large",
        "malformed_request",
        "The request has more than 100 headers, a header above 8190 bytes, or a head above 65536 bytes",
    ),
    malformed.UnsupportedTransferCoding: (
        "501 Not Implemented",
        "malformed_request",
        "The only Transfer-Encoding that is understood is 'chunked'",
    ),
    # RFC 9110, section 15.6.6
    UnknownVersion: (
        "505 HTTP Version Not Supported",
        "malformed_request",
        "The service speaks HTTP/1.1 and HTTP/1.0",
    ),
}


def raise_file_limit() -> int:
    """Raise this process's limit of open files as far as the system allows; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and wanted > soft:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return 65_536 if soft == resource.RLIM_INFINITY else soft


def connections_within(files: int, requests: int) -> int:
    """How many connections a process may have that may open `files` and serves `requests` at once."""
    return max(requests, min(MAX_CONNECTIONS, files - FILES_OF_PROCESS - FILES_PER_REQUEST * requests))


class Receiver(SocketUnreader):  # type: ignore[misc]
    """Receives from a client: a head within CLIENT_STALL_SECONDS in all, a body at the minimum rate.

    A body has a credit of CLIENT_STALL_SECONDS. Waiting uses the credit, and each byte adds to it at the
    minimum rate, up to what it was at the start. So a client may pause once, but may not drip.
    """

    max_body_chunk = RECEIVE_BYTES

    def __init__(self, sock: Any, settings: Settings) -> None:
        super().__init__(sock)
        self._stall = settings.client_stall_seconds
        self._rate = settings.client_min_bytes_per_second
        self._deadline: float | None = None
        self._credit = self._stall
        self._head = bytearray()
        #: The part of the request that came too slowly: "head" or "body".
        self.late: str | None = None

    def expect_head(self) -> None:
        """The next bytes are a head, which has just begun."""
        self._deadline = time.monotonic() + self._stall
        self._head = bytearray(self.buf.getvalue())

    def expect_body(self) -> None:
        self._deadline = None
        self._credit = self._stall
        self._head = bytearray()

    @property
    def head(self) -> bytes:
        """What has arrived of the head. Empty once a body is expected."""
        return bytes(self._head)

    def idle(self, seconds: float) -> bool:
        """Wait for a request; False if none begins within this time."""
        if self.buf.getbuffer().nbytes:
            return True
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(self.mxchunk)
        except (TimeoutError, OSError):
            return False
        self.unread(data)
        return bool(data)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Raises `HeadTooSlow`, `BodyTooSlow` and `LimitRequestHeaders`."""
        if self._deadline is not None:
            return self._rest_of_head(self._deadline)
        started = time.monotonic()
        data = self._receive(self._credit, size_hint)
        if data is None:
            self.late = "body"
            raise BodyTooSlow
        waited = time.monotonic() - started
        self._credit = min(self._stall, self._credit - waited + len(data) / self._rate)
        return data

    def _rest_of_head(self, deadline: float) -> bytes:
        """What is missing of the head, or as much of it as shows that the request is not valid.

        gunicorn looks through the whole head again each time that bytes come. So after the first line it
        gets the rest at once.
        """
        known = len(self._head)
        in_first_line = b"\r\n" not in self._head[2:]  # one empty line may come before it
        while True:
            before = len(self._head)
            data = self._receive(deadline - time.monotonic())
            if data is None:
                self.late = "head"
                raise HeadTooSlow
            self._head += data
            end = self._head.find(b"\r\n\r\n", max(0, before - 3))
            if (len(self._head) if end < 0 else end) > HEAD_BYTES:
                raise malformed.LimitRequestHeaders("head")
            if not data or end >= 0 or in_first_line or self._has_bare_line_feed(before):
                return bytes(self._head[known:])

    def _has_bare_line_feed(self, start: int) -> bool:
        """Whether a line from here on ends without CR: gunicorn refuses it (RFC 9112, section 2.2)."""
        lines = self._head.count(b"\n", start)
        return lines != self._head.count(b"\r\n", max(0, start - 1))

    def _receive(self, seconds: float, size_hint: int | None = None) -> bytes | None:
        """What comes within this time; None if nothing does."""
        data: bytes | None = None
        if seconds > 0:
            self.sock.settimeout(seconds)
            with suppress(TimeoutError):
                data = super().chunk(size_hint)
            gevent.sleep(0)  # a client that sends at full speed would let no other request run
        return data


class Sender:
    """Sends the answers of a connection at a minimum rate.

    In each CLIENT_STALL_SECONDS of waiting, the client must acknowledge at least CLIENT_STALL_SECONDS x
    CLIENT_MIN_BYTES_PER_SECOND bytes.

    The kernel holds megabytes of an answer, and accepts more only in large steps. So what counts is what has
    left the kernel, not what it accepts.
    """

    def __init__(self, sock: Any, settings: Settings) -> None:
        self.sock = sock
        self._stall = settings.client_stall_seconds
        self._least = self._stall * settings.client_min_bytes_per_second
        self._patience = self._stall
        #: The head of an answer, which is sent together with what follows it.
        self._held = b""
        self._accepted = 0  # bytes that the kernel has accepted
        self._received = 0  # bytes that the client's kernel had acknowledged when the patience began

    def begin(self) -> None:
        """An answer begins."""
        self._patience = self._stall

    def hold(self, head: bytes) -> None:
        """Send this together with the next bytes: one call of the kernel and one packet instead of two."""
        self._held = head

    def flush(self) -> None:
        if self._held:
            self.sendall(b"")

    def sendall(self, data: bytes) -> None:
        """Raises `AnswerTooSlow`."""
        left = [memoryview(part) for part in (self._held, data) if part]
        self._held = b""
        while left:
            started = time.monotonic()
            self.sock.settimeout(self._patience)
            with suppress(TimeoutError):
                sent = self.sock.sendmsg(left)
                self._accepted += sent
                while left and sent >= len(left[0]):
                    sent -= len(left.pop(0))
                if left:
                    left[0] = left[0][sent:]
            self._patience -= time.monotonic() - started
            if self._patience <= 0:
                self._check_rate()

    def _check_rate(self) -> None:
        received = self._accepted - unacknowledged(self.sock)
        if received - self._received < self._least:
            raise AnswerTooSlow
        self._received = received
        self._patience = self._stall


class _Idle:
    """The connections of one port that can end without losing a request."""

    def __init__(self) -> None:
        #: Those that wait for a request, the one that has waited longest first.
        self.waiting: dict[Any, None] = {}
        #: Those that have not sent a whole head yet, the oldest first.
        self.new: dict[Any, None] = {}

    def end_one(self) -> None:
        """End the oldest that has sent no whole head, or the one that is idle longest, to make room."""
        for connections in (self.new, self.waiting):
            for client in connections:
                del connections[client]
                with suppress(OSError):
                    client.shutdown(0)
                return


def unacknowledged(sock: Any) -> int:
    """The number of bytes that the kernel has accepted and the client has not acknowledged.

    Linux: SIOCOUTQ in tcp(7), which is TIOCOUTQ. Returns 0 on a system without it.
    """
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn's, which sends the head of an answer together with its first bytes."""

    sock: Sender
    headers_sent: bool
    headers: list[tuple[str, str]]

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Check each header, except those that every answer has: they are constants."""
        super().process_headers([header for header in headers if header not in CONSTANT])
        self.headers += [header for header in headers if header in CONSTANT]

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self.sock.hold("".join(lines).encode("latin-1"))
        self.headers_sent = True

    def write(self, arg: bytes) -> None:
        super().write(arg)
        self.sock.flush()  # an answer to HEAD has no bytes

    def close(self) -> None:
        super().close()
        self.sock.flush()


class Input:
    """`wsgi.input`: sends `100 Continue` only when the application reads the body.

    RFC 9110, section 10.1.1: a server that answers with a final status need not send 100 first.
    """

    def __init__(self, request: Any, ask: Callable[[], None] | None) -> None:
        self._request = request
        self._ask = ask

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        if self._ask is not None:
            ask, self._ask = self._ask, None
            ask()
        try:
            yield self._request.body
        except malformed.ParseException as error:
            raise MalformedBody("The chunks of the body are not valid (RFC 9112, section 7.1)") from error

    def read(self, size: int | None = None) -> bytes:
        """Raises `MalformedBody`."""
        with self._asked() as body:
            data: bytes = body.read(size)
        if not data:
            self._check_trailers()
        return data

    def readline(self, size: int | None = None) -> bytes:
        with self._asked() as body:
            data: bytes = body.readline(size)
        return data

    def readlines(self, hint: int | None = None) -> list[bytes]:
        with self._asked() as body:
            lines: list[bytes] = body.readlines(hint)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _check_trailers(self) -> None:
        if name := unsupported_in_trailer(name for name, _ in self._request.trailers):
            raise MalformedBody(f"A {name.title()} in a trailer is not checked; send it as a header")


def has_ended(body: Any) -> bool:
    """Whether all of a request's body has been read."""
    reader = body.reader
    if isinstance(reader, LengthReader):
        return bool(reader.length == 0)
    return isinstance(reader, ChunkedReader) and reader.parser is None


def check(request: Any) -> None:
    """Correct what gunicorn takes from a head, and refuse codings that would be stored as they are."""
    # RFC 9112, section 2.3: a higher minor version is answered as the one that the service speaks.
    request.version = min(request.version, (1, 1))
    # RFC 9110, section 7.6.1: Connection is a list. gunicorn compares the whole value.
    options = ",".join(value for name, value in request.headers if name == "CONNECTION").lower()
    if "close" in (option.strip(" \t") for option in options.split(",")):
        request.force_close()
    codings = [value.strip().lower() for name, value in request.headers if name == "TRANSFER-ENCODING"]
    if codings not in ([], ["chunked"]):
        raise malformed.UnsupportedTransferCoding(codings)


class Worker(GeventWorker):  # type: ignore[misc]
    """gevent's worker, with limits to its patience.

    gunicorn.conf.py sets `settings`, and `metrics`, the application of the second port. `slot` numbers the
    workers that live (`shared_metrics`).
    """

    settings: Settings
    metrics: WSGIApplication
    slot = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: list[_Idle] = []
        self._places = BoundedSemaphore(self.settings.max_concurrent_requests)

    # --- the life of the worker

    def run(self) -> None:
        api, *metrics = self.sockets
        server = self._listen(api, self.wsgi, self.worker_connections)
        for sock in metrics:
            self._listen(sock, type(self).metrics, METRICS_CONNECTIONS)
        while self.alive:
            self.notify()
            gevent.sleep(0.2)
        server.close()  # new connections are refused, not left unanswered
        for client in [client for idle in self._idle for client in idle.waiting]:
            with suppress(OSError):
                client.shutdown(0)  # ends the wait for a next request
        ends = time.monotonic() + self.cfg.graceful_timeout
        while len(server.pool) and time.monotonic() < ends:
            self.notify()
            server.pool.join(timeout=0.2)
        if len(server.pool):
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
            server.pool.kill(timeout=1)

    def _listen(self, sock: Any, app: WSGIApplication, connections: int) -> Any:
        sock.setblocking(1)
        pool, idle = Pool(connections), _Idle()
        self._idle.append(idle)

        def handle(client: Any, addr: Any) -> None:
            if pool.free_count() == 0:
                idle.end_one()
            self.handle(app, sock, client, addr, idle)

        server = StreamServer(sock, handle=handle, spawn=pool)
        if self.cfg.workers > 1:
            server.max_accept = 1  # leave the next connection to another worker
        server.start()
        return server

    # --- the life of a connection

    def handle(self, app: WSGIApplication, listener: Any, client: Any, addr: Any, idle: _Idle) -> None:
        request = None
        unread = False
        incoming = Receiver(client, self.settings)
        outgoing = Sender(client, self.settings)
        idle.new[client] = None
        try:
            parser = RequestParser(self.cfg, client, addr)
            parser.unreader = incoming
            server = listener.getsockname()
            patience: float = self.settings.client_stall_seconds
            while self.alive or parser.req_count == 0:
                idle.waiting[client] = None
                began = incoming.idle(patience)
                idle.waiting.pop(client, None)
                if not began:
                    return
                patience = self.cfg.keepalive
                request = None
                unread = True
                incoming.expect_head()
                request = next(parser)
                check(request)
                incoming.expect_body()
                idle.new.pop(client, None)
                keep = self._serve(app, server, request, addr, outgoing)
                unread = not has_ended(request.body)
                if not keep or unread:
                    return
        except (StopIteration, malformed.NoMoreData, gevent.GreenletExit):
            unread = False
        except OSError:  # the client is gone, or must see that its answer is not whole
            unread = False
        except Exception as error:
            self._refuse(incoming.head, client, addr, error)
        finally:
            idle.waiting.pop(client, None)
            idle.new.pop(client, None)
            if incoming.late:
                slow_clients.labels(incoming.late).inc()
            if unread:
                _linger(client)
            with suppress(OSError):
                client.close()

    def _serve(self, app: WSGIApplication, server: Any, request: Any, addr: Any, outgoing: Sender) -> bool:
        """Answer the request; returns whether the connection can be used for another one."""
        expects, request._expected_100_continue = request._expected_100_continue, False  # noqa: SLF001 - it has no public name
        response, environ = wsgi.create(
            request, outgoing.sock, addr, server, self.cfg, response_class=Response
        )
        outgoing.begin()
        response.sock = outgoing

        def ask() -> None:
            if not response.headers_sent:
                outgoing.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        environ["wsgi.multithread"] = True
        environ["wsgi.input"] = Input(request, ask if expects else None)

        def start_response(*args: Any) -> Any:
            # RFC 9112, section 9.3: the next request would begin within the rest of this one's body.
            if not self.alive or not has_ended(request.body):
                response.force_close()
            return response.start_response(*args)

        with self._broken_visibly(response, outgoing):
            if request.path in PROBES or app is not self.wsgi:
                self._answer(app, response, environ, start_response)
            else:
                with self._place(environ) as release:
                    self._answer(app, response, environ, start_response, release)
        return not response.should_close()

    @contextmanager
    def _broken_visibly(self, response: Any, outgoing: Sender) -> Iterator[None]:
        """Let a client see that its answer is not whole. Raises `OSError` for an answer that broke off."""
        try:
            yield
        except AnswerTooSlow:
            slow_clients.labels("answer").inc()
            _reset_on_close(outgoing.sock)
            log.warning(
                "The client of request %s reads its answer at less than %d bytes per second; the connection "
                "was closed after %d bytes",
                dict(response.headers).get("X-Request-Id", "-"),
                self.settings.client_min_bytes_per_second,
                response.sent,
            )
            raise
        except OSError:
            raise
        except Exception as error:
            if not response.headers_sent:
                raise
            if response.response_length is None and not response.chunked:
                # A plain close would look like the end of the answer (RFC 9112, section 8).
                _reset_on_close(outgoing.sock)
            log.exception("An answer broke off")
            raise ConnectionAbortedError from error

    @contextmanager
    def _place(self, environ: dict[str, Any]) -> Iterator[Callable[[], None]]:
        """A place among the requests that are served at once. Yields what gives it back early.

        If none becomes free, the application answers 503, because only it knows all headers of an answer. It
        still answers preflights of CORS: if one fails, the page cannot see the 503.
        """
        held = [self._places]
        if not self._places.acquire(blocking=False):
            with requests_waiting.track_inprogress():
                if not self._places.acquire(timeout=self.settings.upload_wait_seconds):
                    environ[NO_PLACE] = True
                    held.clear()

        def release() -> None:
            if held:
                held.pop().release()

        try:
            yield release
        finally:
            release()

    def _answer(
        self,
        app: Any,
        response: Any,
        environ: dict[str, Any],
        start_response: Any,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Call `release` when only sending to the client is left: a slow client must not keep a place."""
        chunks = app(environ, start_response)
        try:
            if environ.get(IN_MEMORY):
                release()
            for chunk in chunks:
                response.write(chunk)
                gevent.sleep(0)  # a client that reads at full speed would let no other request run
            response.close()
        finally:
            if hasattr(chunks, "close"):
                chunks.close()

    def _refuse(self, head: bytes, client: Any, addr: Any, exc: Exception) -> None:
        """Answer in the envelope. The request may hold a token, so it is not logged or sent back."""
        of_answer = (malformed.InvalidResponseHeader, malformed.InvalidResponseHeaderName)
        if not isinstance(exc, malformed.ParseException) or isinstance(exc, of_answer):
            log.error("An answer broke off", exc_info=exc)
            return
        if isinstance(exc, malformed.InvalidHTTPVersion) and isinstance(exc.version, tuple):
            exc = UnknownVersion()  # a valid version, and one that gunicorn does not take
        status, code, message = REFUSALS.get(
            type(exc),
            ("400 Bad Request", "malformed_request", f"The request is not valid HTTP ({type(exc).__name__})"),
        )
        envelope = {
            "status": int(status[:3]),
            "message": message,
            "code": code,
            "request_id": secrets.token_hex(8),
        }
        log.warning(
            "%s: %s from %s (%s)",
            code,
            type(exc).__name__,
            addr[0] if addr else "-",
            envelope["request_id"],
        )
        body = json.dumps(envelope) + "\n"
        headers = {
            "Date": http_date(),  # RFC 9110, section 6.6.1: an answer to a client's error has one
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-Request-Id": envelope["request_id"],
            "Connection": "close",
            **dict(ALWAYS),
            **dict(UNLESS_SET),
            **self._headers_for(head),
        }
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        if head.startswith(b"HEAD "):
            body = ""  # RFC 9110, section 9.3.2
        with suppress(OSError):  # the client may be gone
            Sender(client, self.settings).sendall("\r\n".join([*lines, "", body]).encode())

    def _headers_for(self, head: bytes) -> dict[str, str]:
        """The headers that the application adds to its answers, by the origin and the path of the request."""
        found = ORIGIN.findall(head)
        origin = found[0].decode("ascii") if len(found) == 1 else None
        headers = cors.readable(origin, self.settings.cors_origins)
        if self.settings.cors_origins:
            headers["Vary"] = "Origin"
        if OF_TUS.match(head):
            headers["Tus-Resumable"] = TUS_VERSION
        return headers


def _reset_on_close(client: Any) -> None:
    with suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def _linger(client: Any) -> None:
    """Let the client read the answer before the connection ends.

    RFC 9112, section 9.6: close the sending side, then read until the client closes as well. A full close
    while the client still sends would reset the connection, and the client would lose the answer.
    """
    left = LINGER_BYTES
    ends = time.monotonic() + LINGER_SECONDS
    with suppress(OSError):
        client.shutdown(1)
        while left > 0 and (seconds := ends - time.monotonic()) > 0:
            client.settimeout(min(seconds, LINGER_SILENCE_SECONDS))
            data = client.recv(RECEIVE_BYTES)
            if not data:
                return
            left -= len(data)
            gevent.sleep(0)
