"""Traffic for tests: many clients at once, with a limit of requests and of time; failures are recorded."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import urllib3
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import HTTPError

# Only the requests in progress on a task that dies are lost.
NOTICED_WITHIN = 0.1
# Python for inside a container: every process but the first stands still.
HANG = """
import os
for p in os.listdir("/proc"):
    if p.isdigit() and int(p) not in (1, os.getpid()):
        os.kill(int(p), 19)
"""
MOST_REQUESTS = 60_000
LONGEST_SECONDS = 400.0


@dataclass(frozen=True)
class Fate:
    """A failed request: its begin and end (monotonic seconds), the request, and its outcome."""

    begun: float
    ended: float
    what: str
    outcome: str


@dataclass
class Traffic:
    """Clients that read, list and upload until the context ends.

    A reader pauses for `pause` seconds between two requests, and a writer for twice that. Without a pause
    they take the processors that a deployment under them needs. `stored` has the acknowledged uploads with
    their SHA-256.
    """

    url: str
    readers: int = 8
    writers: int = 2
    big_writers: int = 0
    big_bytes: int = 50_000_000
    most_big: int = 12
    timeout: float = 60.0
    pause: float = 0.03
    stored: dict[str, str] = field(default_factory=dict)
    failures: list[Fate] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)
    made: int = 0
    big: int = 0

    @property
    def clients(self) -> int:
        return self.readers + self.writers + self.big_writers

    def __enter__(self) -> Self:
        self._deadline = time.monotonic() + LONGEST_SECONDS
        kinds: list[tuple[int, Callable[[HTTPConnectionPool, int], None]]] = [
            (self.readers, self._read),
            (self.writers, self._write),
            (self.big_writers, self._write_big),
        ]
        for number, work in kinds:
            for _ in range(number):
                thread = threading.Thread(target=self._client, args=(work,), daemon=True)
                thread.start()
                self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self.timeout + 5)

    def until(self, number: int) -> None:
        """Return when this number of requests has been made."""
        while self.made < number and time.monotonic() < self._deadline:
            time.sleep(0.05)

    def _client(self, work: Callable[[HTTPConnectionPool, int], None]) -> None:
        with self._connection() as connection:
            for turn in itertools.count():
                if self._stop.is_set() or self.made > MOST_REQUESTS or time.monotonic() > self._deadline:
                    return
                work(connection, turn)

    def _connection(self) -> HTTPConnectionPool:
        """The connection of one client. `requests` would need twice the processor time for each request."""
        return urllib3.connection_from_url(self.url, maxsize=1, timeout=self.timeout, retries=False)

    def _read(self, connection: HTTPConnectionPool, turn: int) -> None:
        self._send(connection, "GET", "/list_files?prefix=traffic/small&limit=5" if turn % 20 == 0 else "/")
        self._stop.wait(self.pause)

    def _write(self, connection: HTTPConnectionPool, _turn: int) -> None:
        self._upload(connection, "small", secrets.token_bytes(2_000))
        self._stop.wait(2 * self.pause)

    def _write_big(self, connection: HTTPConnectionPool, _turn: int) -> None:
        if self.big >= self.most_big:
            self._stop.wait(0.5)
            return
        self.big += 1
        self._upload(connection, "big", secrets.token_bytes(1_000) * (self.big_bytes // 1_000))

    def _upload(self, connection: HTTPConnectionPool, kind: str, content: bytes) -> None:
        name = f"traffic/{kind}-{next(self._count)}"
        if self._send(connection, "PUT", f"/upload/{name}", content):
            self.stored[name] = hashlib.sha256(content).hexdigest()

    def _send(
        self, connection: HTTPConnectionPool, method: str, path: str, body: bytes | None = None
    ) -> bool:
        begun = time.monotonic()
        try:
            answer = connection.request(method, path, body=body, redirect=False)
            outcome = "" if answer.status == 200 else f"{answer.status} {answer.data[:200]!r}"
        except HTTPError as error:
            outcome = type(error).__name__
        self.made += 1
        if outcome:
            self.failures.append(Fate(begun, time.monotonic(), f"{method} {path}", outcome))
        return not outcome

    def lost(self) -> list[str]:
        """The acknowledged uploads that are missing or differ from what was sent."""
        missing = []
        with self._connection() as connection:
            for name, sha256 in self.stored.items():
                answer = connection.request("GET", f"/files/{name}")
                if answer.status != 200 or hashlib.sha256(answer.data).hexdigest() != sha256:
                    missing.append(f"{name}: {answer.status}")
        return missing
