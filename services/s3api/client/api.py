"""The HTTP client of the file API: requests, retries, and what each answer means.

`Api` makes small requests and opens large ones; `uploads` and `downloads` move files with it. Every error is
a `Failure`, which has the exit status of the command.
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

import s3api

T = TypeVar("T")

# It warns, with a trace, if an answer with the type of a multipart file is no multipart message.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

BLOCK = 1024 * 1024
CONNECT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
LONGEST_RETRY_AFTER = 60.0

FAILED, NOT_FOUND, NOT_ALLOWED, UNREACHABLE, NOT_VERIFIED, EXISTS = 1, 3, 4, 5, 6, 7

_STATUSES = {401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: NOT_FOUND, 503: UNREACHABLE, 504: UNREACHABLE}
_CODES = {"file_exists": EXISTS, "digest_mismatch": NOT_VERIFIED, "BadDigest": NOT_VERIFIED}
# S3 answers the first for a body that came too slowly, the others for a body that arrived damaged.
_PASSING_CODES = {"RequestTimeout", "BadDigest", "XAmzContentChecksumMismatch"}


class Failure(Exception):
    """What went wrong, in a sentence; `code` is for scripts, `exit_status` for the shell.

    `passing`: the same request may succeed later. `retry_after`: how many seconds the server asks to wait.
    """

    def __init__(
        self,
        code: str,
        message: str,
        exit_status: int = FAILED,
        *,
        http_status: int | None = None,
        request_id: str | None = None,
        passing: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit_status = exit_status
        self.http_status = http_status
        self.request_id = request_id
        self.passing = passing
        self.retry_after = retry_after


class Answer(dict[str, Any]):
    """An object in an answer of the service. A missing field is a `Failure`, not a `KeyError`."""

    def __missing__(self, key: str) -> NoReturn:
        raise Failure(
            "not_the_api", f"The answer has no '{key}'; the server is not the file API", UNREACHABLE
        )


class CannotConnect(Failure):
    """No connection could be made, so nothing was sent."""


class Stopped(Exception):
    """The user has stopped the command."""


class Api:
    """One service, and the S3 that its presigned URLs lead to. Safe for threads.

    `retries` counts attempts after the first, each after a longer pause; `timeout` is the seconds without any
    progress after which a request is given up. `stopped`, once set, ends every transfer at its next block.
    `on_pause` is called with each failure that will be retried, and the seconds until then.
    """

    def __init__(
        self, url: str, token: str | None, *, timeout: float, retries: int, connections: int
    ) -> None:
        self.url = url.rstrip("/")
        self.retries = retries
        self.stopped = threading.Event()
        self.s3_answered = False
        self.on_pause: Callable[[Failure, float], None] = lambda _failure, _seconds: None
        self._token = token
        self._options: dict[str, Any] = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=timeout),
            "retries": False,
            "blocksize": BLOCK,
            "headers": {"User-Agent": f"s3api/{s3api.__version__}"},
        }
        self._pools: dict[str | None, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def at(self, route: str, name: str = "") -> str:
        """The URL of a route, with a file's name. Raises `Failure` for a name that would leave the route."""
        if any(segment in (".", "..") for segment in name.split("/")):
            raise Failure("invalid_file_name", "The file name contains a dot segment ('.' or '..')")
        try:
            return f"{self.url}{route}{quote(name)}"
        except UnicodeEncodeError:
            raise Failure("invalid_file_name", "The file name is not valid UTF-8") from None

    def call(
        self,
        method: str,
        route: str,
        name: str = "",
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        repeat: bool = True,
    ) -> Any:
        """A small request, retried; returns the envelope.

        With `repeat=False` the request is sent again only when the service has certainly not handled it.
        """
        url = self.at(route, name) + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"

        def once() -> Any:
            with self.open(method, url, body=data, headers=headers) as response:
                return self.envelope(response)

        return self.retried(once, repeat=repeat)

    def open(
        self,
        method: str,
        url: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        to_s3: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send the request once. The caller reads or closes the body of the answer.

        Raises `Failure` for an error or a redirect. Only the service receives the token, never S3.
        """
        sent = {**self._options["headers"], **(headers or {})}
        if self._token and not to_s3:
            sent["Authorization"] = f"Bearer {self._token}"
        host = urlsplit(url).netloc
        with _failures_of(host):
            response = self._pool(url).urlopen(
                method,
                url,
                body=body,
                headers=sent,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        self.s3_answered = self.s3_answered or to_s3
        if response.status >= 300:
            with response, _failures_of(host):
                raise _failure_of(response, host, to_s3=to_s3)
        return response

    def blocks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """The body in blocks. Raises `Failure` where it breaks off, `Stopped` when the user stops."""
        host = urlsplit(response.url or self.url).netloc
        while True:
            if self.stopped.is_set():
                raise Stopped
            with _failures_of(host):
                data = response.read1(BLOCK)
            if not data:
                return
            yield data

    def retried(self, once: Callable[[], T], *, repeat: bool = True) -> T:
        """Call `once` and return its value. Call it again after a failure that can pass by itself."""
        failures = 0
        while True:
            try:
                return once()
            except Failure as failure:
                undone = isinstance(failure, CannotConnect) or failure.http_status in (429, 503)
                if not failure.passing or failures >= self.retries or not (repeat or undone):
                    raise
                self.pause(failures, failure)
                failures += 1

    def pause(self, failures: int, failure: Failure) -> None:
        """Wait before the next attempt: longer each time, and at least as long as the server asks.

        The time is random, so that many clients do not retry at once.
        """
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures) * random.uniform(0.5, 1)  # noqa: S311 - no secret
        seconds = max(seconds, min(failure.retry_after or 0, LONGEST_RETRY_AFTER))
        self.on_pause(failure, seconds)
        if self.stopped.wait(seconds):
            raise Stopped

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections for a URL: direct, or through the proxy of HTTP_PROXY, HTTPS_PROXY, NO_PROXY."""
        parts = urlsplit(url)
        proxies = urllib.request.getproxies()
        proxy = proxies.get(parts.scheme)
        if proxy and urllib.request.proxy_bypass(parts.netloc):
            proxy = None
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = (
                    urllib3.ProxyManager(proxy, **self._options)
                    if proxy
                    else urllib3.PoolManager(**self._options)
                )
            return self._pools[proxy]

    def envelope(self, response: urllib3.BaseHTTPResponse) -> Any:
        """The envelope of an answer of the service."""
        try:
            answer = json.loads(b"".join(self.blocks(response)), object_hook=Answer)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "message" not in answer:
            raise Failure("not_the_api", f"What answers at {self.url} is not the file API", UNREACHABLE)
        return answer


@contextmanager
def _failures_of(host: str) -> Iterator[None]:
    """The `Failure` for an exception of urllib3."""
    try:
        yield
    except NameResolutionError as error:
        raise CannotConnect(
            "unreachable", f"{host} cannot be reached: no such host", UNREACHABLE, passing=True
        ) from error
    except SSLError as error:
        raise CannotConnect("unreachable", f"{host} cannot be reached: {error}", UNREACHABLE) from error
    except (NewConnectionError, ConnectTimeoutError) as error:
        cause = error.__cause__ or error.__context__
        reason = getattr(cause, "strerror", None) or "it does not answer"
        raise CannotConnect(
            "unreachable", f"{host} cannot be reached: {reason}", UNREACHABLE, passing=True
        ) from error
    except ProxyError as error:
        raise CannotConnect(
            "unreachable", f"{host} cannot be reached: the proxy does not answer", UNREACHABLE, passing=True
        ) from error
    except ReadTimeoutError as error:
        raise Failure("timeout", f"{host} stopped answering", UNREACHABLE, passing=True) from error
    except urllib3.exceptions.LocationValueError as error:
        raise Failure("invalid_url", f"{host or 'The URL'} is no URL of a server", 2) from error
    except HTTPError as error:
        raise Failure("interrupted", f"The connection to {host} broke", UNREACHABLE, passing=True) from error


def _failure_of(response: urllib3.BaseHTTPResponse, host: str, *, to_s3: bool) -> Failure:
    """The `Failure` for an error of the service, of S3 or of a proxy."""
    status = response.status
    text = response.read(64 * 1024).decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    request_id = response.headers.get("X-Request-Id")
    if isinstance(body, dict) and "message" in body and "code" in body:
        code, message = str(body["code"]), str(body["message"])
        request_id = str(body.get("request_id") or "") or request_id
        passing = status in (429, 503)  # other statuses of the service are final
    elif 300 <= status < 400:
        where = response.headers.get("Location", "elsewhere")
        code, message = "redirected", f"{host} redirects to {where}"
        if not to_s3:
            message += "; give that server as --url"
        passing = False
    else:
        found = re.search(r"<Code>(\w+)</Code>", text)
        code = found[1] if found else f"http_{status}"
        said = re.search(r"<Message>([^<]{1,300})</Message>", text)
        message = f"{host} answered {status}" + (f": {said[1]}" if said else "")
        passing = status in (408, 429) or status >= 500 or code in _PASSING_CODES
    exit_status = _CODES.get(code) or _STATUSES.get(status) or FAILED
    if passing and exit_status == FAILED:
        exit_status = UNREACHABLE
    wait = response.headers.get("Retry-After", "")
    return Failure(
        code,
        message,
        exit_status,
        http_status=status,
        request_id=request_id,
        passing=passing,
        retry_after=float(wait) if re.fullmatch(r"\d{1,5}", wait) else None,
    )
