"""The guard in front of a WSGI application (PEP 3333).

The server must set REQUEST_URI to the target as sent.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from guard.guard import Answer, Guard, Wanted, cross_origin
from guard.signatures import Request

Environment = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environment, StartResponse], Iterable[bytes]]


class Input(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def guarded(
    app: App, guard: Guard, headers_of: Callable[[Environment], Sequence[tuple[bytes, bytes]]]
) -> App:
    """The application behind the guard. `headers_of` returns the header fields as they were sent."""

    def outer(environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
        path, _, query = environment["REQUEST_URI"].encode().partition(b"?")
        request = Request(environment["REQUEST_METHOD"], path, query, headers_of(environment))
        origin = guard.allowed_origin(request)
        decision = guard.decide(request)
        if isinstance(decision, Wanted):
            body = environment["wsgi.input"]
            head = body.read(decision)
            decision = guard.decide_body(request, decision, head, whole=len(head) < decision)
            environment["wsgi.input"] = io.BufferedReader(_Replayed(head, body))

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            own = isinstance(decision, Answer)
            return start_response(status, cross_origin(headers, origin, always=own), *more)

        if not isinstance(decision, Answer):
            return app(environment, start)
        body = decision.body
        headers = [("Content-Type", "application/xml")] if body else []
        if decision.status != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", str(len(body))))
        start(f"{decision.status} {HTTPStatus(decision.status).phrase}", headers)
        return [b"" if request.method == "HEAD" else body]

    return outer


class _Replayed(io.RawIOBase):
    """A body whose start has been read already: the start again, then the rest."""

    def __init__(self, start: bytes, rest: Input) -> None:
        super().__init__()
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._start:
            data, self._start = self._start[: len(buffer)], self._start[len(buffer) :]
        else:
            data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
