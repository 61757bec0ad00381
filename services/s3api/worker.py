"""gunicorn's worker: how long it waits for clients, and what it answers when the application is not asked.

Each connection has a greenlet of its own. A wait for one client, also while its connection is being closed,
never delays another.
"""

from __future__ import annotations

import json
import logging
import resource
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

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

from s3api.files import MalformedBody
from s3api.headers import unsupported_in_trailer
from s3api.settings import Settings

log = logging.getLogger("s3api")

#: gunicorn receives up to 1 MiB of a body at once: with many uploads more memory than a small task has.
RECEIVE_BYTES = 64 * 1024
#: After a refusal the client goes on sending for a while; what it sends is read and dropped, up to this.
LINGER_BYTES = 256 * 1024 * 1024
LINGER_SECONDS = 30.0
LINGER_SILENCE_SECONDS = 2.0
#: Files in addition to clients' connections: for each request two connections to S3 and two files, and some
#: that the process always has.
FILES_PER_REQUEST = 4
FILES_OF_PROCESS = 64
MAX_CONNECTIONS = 10_000

#: Requests that are answered without a place among those served at once.
PROBES = frozenset({"/livez", "/readyz"})


class HeadTooSlow(malformed.ParseException):  # type: ignore[misc]
    """The head of a request did not come in time."""

    def __str__(self) -> str:
        return "the head of the request did not come in time"


class BodyTooSlow(TimeoutError):
    """The body of a request comes more slowly than the minimum, or not at all."""


class UnknownVersion(malformed.ParseException):  # type: ignore[misc]
    """The request is in another major version of HTTP."""

    def __str__(self) -> str:
        return "unknown version"


class NoHost(malformed.ParseException):  # type: ignore[misc]
    """RFC 9112, section 3.2: HTTP/1.1 without Host is 400."""

    def __str__(self) -> str:
        return "no Host"


