"""Liveness and readiness, and the probe a container asks with: `python3 -m s3api.health URL`.

Little of the standard library is imported, so that the probe, which is asked often, starts quickly.
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
    """Set once, by the process that gets SIGTERM; seen by every process forked from it."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._shared[0] = 1

    def is_set(self) -> bool:
        return self._shared[0] == 1


#: The flag of this service: gunicorn's master imports this module before it forks.
draining = DrainFlag()


class Readiness:
    """Asks `check`, at most once a second whatever the number of probes; a failure is what `check` raised."""

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
    """0 when the URL answers 200 within two seconds, else 1."""
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
