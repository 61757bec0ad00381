"""How many threads do something at the same time."""

from __future__ import annotations

import threading


class Together:
    """A block that each thread enters once `count` threads want to. `most` is how many were in it at once."""

    def __init__(self, count: int) -> None:
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(count, timeout=60)

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self._barrier.wait()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
