"""A server that answers the command as no service does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from support.http_server import serving

Answer = Callable[[str, str], tuple[int, object]]


@contextmanager
def hostile_server(answer: Answer) -> Iterator[str]:
    """A server of the API's form whose answers `answer` makes from method and path."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answer(self.command, urlsplit(self.path).path)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self.respond
            raise AttributeError(name)

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"
