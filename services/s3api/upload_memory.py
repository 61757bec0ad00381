"""The memory that uploads of unknown length share.

S3 asks for the length of each part before its first byte. So such an upload is held in memory, one part at a
time. An upload takes memory as its bytes arrive: a slow client holds only what it has sent. When memory is
short, an upload waits, and so does its client (TCP's flow control).

Uploads that each hold half a part could wait for each other without end. So memory is given only while the
upload that is nearest to the end of its part can still finish it; what that one gives back is enough for
any other. An upload within a part goes before one that begins a part, and those stand in line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from s3api.bodies import Body
from s3api.failures import TooBusy

STEP = 128 * 1024  # an upload takes this much at a time


class UploadMemory:
    """At most `limit` bytes, or one part, for all uploads of the process. Safe for threads.

    An upload that waits is refused once no memory has come free for `patience` seconds.
    """

    def __init__(self, limit: int, part_size: int, patience: float) -> None:
        self._limit = max(limit, part_size)
        self._part_size = part_size
        self._patience = patience
        self._changed = threading.Condition()
        self._held: dict[BytesIO, int] = {}
        self._line: deque[BytesIO] = deque()  # uploads that wait to begin a part
        self._short = 0  # uploads that wait within a part
        self._freed = 0  # how often memory came free

    @contextmanager
    def part(self, body: Body, first: bytes = b"") -> Iterator[bytes]:
        """The next part of the body, which begins with `first`; shorter, or empty, at the end of the body.

        The memory is free for others when the block ends. Raises `TooBusy`.
        """
        part = BytesIO()
        try:
            if first:
                self._take(part, len(first))
                part.write(first)
            while (missing := self._part_size - part.tell()) > 0:
                amount = min(STEP, missing)
                self._take(part, part.tell() + amount)
                data = body.read(amount)
                if not data:
                    break
                part.write(data)
            yield part.getvalue()  # does not copy
        finally:
            with self._changed:
                self._give_back(part)

    def _take(self, part: BytesIO, total: int) -> None:
        """Wait until the part may hold `total` bytes."""
        with self._changed:
            begins = not self._held.get(part)
            if begins:
                self._line.append(part)
            else:
                self._short += 1
            try:
                self._wait(part, total)
                self._held[part] = total
            finally:
                if begins:
                    self._line.remove(part)
                else:
                    self._short -= 1
                self._changed.notify_all()

    def _wait(self, part: BytesIO, total: int) -> None:
        freed, until = self._freed, time.monotonic() + self._patience
        while not self._may_hold(part, total):
            if freed != self._freed:
                freed, until = self._freed, time.monotonic() + self._patience
            if not self._changed.wait(until - time.monotonic()) and freed == self._freed:
                self._give_back(part)  # before any other waiter gives up as well
                raise TooBusy(
                    "Too many uploads of unknown length at once; try again, or send a Content-Length header"
                )

    def _may_hold(self, part: BytesIO, total: int) -> bool:
        held = {**self._held, part: total}
        nearest = self._part_size - max(held.values())
        if self._limit - sum(held.values()) < nearest:
            return False
        return bool(self._held.get(part)) or (self._line[0] is part and not self._short)

    def _give_back(self, part: BytesIO) -> None:
        if self._held.pop(part, None) is not None:
            self._freed += 1
            self._changed.notify_all()