#: The status and code of what is refused before the application is asked; all else is 400.
REFUSALS: dict[type[Exception], tuple[str, str, str]] = {
    HeadTooSlow: (
        "408 Request Timeout",
        "request_timeout",
        "The head of the request did not come in time; send it again",
    ),
    NoHost: ("400 Bad Request", "malformed_request", "HTTP/1.1 requests must have a Host header"),
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
        "The request has more than 100 headers, or one that is longer than 8190 bytes",
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
    """Allow this process as many open files as it may have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and wanted > soft:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return 65_536 if soft == resource.RLIM_INFINITY else soft


def connections_within(files: int, requests: int) -> int:
    """How many connections a process may hold that may open so many files and serves so many requests."""
    return max(requests, min(MAX_CONNECTIONS, files - FILES_OF_PROCESS - FILES_PER_REQUEST * requests))


class Patient(SocketUnreader):  # type: ignore[misc]
    """Receives from a client, for as long as `Settings` say.

    A head has a deadline for the whole of it. A body has a credit of seconds: waiting uses it, each byte adds
    to it at the minimum rate, and it never exceeds what it began with. So a client may stall once, and may
    not drip.
    """

    max_body_chunk = RECEIVE_BYTES

    def __init__(self, sock: Any, settings: Settings) -> None:
        super().__init__(sock)
        self._stall = settings.client_stall_seconds
        self._rate = settings.client_min_bytes_per_second
        self._deadline: float | None = None
        self._credit = self._stall
        self.began = False

    def expect_head(self) -> None:
        """The next bytes are a head, which has just begun."""
        self._deadline = time.monotonic() + self._stall

    def expect_body(self) -> None:
        self._deadline = None
        self._credit = self._stall

    def idle(self, seconds: float) -> bool:
        """Wait for a request; False when none begins within these seconds."""
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
        started = time.monotonic()
        patience = self._credit if self._deadline is None else self._deadline - started
        late: Callable[[], Exception] = BodyTooSlow if self._deadline is None else HeadTooSlow
        if patience <= 0:
            raise late()
        self.sock.settimeout(patience)
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            raise late() from None
        finally:
            self.sock.settimeout(self._stall)
        if self._deadline is None:
            waited = time.monotonic() - started
            self._credit = min(self._stall, self._credit - waited + len(data) / self._rate)
            gevent.sleep(0)  # a client that sends at full speed would let no other request run
        return data


class Input:
    """`wsgi.input`: asks for the body, where the client waits for that, when the application reads it.

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

    def _check_trailers(self) -> None:
        if name := unsupported_in_trailer(name for name, _ in self._request.trailers):
            raise MalformedBody(f"A {name.title()} in a trailer is not checked; send it as a header")

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line


def has_ended(body: Any) -> bool:
    """Whether all of a request's body has been read."""
    reader = body.reader
    if isinstance(reader, LengthReader):
        return bool(reader.length == 0)
    return isinstance(reader, ChunkedReader) and reader.parser is None


def check(request: Any) -> None:
    """Refuse what gunicorn takes and this service would misunderstand."""
    # RFC 9112, section 2.3: a higher minor version is answered as the one that the service speaks.
    request.version = min(request.version, (1, 1))
    names = [name for name, _ in request.headers]
    if request.version == (1, 1) and "HOST" not in names:
        raise NoHost
    # RFC 9110, section 7.6.1: Connection is a list. gunicorn compares the whole value.
    options = ",".join(value for name, value in request.headers if name == "CONNECTION").lower()
    if "close" in (option.strip(" \t") for option in options.split(",")):
        request.force_close()
    codings = [value.strip().lower() for name, value in request.headers if name == "TRANSFER-ENCODING"]
    if codings not in ([], ["chunked"]):
        raise malformed.UnsupportedTransferCoding(codings)


class Worker(GeventWorker):  # type: ignore[misc]
    """gevent's, with bounded patience. `settings` is set by the configuration of gunicorn."""

    settings: Settings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: set[Any] = set()
        self._places = BoundedSemaphore(self.settings.threads)

    # --- the life of the worker

    def run(self) -> None:
        pool = Pool(self.worker_connections)
        servers = []
        for sock in self.sockets:
            sock.setblocking(1)
            server = StreamServer(sock, handle=partial(self.handle, sock), spawn=pool)
            server.start()
            servers.append(server)
        while self.alive:
            self.notify()
            gevent.sleep(0.2)
        for server in servers:
            server.close()  # new connections are refused, not left unanswered
        for client in list(self._waiting):
            with suppress(OSError):
                client.shutdown(0)  # ends the wait for a next request
        ends = time.monotonic() + self.cfg.graceful_timeout
        while len(pool) and time.monotonic() < ends:
            self.notify()
            pool.join(timeout=0.2)
        if len(pool):
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
            pool.kill(timeout=1)

    # --- the life of a connection

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        request = None
        unread = False
        try:
            incoming = Patient(client, self.settings)
            parser = RequestParser(self.cfg, client, addr)
            parser.unreader = incoming
            server = listener.getsockname()
            idle = self.settings.client_stall_seconds
            while self.alive or parser.req_count == 0:
                self._waiting.add(client)
                began = incoming.idle(idle)
                self._waiting.discard(client)
                if not began:
                    return
                idle = self.cfg.keepalive
                request = None
                unread = True
                incoming.expect_head()
                request = next(parser)
                incoming.expect_body()
                check(request)
                keep = self._serve(server, request, client, addr)
                unread = not has_ended(request.body)
                if not keep or unread:
                    return
        except (StopIteration, malformed.NoMoreData, gevent.GreenletExit):
            unread = False
        except OSError:  # the client is gone, or does not read
            unread = False
        except Exception as error:
            self.handle_error(request, client, addr, error)
        finally:
            self._waiting.discard(client)
            if unread:
                _linger(client)
            with suppress(OSError):
                client.close()

    def _serve(self, server: Any, request: Any, client: Any, addr: Any) -> bool:
        """Answer the request; whether the connection can have another one."""
        expects, request._expected_100_continue = request._expected_100_continue, False  # noqa: SLF001
        response, environ = wsgi.create(request, client, addr, server, self.cfg)

        def ask() -> None:
            if not response.headers_sent:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        environ["wsgi.multithread"] = True
        environ["wsgi.input"] = Input(request, ask if expects else None)

        def start_response(*args: Any) -> Any:
            # RFC 9112, section 9.3: the rest of a body would be taken for the next request.
            if not self.alive or not has_ended(request.body):
                response.force_close()
            return response.start_response(*args)

        if request.path in PROBES:
            self._answer(response, environ, start_response)
        else:
            with self._places:
                self._answer(response, environ, start_response)
        return not response.should_close()

    def _answer(self, response: Any, environ: dict[str, Any], start_response: Any) -> None:
        chunks = self.wsgi(environ, start_response)
        try:
            for chunk in chunks:
                response.write(chunk)
                gevent.sleep(0)  # a client that reads at full speed would let no other request run
            response.close()
        finally:
            if hasattr(chunks, "close"):
                chunks.close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer in the envelope. The request's bytes may hold a token: they are not logged or sent back."""
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
        # RFC 9110, section 6.6.1: an answer to a client's error has a Date.
        head = (
            f"HTTP/1.1 {status}\r\nDate: {http_date()}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: {envelope['request_id']}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        if req is not None and req.method == "HEAD":
            body = ""  # RFC 9110, section 9.3.2
        with suppress(OSError):  # the client may be gone
            client.sendall((head + body).encode())


def _linger(client: Any) -> None:
    """Let the client read the answer before the connection ends.

    RFC 9112, section 9.6: close the sending side, then read until the client closes as well; a full close
    while the client still sends would reset the connection, and the answer would be lost.
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
