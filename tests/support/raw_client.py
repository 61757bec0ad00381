"""A client that sends a request piece by piece, as slow, vanishing and stalling clients do."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit

import requests

#: The value of SO_LINGER that makes a close a TCP reset, and drops what has not been sent.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class RawClient:
    """One connection to a service; use it as a context manager, so that it is closed."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self._host = f"{parts.hostname}:{parts.port}"
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect((parts.hostname, parts.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self, method: str, path: str, **headers: object) -> None:
        """Send the head; underscores in the names of headers become hyphens."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        """Send, or stop where the service has stopped listening: what it said is there to be read."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; an empty one is its end."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self, seconds: float = 60) -> Answer:
        self.socket.settimeout(seconds)
        response = http.client.HTTPResponse(self.socket)
        try:
            response.begin()
            return Answer(response.status, response.headers, response.read())
        finally:
            response.close()

    def vanish(self) -> None:
        """Be gone as a client is whose machine loses its power: no orderly end, but a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.socket.close()


class Answer:
    """What came back, whole."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


def form(*files: tuple[str, bytes]) -> tuple[str, bytes]:
    """The content type and the body of a form with these files."""
    prepared = requests.Request(
        "POST", "http://unused.test/", files=[("file", one) for one in files]
    ).prepare()
    assert isinstance(prepared.body, bytes)
    return prepared.headers["Content-Type"], prepared.body
