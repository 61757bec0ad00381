"""Liveness and readiness, and the container's health check: `python3 -m s3api.health URL`.

The health check runs often. This module imports little, so that it starts quickly.
"""

from __future__ import annotations

import http.client
import mmap
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

CACHED_SECONDS = 1.0


class DrainFlag:
    """The process that gets SIGTERM sets it, and every process that was forked from it sees that."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._shared[0] = 1

    def is_set(self) -> bool:
        return self._shared[0] == 1


#: The flag of this service: gunicorn's master imports this module before it forks.
draining = DrainFlag()


class Readiness:
    """Calls `check` at most once a second; concurrent probes share one call. A failure is what it raised."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._failure: Exception | None = None

    def failure(self) -> Exception | None:
        with self._lock:
            if time.monotonic() - self._checked_at > CACHED_SECONDS:
                try:
                    self._check()
                    self._failure = None
                except Exception as error:
                    self._failure = error
                self._checked_at = time.monotonic()
            return self._failure


def probe(url: str) -> int:
    """0 if the URL answers 200 within two seconds, otherwise 1."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", parts.path)
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(probe(sys.argv[1]))
