"""How gunicorn runs the service: one process of many threads; more of it means more tasks.

Stopping: on SIGTERM readiness fails at once and the service goes on for DRAIN_SECONDS, so that a load
balancer looks away first. Then nothing new is accepted, and what is in flight has GRACEFUL_SECONDS to finish.
"""

from __future__ import annotations

import gc
import json
import logging
import secrets
import signal
import socket
import struct
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

from gunicorn import glogging
from gunicorn.http import errors as malformed
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import ThreadWorker
from prometheus_client import start_http_server

from s3api.health import draining
from s3api.observability import configure_logging, registry
from s3api.settings import Settings, SettingsError

try:
    settings = Settings.from_environment()
except SettingsError as error:
    sys.exit(str(error))


#: Requests that gunicorn could not parse; every other such error is 400 Bad Request.
MALFORMED = {
    malformed.LimitRequestLine: "414 URI Too Long",
    malformed.ExpectationFailed: "417 Expectation Failed",
    malformed.LimitRequestHeaders: "431 Request Header Fields Too Large",
    malformed.UnsupportedTransferCoding: "501 Not Implemented",
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, except for two things.

    A worker that stops refuses new connections instead of leaving them unanswered. A request that cannot be
    parsed is answered in the envelope; its bytes, which may hold a token, are neither logged nor sent back.
    """

    def handle_error(self, _req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        of_answer = (malformed.InvalidResponseHeader, malformed.InvalidResponseHeaderName)
        if not isinstance(exc, malformed.ParseException) or isinstance(exc, of_answer):
            # Without the request, whose query string would be logged.
            super().handle_error(None, client, addr, exc)
            return
        status = MALFORMED.get(type(exc), "400 Bad Request")
        envelope = {
            "status": int(status[:3]),
            "message": f"The request is not valid HTTP ({type(exc).__name__})",
            "code": "malformed_request",
            "request_id": secrets.token_hex(8),
        }
        logging.getLogger("s3api").warning(
            "malformed_request: %s from %s (%s)",
            type(exc).__name__,
            addr[0] if addr else "-",
            envelope["request_id"],
        )
        body = json.dumps(envelope) + "\n"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-Id: {envelope['request_id']}\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError):  # the client may be gone
            client.sendall((head + body).encode())

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's, without its access log, which it would make up for every request and throw away."""

    access_log_enabled = False


# gunicorn receives up to 1 MiB of a body at once: with many uploads more memory than a small task has.
SocketUnreader.max_body_chunk = 64 * 1024

wsgi_app = "s3api.app:from_environment()"
bind = f"{settings.host}:{settings.port}"
workers = 1
worker_class = Worker
threads = settings.threads
worker_connections = 1000
# A load balancer reuses connections for 60 s; the side that closes first must not be this one.
keepalive = 75
graceful_timeout = settings.graceful_seconds
timeout = 30
# The heartbeat file must not be on a disk: one that stalls would look like a worker that hangs.
worker_tmp_dir = "/dev/shm" if sys.platform == "linux" else None
control_socket_disable = True
limit_request_line = (
    8190  # a name of 1,024 bytes, each percent-encoded, and an upload id need more than 4,094
)
forwarded_allow_ips = ""  # X-Forwarded-* is the application's matter, by TRUSTED_PROXY_HOPS
secure_scheme_headers: dict[str, str] = {}
logger_class = Logger
logconfig_dict = configure_logging(settings)


def when_ready(server: Any) -> None:
    """Put the draining period before gunicorn's own graceful stop; bound the wait for a request's head."""
    # gunicorn reads the head without a timeout. Connections inherit this one from the socket that listens;
    # it ends a read that blocks, and not those of the application, which have timeouts of their own.
    whole, part = divmod(settings.client_stall_seconds, 1)
    for listener in server.LISTENERS:
        listener.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(whole), int(part * 1_000_000))
        )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.signal(signal.SIGTERM, None)

    def drain(_signal: int, _frame: FrameType | None) -> None:
        again = draining.is_set()
        draining.set()
        if again or not settings.drain_seconds:
            stop(_signal, _frame)
        else:
            signal.setitimer(signal.ITIMER_REAL, settings.drain_seconds)

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGTERM, drain)


def post_worker_init(_worker: Any) -> None:
    """Metrics on a port of their own, which nothing publishes."""
    # What is loaded now stays: looking through it for garbage would stop every thread for 0.1 s and more.
    gc.collect()
    gc.freeze()
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.host, registry=registry)
