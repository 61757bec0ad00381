"""Small HTTP servers of tests, each in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """A server that keeps many connections waiting, as real servers do.

    http.server keeps five. While it is busy, Linux drops the SYN of the next ones. Their clients send it
    again after 1 s, which is longer than some services of the tests wait for a connection.
    """

    request_queue_size = 128


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve on a free port of loopback, without a log; yield the port."""
    quiet = type(handler.__name__, (handler,), {"log_message": lambda *_: None})
    with Server(("127.0.0.1", 0), quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
