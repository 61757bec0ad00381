"""A client that controls each byte it sends: for slow, stalled and vanished clients."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit

import requests

#: With this value of SO_LINGER, close() sends a TCP reset and drops data that is not sent yet.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class RawClient:
    """One connection to a service. As a context manager it closes the connection."""

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
        """Send the head. In the names of headers, underscores become hyphens."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        """Send. If the service has closed the connection, ignore it: its answer can still be read."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; an empty chunk ends the body."""
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
        """Reset the connection, as when the client's machine loses power."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.socket.close()


class Answer:
    """An answer that was read whole."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


def form(*files: tuple[str, bytes]) -> tuple[str, bytes]:
    """Content type and body of a form with these files."""
    prepared = requests.Request(
        "POST", "http://unused.test/", files=[("file", one) for one in files]
    ).prepare()
    assert isinstance(prepared.body, bytes)
    return prepared.headers["Content-Type"], prepared.body
