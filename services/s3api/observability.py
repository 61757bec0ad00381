"""Structured logs with one line for each request, and Prometheus metrics.

A line never holds a query string (a presigned URL could be in it), a header, a token, an upload id or an
upload link. Text that a client sent is cut to a length. On a terminal its control characters are escaped.
"""

from __future__ import annotations

import logging
import logging.config
import random
import re
import sys
import time
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, TextIO

from flask import Flask, Response, g
from flask.globals import app_ctx, request_ctx
from flask.wrappers import Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from s3api.json_text import to_json
from s3api.settings import Settings

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:=-]{1,128}")
# The form of an upload id: signed text, whose signature is SHA-1 in Base64.
_UPLOAD_ID = re.compile(r"[\w-]+\.[\w-]{6}\.[\w-]{27}")
# The place of an upload id or an upload link, in a URL that is no route of the service.
_IN_PLACE_OF_ID = re.compile(r"(?i)((?:^|/)(?:uploads|upload_links)/+)[^/]+")
# W3C Trace Context, section 3.2: the version ff is not valid, and neither is an id of only zeros.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?P<more>-.*)?"
)
_QUERY = re.compile(r"\?[^\s\"']*=[^\s\"']*")
MAX_PATH = 1200  # of characters; a route and a name of 1,024 bytes fit
MAX_TEXT = 16 * 1024  # long enough for most traces
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_PROBES = frozenset({"/livez", "/readyz", "/healthz"})

log = logging.getLogger("s3api")

registry = CollectorRegistry()
_requests = Counter("s3api_requests", "Requests answered", ["method", "route", "status"], registry=registry)
_seconds = Histogram(
    "s3api_request_seconds",
    "Time from the request's head to the end of its answer",
    ["method", "route", "status"],
    buckets=_BUCKETS,
    registry=registry,
)
_errors = Counter(
    "s3api_errors", "Requests answered with an error, by its code", ["code", "route"], registry=registry
)
_in_flight = Gauge(
    "s3api_requests_in_flight",
    "Requests being answered now",
    registry=registry,
    multiprocess_mode="livesum",
)
_received = Counter("s3api_received_bytes", "Bytes of request bodies that were read", registry=registry)
_sent = Counter("s3api_sent_bytes", "Bytes of the bodies of answers that were sent", registry=registry)
_s3_checks = Counter(
    "s3api_s3_checks",
    "Checks of whether S3 answers, by outcome: ok, failed",
    ["outcome"],
    registry=registry,
)


@cache
def _series(method: str, route: str, status: str) -> tuple[Counter, Histogram]:
    """The metrics of an answer, kept because prometheus_client looks labels up slowly, and under a lock."""
    labels = (method, route, status)
    return _requests.labels(*labels), _seconds.labels(*labels)


class _RequestLines:
    """Writes the line of each request: as JSON to `stream`, or by `logging` where there is no stream.

    Both write the same fields. `logging` takes longer. Probes ask every second, so their line is of level
    debug while the service is well.
    """

    stream: TextIO | None = None

    def write(self, fields: dict[str, Any]) -> None:
        if fields["route"] in _PROBES and fields["status"] == 200:
            log.debug("request", extra={"fields": fields})
            return
        if self.stream is None:
            log.info("request", extra={"fields": fields})
            return
        ends = {"event": "request", "level": "info", "timestamp": datetime.now(UTC)}
        self.stream.write(f"{to_json({'logger': 's3api', **fields, **ends}).decode()}\n")


_request_lines = _RequestLines()


