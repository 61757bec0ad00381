"""The guard in front of an ASGI application (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from guard.guard import Answer, Guard, Wanted, cross_origin
from guard.signatures import Request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
#: Read this much of a refused body, so that a client that is still sending can receive the answer.
REFUSED_BODY = 1024 * 1024


def guarded(app: App, guard: Guard) -> App:
    """The application behind the guard: refused requests never reach it."""

    async def outer(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await _http(app, guard, scope, receive, send)
        else:  # a websocket; no client here uses one
            await send({"type": "websocket.close", "code": 1008})

    return outer


async def _http(
    app: App, guard: Guard, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> None:
    client_address = (scope.get("client") or ("",))[0]
    headers = list(scope["headers"])
    request = Request(scope["method"], scope["raw_path"], scope["query_string"], headers, client_address)
    origin = guard.allowed_origin(request)
    decision = guard.decide(request)
    if isinstance(decision, Wanted):
        messages, body, whole = await _read(receive, decision)
        decision = guard.decide_body(request, decision, body, whole=whole)
        receive = _replayed(messages, receive)
    if isinstance(decision, Answer):
        await _refuse(decision, request, origin, receive, send)
    else:
        await app(scope, receive, _with_origin(send, origin))


async def _read(receive: Receive, limit: int) -> tuple[list[Message], bytes, bool]:
    """Read a body up to the limit: its messages, its bytes, and whether that is the whole body."""
    messages: list[Message] = []
    body = bytearray()
    while len(body) < limit:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body", False):
            return messages, bytes(body), message["type"] == "http.request"
    return messages, bytes(body), False


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    """A channel that repeats the messages that have been read, then continues with the rest."""

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again


async def _refuse(answer: Answer, request: Request, origin: str, receive: Receive, send: Send) -> None:
    if not request.values("expect"):  # a client that expects `100 Continue` has sent no body yet
        await _read(receive, REFUSED_BODY)
    body = answer.body
    headers = [*answer.headers, *([(b"content-type", b"application/xml")] if body else [])]
    if answer.status != 204:
        headers.append((b"content-length", str(len(body)).encode()))
    respond = _with_origin(send, origin, always=True)
    await respond({"type": "http.response.start", "status": answer.status, "headers": headers})
    await respond({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


def _with_origin(send: Send, origin: str, *, always: bool = False) -> Send:
    """A channel whose answers only a page of the allowed origin may read."""

    async def outer(message: Message) -> None:
        if message["type"] == "http.response.start":
            sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            kept = cross_origin(sent, origin, always=always)
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept]
            message = {**message, "headers": headers}
        await send(message)

    return outer
