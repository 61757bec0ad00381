"""Work that several threads do at the same time."""

from __future__ import annotations

import threading


class Together:
    """A place where threads wait until `count` of them are there. `threads` are those that ever came."""

    def __init__(self, count: int) -> None:
        self.threads: set[int] = set()
        self._barrier = threading.Barrier(count, timeout=60)

    def wait(self) -> None:
        self.threads.add(threading.get_ident())
        self._barrier.wait()
