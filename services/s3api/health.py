"""Readiness, the health for a load balancer, and the container's health check.

The container's check is `python3 -m s3api.health URL`. It runs often. This module imports little, so that
it starts quickly.
"""

from __future__ import annotations

import mmap
import socket
import sys
import threading
import time
from collections.abc import Callable

CACHED_SECONDS = 1.0
#: While a load balancer asks for the health, S3 is asked at most this often. Its state is logged and counted.
WATCHED_SECONDS = 10.0


class SharedFlag:
    """A flag that one process sets and that every process which was forked with it sees."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._shared[0] = 1

    def is_set(self) -> bool:
        return self._shared[0] == 1


#: The flags of this service: gunicorn's master imports this module before it forks.
draining = SharedFlag()
s3_reached = SharedFlag()


class Readiness:
    """Calls `check` at most once a second; concurrent probes share one call. A failure is what it raised.

    `report` gets the outcome of each call. `reached` is set by the first success.
    """

    def __init__(
        self,
        check: Callable[[], None],
        report: Callable[[Exception | None], None] = lambda _failure: None,
        reached: SharedFlag | None = None,
    ) -> None:
        self._check = check
        self._report = report
        self._reached = reached or SharedFlag()
        self._lock = threading.Lock()
        self._watching = threading.Lock()
        self._checked_at = float("-inf")
        self._failure: Exception | None = None

    def failure(self) -> Exception | None:
        with self._lock:
            if time.monotonic() - self._checked_at > CACHED_SECONDS:
                try:
                    self._check()
                    self._failure = None
                    self._reached.set()
                except Exception as error:
                    self._failure = error
                self._checked_at = time.monotonic()
                self._report(self._failure)
            return self._failure

    def failure_before_first_success(self) -> Exception | None:
        """What a load balancer is told. Once S3 was reached, this is never a failure and waits for nothing.

        A task that has served must not be replaced because S3 fails: its replacement could not reach S3
        either. S3 is still asked, in the background, so that its state is known without traffic.
        """
        if not self._reached.is_set():
            return self.failure()
        if time.monotonic() - self._checked_at > WATCHED_SECONDS and self._watching.acquire(blocking=False):
            threading.Thread(target=self._watch, daemon=True, name="s3-check").start()
        return None

    def _watch(self) -> None:
        try:
            self.failure()
        finally:
            self._watching.release()


def probe(url: str) -> int:
    """0 if the URL, which begins with http:// and has a port, answers 200 within two seconds; otherwise 1.

    Importing `http.client` would take longer than everything else that the check does.
    """
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.rpartition(":")
    request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((name, int(port)), timeout=2) as connection:
            connection.sendall(request.encode("ascii"))
            status = connection.makefile("rb").readline()
    except OSError:
        return 1
    return 0 if status.startswith(b"HTTP/1.1 200 ") else 1


if __name__ == "__main__":
    sys.exit(probe(sys.argv[1]))
