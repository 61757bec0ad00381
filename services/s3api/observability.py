"""Structured logs, one canonical line a request, and Prometheus metrics.

A line never holds a query string (a presigned URL would be in it), a header, a token or an upload id. What a
client sent is cut to a length, and on a terminal nothing of it is a control character.
"""

from __future__ import annotations

import logging
import logging.config
import re
import secrets
import sys
import time
from collections.abc import Generator, Iterable, MutableMapping
from functools import cache
from typing import Any

import structlog
from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from s3api.settings import Settings

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:=-]{1,128}")
# What looks like an upload id: it is signed, and its signature is SHA-1 in Base64.
_UPLOAD_ID = re.compile(r"[\w-]+\.[\w-]{6}\.[\w-]{27}")
# In a URL that the service does not have: what stands in the place of an upload id.
_IN_PLACE_OF_ID = re.compile(r"(?i)((?:^|/)uploads/+)[^/]+")
# W3C Trace Context, section 3.2: version ff, and ids of zeros alone, are not valid.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?P<more>-.*)?"
)
_QUERY = re.compile(r"\?[^\s\"']*=[^\s\"']*")
MAX_PATH = 1200  # of characters; a route and a name of 1,024 bytes fit
MAX_TEXT = 16 * 1024  # a trace, for the most part
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

log = structlog.get_logger()

registry = CollectorRegistry()
_requests = Counter("s3api_requests", "Requests answered", ["method", "route", "status"], registry=registry)
_seconds = Histogram(
    "s3api_request_seconds",
    "Time from the request's head to the end of its answer",
    ["method", "route"],
    buckets=_BUCKETS,
    registry=registry,
)
_in_flight = Gauge(
    "s3api_requests_in_flight",
    "Requests being answered now",
    registry=registry,
    multiprocess_mode="livesum",
)
_received = Counter("s3api_received_bytes", "Bytes of request bodies that were read", registry=registry)
_sent = Counter("s3api_sent_bytes", "Bytes of the bodies of answers that were sent", registry=registry)


@cache
def _series(method: str, route: str, status: str) -> tuple[Counter, Histogram]:
    """The metrics of an answer; their client looks labels up under a lock, and slowly."""
    return _requests.labels(method, route, status), _seconds.labels(method, route)


def configure_logging(settings: Settings) -> dict[str, Any]:
    """One format for the service, gunicorn and the libraries: JSON, or for people on a terminal.

    Returns what it gave to `logging.config.dictConfig`, which gunicorn wants to give again.
    """
    on_terminal = sys.stderr.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [
        # Before the renderer for people, which would add the values of a trace's variables.
        structlog.processors.format_exc_info,
        _cut,
        *(
            [structlog.processors.JSONRenderer()]
            if as_json
            else [_escape, structlog.dev.ConsoleRenderer(colors=on_terminal)]
        ),
    ]
    level = settings.log_level.upper()
    # Straight to the stream: a line a request by way of `logging` costs three times as much.
    structlog.configure(
        processors=[_add_own_name, *shared, *last],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    # Their debug output holds headers and signatures.
    quiet = {name: {"level": "WARNING"} for name in ("botocore", "boto3", "urllib3", "s3transfer")}
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [
                    structlog.stdlib.add_logger_name,
                    structlog.stdlib.PositionalArgumentsFormatter(),
                    *shared,
                ],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            }
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "structured",
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            **quiet,
            "gunicorn.error": {"level": level, "handlers": [], "propagate": True},
        },
    }
    logging.config.dictConfig(config)
    return config


def _add_own_name(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    return {"logger": "s3api", **event}


def _cut(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            event[key] = f"{value[:MAX_TEXT]}…"
    return event


def _escape(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For a terminal, which would obey control characters; JSON has its own escapes."""
    for key, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if key == "exception" else [value]
            event[key] = "\n".join(map(_printable, lines))
    return event


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_failure(error: BaseException, request_id: str | None = None) -> None:
    """Keep the cause of an error for the log, under the request id; the client gets a sentence only."""
    cause = error.__cause__ or error
    log.error(
        "request_failed",
        request_id=request_id or g.get("request_id"),
        error=type(error).__name__,
        # An error of the HTTP library names the URL it asked, and signatures are in its query.
        cause=_QUERY.sub("?…", f"{type(cause).__name__}: {cause}"),
        exc_info=None if hasattr(error, "code") else cause,
    )


def observe(app: Flask) -> None:
    """Give every request an id, count it, and log it when the last byte of its answer is out."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        g.started = time.perf_counter()
        g.body = request.environ["wsgi.input"] = _Counted(request.environ["wsgi.input"])
        _in_flight.inc()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        route = request.url_rule.rule if request.url_rule else "-"
        started, body = g.started, g.body
        fields = {
            "request_id": g.request_id,
            "method": request.method[:32],
            "route": route,
            "path": _path(),
            "status": response.status_code,
            "caller": g.caller.name if "caller" in g else None,
            "code": g.get("error_code"),
            "client": (request.remote_addr or "")[:64],  # behind a proxy, what that says
            "trace_id": _trace_id(request.headers.get("traceparent", "")),
            # HEAD, 204 and 304 have no body: RFC 9110, section 6.4.1. A stream is counted as it passes.
            "sent_bytes": 0,
        }

        def report() -> None:
            seconds = time.perf_counter() - started
            fields["received_bytes"] = body.count
            _in_flight.dec()
            answered, took = _series(request_method(fields), route, str(fields["status"]))
            answered.inc()
            took.observe(seconds)
            _received.inc(fields["received_bytes"])
            _sent.inc(fields["sent_bytes"])
            log.info("request", duration_ms=round(seconds * 1000, 1), **fields)

        if response.is_streamed:
            response.response = _watched(response.response, fields)
        elif request.method != "HEAD":
            fields["sent_bytes"] = response.calculate_content_length() or 0
        response.call_on_close(report)
        return response


def _path() -> str:
    """The path without an upload id, with which others could go on with the upload."""
    if request.url_rule is None:
        path = _IN_PLACE_OF_ID.sub(r"\1…", request.path)
    elif "upload_id" in (request.view_args or ()):
        path = request.url_rule.rule
    else:
        path = request.path
    path = _UPLOAD_ID.sub("…", path)
    return path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…"


def _trace_id(value: str) -> str | None:
    """The trace of a request, by W3C Trace Context, section 3.2; a value that is not valid is ignored."""
    match = _TRACEPARENT.fullmatch(value)
    # Later versions may add fields to the four; the first has none.
    return match["trace"] if match and (match["version"] != "00" or not match["more"]) else None


class _Counted:
    """The body of a request, and how many of its bytes have been read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._stream.read(size)
        self.count += len(data)
        return data

    def readline(self, size: int = -1, /) -> bytes:
        data: bytes = self._stream.readline(size)
        self.count += len(data)
        return data


def _watched(chunks: Iterable[Any], fields: dict[str, Any]) -> Generator[Any, None, None]:
    """The chunks of a streamed answer, counted; one that breaks off can only be logged."""
    try:
        for chunk in chunks:
            yield chunk
            fields["sent_bytes"] += len(chunk)  # it has been sent when the server asks for the next one
    except Exception as error:
        fields["code"] = getattr(error, "code", "internal_error")
        log_failure(error, fields["request_id"])
        raise


def request_method(fields: dict[str, Any]) -> str:
    """The method as a label: what clients make up must not become a metric of its own."""
    method = str(fields["method"])
    return method if method in {"GET", "HEAD", "POST", "PUT", "DELETE"} else "other"