class _JsonFormatter(logging.Formatter):
    """One JSON object for each record: the logger, the fields of the record, event, trace, level and time."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"logger": record.name, **getattr(record, "fields", {}), "event": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        cut = {key: _cut(value) for key, value in fields.items()}
        ends = {"level": record.levelname.lower(), "timestamp": datetime.fromtimestamp(record.created, UTC)}
        return to_json({**cut, **ends}, repr).decode()


class _ConsoleFormatter(logging.Formatter):
    """Text for people: the local time, the level, the event and its fields, then the trace.

    A request takes one line of a terminal, with the fields that people look for. JSON has all fields.
    Control characters, which a terminal would obey, are escaped. JSON has its own escapes.
    """

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._colors = _COLORS if colors else {}

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower():7}"
        if color := self._colors.get(record.levelno):
            level = f"\x1b[{color}m{level}\x1b[0m"
        fields = dict(getattr(record, "fields", {}))
        event = record.getMessage()
        if event == "request":
            event = "{method} {path} {status} {duration_ms} ms".format_map(fields)
            fields = {key: fields[key] for key in ("caller", "code", "request_id")}
            if fields["caller"] == "anonymous":
                del fields["caller"]
        pairs = [f"{key}={_cut(value)}" for key, value in fields.items() if value is not None]
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{when} {level} {_printable(' '.join([_cut(event), *pairs]))}"
        if record.exc_info:
            trace = _cut(self.formatException(record.exc_info))
            line += "\n" + "\n".join(map(_printable, trace.split("\n")))
        return line


_COLORS = {logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31}


def configure_logging(settings: Settings) -> dict[str, Any]:
    """One format for the service, gunicorn and the libraries: JSON, or text for people on a terminal.

    Returns the configuration that it gave to `logging.config.dictConfig`, because gunicorn applies it again.
    """
    on_terminal = sys.stderr.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
    level = settings.log_level.upper()
    logs_requests = logging.getLevelName(level) <= logging.INFO
    # Straight to the stream: `logging` would triple the cost of a line.
    _request_lines.stream = sys.stderr if as_json and logs_requests else None
    # Their debug output holds headers and signatures.
    quiet = {name: {"level": "WARNING"} for name in ("botocore", "boto3", "urllib3", "s3transfer")}
    # It warns, with a trace, if an answer with the type of a multipart file is no multipart message.
    quiet["urllib3.connection"] = {"level": "ERROR"}
    formatter = {"()": _JsonFormatter} if as_json else {"()": _ConsoleFormatter, "colors": on_terminal}
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
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


def _cut(value: Any) -> Any:
    return f"{value[:MAX_TEXT]}…" if isinstance(value, str) and len(value) > MAX_TEXT else value


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_failure(error: BaseException, request_id: str | None = None) -> None:
    """Log the cause of an error under the request id. The client gets only a sentence."""
    cause = error.__cause__ or error
    fields = {
        "request_id": request_id or g.get("request_id"),
        "error": type(error).__name__,
        "cause": cause_in_words(error),
    }
    log.error("request_failed", extra={"fields": fields}, exc_info=None if hasattr(error, "code") else cause)


def report_s3_check(failure: Exception | None) -> None:
    """Count a check of S3, and log a failed one. The alarm on S3 counts these lines."""
    _s3_checks.labels("failed" if failure else "ok").inc()
    if failure:
        fields = {"code": getattr(failure, "code", "internal_error"), "cause": cause_in_words(failure)}
        log.error("s3_check_failed", extra={"fields": fields})


def cause_in_words(error: BaseException) -> str:
    """The cause of an error, for the operator."""
    cause = error.__cause__ or error
    words = f"{type(cause).__name__}: {cause}"
    # botocore keeps the error of the network, such as a refused connection, apart from its own sentence.
    reason = getattr(cause, "kwargs", {}).get("error")
    if reason is not None and str(reason) not in words:
        words = f"{words}: {reason}"
    # An error of the HTTP library names the URL of its request, whose query has a signature.
    return _QUERY.sub("?…", words)


def observe(app: Flask) -> None:
    """Give every request an id, count it, and log it after the last byte of its answer."""

    @app.before_request
    def begin() -> None:
        environ = request_ctx.request.environ
        given = environ.get("HTTP_X_REQUEST_ID", "")
        body = environ["wsgi.input"] = _Counted(environ["wsgi.input"])
        known = app_ctx.g
        known.request_id = given if _REQUEST_ID.fullmatch(given) else _new_request_id()
        known.started, known.body = time.perf_counter(), body
        _in_flight.inc()

    @app.after_request
    def finish(response: Response) -> Response:
        asked, known = request_ctx.request, app_ctx.g
        request_id = response.headers["X-Request-Id"] = known.request_id
        route = asked.url_rule.rule if asked.url_rule else "-"
        started, body = known.started, known.body
        caller = known.get("caller")
        fields = {
            "duration_ms": 0.0,
            "request_id": request_id,
            "method": asked.method[:32],
            "route": route,
            "path": _path(asked),
            "status": response.status_code,
            "caller": caller and caller.name,
            "code": known.get("error_code"),
            "client": (asked.remote_addr or "")[:64],  # behind a proxy, the address that the proxy names
            "trace_id": _trace_id(asked.environ.get("HTTP_TRACEPARENT")),
            # An answer to HEAD, a 204 and a 304 have no body: RFC 9110, section 6.4.1. The bytes of a stream
            # are counted as they pass.
            "sent_bytes": 0,
        }

        def report() -> None:
            seconds = time.perf_counter() - started
            fields["duration_ms"] = round(seconds * 1000, 1)
            received = fields["received_bytes"] = body.count
            _in_flight.dec()
            answered, took = _series(request_method(fields), route, str(fields["status"]))
            answered.inc()
            if fields["code"]:
                _errors.labels(fields["code"], route).inc()
            took.observe(seconds)
            if received:
                _received.inc(received)
            if fields["sent_bytes"]:
                _sent.inc(fields["sent_bytes"])
            _request_lines.write(fields)

        if response.is_streamed:
            response.response = _watched(response.response, fields)
        elif asked.method != "HEAD" and response.status_code not in (204, 304):
            fields["sent_bytes"] = response.calculate_content_length() or 0
        response.call_on_close(report)
        return response


def _new_request_id() -> str:
    # An id is no secret, so it needs no randomness of the system, which costs a call of the kernel.
    return f"{random.getrandbits(64):016x}"


def _path(asked: Request) -> str:
    """The path without an upload id or an upload link, with which others could upload."""
    if asked.url_rule is None or "link" in (asked.view_args or ()):
        path = _IN_PLACE_OF_ID.sub(r"\1…", asked.path)
    elif "upload_id" in (asked.view_args or ()):
        path = asked.url_rule.rule
    else:
        path = asked.path
    path = _UPLOAD_ID.sub("…", path)
    return path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…"


def _trace_id(value: str | None) -> str | None:
    """The trace of a request, by W3C Trace Context, section 3.2. A value that is not valid is ignored."""
    match = value and _TRACEPARENT.fullmatch(value)
    # Later versions may add fields to the four of version 00.
    return match["trace"] if match and (match["version"] != "00" or not match["more"]) else None


class _Counted:
    """The body of a request, with a count of the bytes that were read."""

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
    """The chunks of a streamed answer, counted. A failure in the middle can only be logged."""
    try:
        for chunk in chunks:
            yield chunk
            fields["sent_bytes"] += len(chunk)  # the server asks for the next chunk once this one is sent
    except Exception as error:
        fields["code"] = getattr(error, "code", "internal_error")
        log_failure(error, fields["request_id"])
        raise


def request_method(fields: dict[str, Any]) -> str:
    """The method as a label. A method that a client makes up must not become a metric of its own."""
    method = str(fields["method"])
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
