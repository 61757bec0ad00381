"""What uploads and downloads share: progress, results, checks, and the fallback to the service."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Literal, TypeVar

import urllib3

from s3api.client.api import FAILED, NOT_FOUND, NOT_VERIFIED, Api, CannotConnect, Failure, Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")

Via = Literal["auto", "s3", "service"]
Way = Literal["s3", "service"]
#: The checksum by which both ends were compared; None if the other end's is not known.
Verified = Literal["sha256", "md5"] | None

Count = Callable[[int], None]


class Meter:
    """Receives the progress of a transfer, from any thread. This one ignores it."""

    def begin(self, name: str, doing: str, total: int | None, done: int = 0) -> None:
        """A new stage of the transfer: `done` of `total` bytes; None if the total is not known."""

    def advance(self, name: str, amount: int) -> None:
        """Add `amount`; a negative amount undoes a failed attempt."""

    def end(self, name: str) -> None:
        """The transfer has ended, with or without success."""


@dataclass(frozen=True)
class Transferred:
    """The result for one file. `size` in bytes, `sha256` in hex, `resumed` the bytes that were there."""

    name: str
    outcome: Literal["uploaded", "downloaded", "unchanged"]
    size: int
    sha256: str
    etag: str
    via: Way
    verified: Verified
    resumed: int = 0
    path: str | None = None


class S3OutOfReach(Exception):
    """S3 cannot be reached from this machine. The service may be reachable."""


def spread(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
    *,
    settle: bool = False,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Run the function for each item, `limit` at once, and yield them as they finish; items may be endless.

    With `settle`, a loop that ends early waits for the calls that still run.
    """
    running: dict[Future[Result], Item] = {}
    try:
        for item in items:
            running[pool.submit(function, item)] = item
            if len(running) >= limit:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                yield from [(running.pop(future), future) for future in done]
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            yield from [(running.pop(future), future) for future in done]
    finally:
        for future in running:
            future.cancel()
        if settle:
            wait(running)


class Transfer:
    """One direction of transfers: at most `jobs` bodies at once, to S3 or to the service."""

    def __init__(self, api: Api, *, via: Via, jobs: int, meter: Meter) -> None:
        self._api = api
        self._via = via
        self._jobs = jobs
        self._meter = meter
        self._slots = BoundedSemaphore(jobs)

    @contextmanager
    def _falling_back(self) -> Iterator[None]:
        """If S3 cannot be connected to and has never answered, use the service from now on."""
        try:
            yield
        except CannotConnect as failure:
            if self._via == "s3" or self._api.s3_answered:
                raise
            self._via = "service"  # for the next files, too
            raise S3OutOfReach from failure

    def _counter(self, name: str) -> Count:
        def count(amount: int) -> None:
            if self._api.stopped.is_set():
                raise Stopped
            self._meter.advance(name, amount)

        return count


# --- checks


def etag_of(response: urllib3.BaseHTTPResponse) -> tuple[str, bool]:
    """The ETag, and whether it is the MD5 of the bytes."""
    etag = response.headers.get("ETag", "").strip('"')
    return etag, is_md5(response, etag)


def is_md5(response: urllib3.BaseHTTPResponse, etag: str) -> bool:
    """Whether the ETag is an MD5. It is not with keys of KMS or of the customer."""
    keyed = (
        "kms" in response.headers.get("x-amz-server-side-encryption", "")
        or "x-amz-server-side-encryption-customer-algorithm" in response.headers
    )
    return bool(re.fullmatch("[0-9a-f]{32}", etag)) and not keyed


def etag_of_parts(md5s: Sequence[bytes]) -> str:
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def not_verified(message: str) -> Failure:
    return Failure("not_verified", message, NOT_VERIFIED)


def local_failure(error: OSError, path: Path) -> Failure:
    missing = isinstance(error, FileNotFoundError)
    code = "local_file_not_found" if missing else "local_file_error"
    reason = error.strerror or str(error)
    return Failure(code, f"{error.filename or path}: {reason}", NOT_FOUND if missing else FAILED)
