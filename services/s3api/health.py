"""Liveness and readiness, and the probe a container asks with: `python3 -m s3api.health URL`.

Only the standard library is imported, so that the probe starts quickly.
"""

from __future__ import annotations

import mmap
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

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
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError):
        return 1


if __name__ == "__main__":
    sys.exit(probe(sys.argv[1]))
