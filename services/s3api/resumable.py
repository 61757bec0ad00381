"""Resumable uploads through the service: several requests send a file, each from where the last one ended.

A file is a multipart upload of the store, and all of its parts but the last have the same size. So a part's
number fixes its place in the file, and the service keeps no state: the offset is what the store has received.
Requests that send the same file at the same time cannot put bytes in a wrong place.

Each part goes to the store while it arrives, without disk and without being held. Before the service sends
the last bytes of a part, it checks whether another request has stored this part. If so, the request ends and
the stored part stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from typing import Any

from s3api import files
from s3api.bodies import Body, Received, too_large
from s3api.failures import (
    ChecksumMismatch,
    ChunkNotOnePart,
    ChunkTooSmall,
    ClientTooSlow,
    DigestMismatch,
    FileChanged,
    FileError,
    FileExists,
    FileTooLarge,
    InvalidParts,
    UploadGone,
    UploadInterrupted,
    UploadNotFound,
    WrongOffset,
)
from s3api.file_store import NOTHING, FileStore, MiB, Part, PartPlan, part_size_for

#: The smallest part that S3 accepts unless it is the last one:
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
LEAST_PART = 5 * MiB
#: How long an upload can be continued. S3 keeps an incomplete upload for at least one day, because lifecycle
#: rules count whole days.
LIFE = timedelta(days=1)
_AHEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class ResumableUpload:
    """An upload that clients continue. Its file is stored under the conditions of `FileStore.put`."""

    plan: PartPlan
    create_only: bool
    if_match: str | None


@dataclass
class _Chunk:
    """The bytes of one request. `ended` says whether their end has been reached."""

    body: Received
    ended: bool = False
    _ahead: bytes = b""

    def read(self, amount: int) -> bytes:
        data = self._ahead[:amount] or self.body.read(amount)
        self._ahead = self._ahead[amount:]
        self.ended = not data
        return data

    def has_more(self) -> bool:
        self._ahead = self._ahead or self.read(_AHEAD)
        return bool(self._ahead)


@dataclass
class _PartBody(Body):
    """The bytes of one part. `check` is called once, before the last bytes are passed on."""

    check: Callable[[], None] = field(kw_only=True)
    _checked = False

    def _check_digest(self) -> None:
        super()._check_digest()
        if not self._checked:  # a read at the end comes here again, when the store may already have the part
            self._checked = True
            self.check()


def create(
    store: FileStore,
    name: str,
    size: int,
    content_type: str,
    *,
    create_only: bool,
    if_match: str | None,
    max_bytes: int,
    body: Received | None,
    digests: Mapping[str, str] = NOTHING,
) -> tuple[ResumableUpload, int]:
    """Create an upload, and store the bytes that came with the request. Returns the new offset as well.

    If the bytes cannot be stored, nothing remains: the client does not know the upload.
    """
    if size > max_bytes:
        raise too_large(max_bytes)
    if create_only:
        files.check_absent(store, name)
    if if_match is not None:
        files.check_match(name, files.find(store, name), if_match)
    if body is None:
        _check_no_bytes(digests)
    part_size = part_size_for(size, LEAST_PART)
    plan, _ = files.plan_parts(store, name, size, content_type, None, part_size=part_size)
    upload = ResumableUpload(plan, create_only, if_match)
    if size and body is None:
        return upload, 0
    try:
        with _known(store, plan):
            return upload, _append(store, upload, 0, _Chunk(body or Received(BytesIO(), 0)), digests)
    except BaseException:
        with suppress(FileError):  # the bucket's lifecycle rule is the last resort
            store.abort_parts(plan)
        raise


def offset(store: FileStore, upload: ResumableUpload) -> int:
    """How many bytes the store has received. If these are all of them, the upload is completed first.

    Raises `UploadGone`, and what `FileStore.complete_parts` raises.
    """
    plan = upload.plan
    try:
        sizes = {part.number: part.size for part in store.list_parts(plan)}
    except UploadNotFound:
        if files.is_uploaded(store, plan):
            return plan.size
        raise _gone() from None
    number = 1
    while number <= plan.parts and sizes.get(number) == plan.size_of(number):
        number += 1
    if number > plan.parts:
        with _known(store, plan):
            _complete(store, upload)
        return plan.size
    return (number - 1) * plan.part_size


def append(
    store: FileStore, upload: ResumableUpload, at: int, body: Received, digests: Mapping[str, str] = NOTHING
) -> int:
    """Store the parts that are complete with these bytes, and return the new offset.

    It can be smaller than the end of the bytes: the beginning of a part that the bytes do not complete is not
    stored. The file is stored when its last part is. `digests` are those of all bytes of the request.

    Raises `UploadGone`, `WrongOffset`, `ChunkTooSmall`, `ChunkNotOnePart`, `ChecksumMismatch`, the failures
    of the body, and what `FileStore.complete_parts` raises.
    """
    now = offset(store, upload)
    if now != at:
        raise _wrong_offset(now)
    chunk = _Chunk(body)
    if now == upload.plan.size:  # the file is stored, also an empty one
        if chunk.has_more():
            raise _beyond(upload.plan)
        _check_no_bytes(digests)
        return now
    with _known(store, upload.plan):
        return _append(store, upload, at, chunk, digests)


def terminate(store: FileStore, upload: ResumableUpload) -> None:
    """Abort the upload and delete its parts. Raises `UploadGone`, and `UploadCompleted` for a stored file."""
    if not files.abort_upload(store, upload.plan):
        raise _gone()


def _append(
    store: FileStore, upload: ResumableUpload, at: int, chunk: _Chunk, digests: Mapping[str, str]
) -> int:
    plan, length = upload.plan, chunk.body.size
    if length is not None and at + length > plan.size:
        raise _beyond(plan)
    if length is None and not chunk.has_more():
        length = 0
    if length == 0 and plan.size:
        _check_no_bytes(digests)
        return at
    numbers = _whole_parts(plan, at, length, alone=bool(digests))
    stored: list[Part] = []
    for number in numbers:
        if length is None and not chunk.has_more():
            break
        try:
            check = _checks(store, plan, number, stored, chunk)
            stream: Any = chunk  # a body needs no more of a stream than `read`
            size = plan.size_of(number)
            body = _PartBody(stream, size, size, digests=digests, hashed=False, check=check)
            stored.append(_put_part(store, plan, number, body))
        except (UploadInterrupted, ClientTooSlow) as error:
            if chunk.ended and length is None:
                break
            received = sum(part.size for part in stored)
            raise type(error)(
                f"The bytes came too slowly, or stopped coming. {received} bytes of this request were "
                "stored; ask for the offset with HEAD and continue there"
            ) from error
    if not stored:
        raise _too_small(plan)
    _check_own(store.list_parts(plan, after=stored[-1].number - 1), stored[-1])
    if stored[-1].number == plan.parts:
        _complete(store, upload)
    else:
        _drain(chunk)
    return min(stored[-1].number * plan.part_size, plan.size)


def _whole_parts(plan: PartPlan, at: int, length: int | None, *, alone: bool) -> range:
    """The numbers of the parts that a chunk contains completely, or all that follow if its length is unknown.

    With `alone`, the chunk must be exactly one part. Raises `ChunkTooSmall` and `ChunkNotOnePart`.
    """
    first, last = at // plan.part_size + 1, plan.parts
    if length is not None and at + length < plan.size:
        last = (at + length) // plan.part_size
    if last < first and not alone:
        raise _too_small(plan)
    if alone and (last > first or plan.size_of(first) != length):
        raise _not_one_part(plan, plan.size_of(first))
    return range(first, last + 1)


def _check_no_bytes(digests: Mapping[str, str]) -> None:
    """Raises `ChecksumMismatch` unless these are the digests of an empty chunk."""
    try:
        Body(BytesIO(), 0, 0, digests=digests, hashed=False).read()
    except DigestMismatch:
        raise _mismatch() from None


def _put_part(store: FileStore, plan: PartPlan, number: int, body: Body) -> Part:
    try:
        return store.put_part(plan, number, body)
    except DigestMismatch:
        raise _mismatch() from None


def _checks(
    store: FileStore, plan: PartPlan, number: int, stored: Sequence[Part], chunk: _Chunk
) -> Callable[[], None]:
    """What is checked before the last bytes of a part are sent to the store."""

    def check() -> None:
        if number == plan.parts and chunk.body.size is None and chunk.has_more():
            raise _beyond(plan)
        there = store.list_parts(plan, after=max(0, number - 2))
        if stored:
            _check_own(there, stored[-1])
        # Not every S3 drops a part whose connection broke, so a part of a wrong size does not count.
        if any(part.number >= number and part.size == plan.size_of(part.number) for part in there):
            raise _wrong_offset()

    return check


def _check_own(there: Sequence[Part], own: Part) -> None:
    """Raises `WrongOffset` if another request has replaced this part."""
    if not any((part.number, part.etag) == (own.number, own.etag) for part in there):
        raise _wrong_offset()


def _complete(store: FileStore, upload: ResumableUpload) -> None:
    plan = upload.plan
    try:
        files.complete_upload(store, plan, create_only=upload.create_only, if_match=upload.if_match)
    except (FileExists, FileChanged):
        # The file can be that of this upload: another request may have completed it.
        if not files.is_uploaded(store, plan):
            store.abort_parts(plan)
            raise
    except InvalidParts:
        raise _wrong_offset() from None  # another request has replaced a part since it was listed


def _drain(chunk: _Chunk) -> None:
    """Read the beginning of the next part, which is not stored, so that the connection can stay open."""
    with suppress(FileError):
        while chunk.read(_AHEAD):
            pass


@contextmanager
def _known(store: FileStore, plan: PartPlan) -> Iterator[None]:
    """Replace `UploadNotFound` by the reason: another request has completed the upload, or has ended it."""
    try:
        yield
    except UploadNotFound:
        if files.is_uploaded(store, plan):
            raise _wrong_offset(plan.size) from None
        raise _gone() from None


def _mismatch() -> ChecksumMismatch:
    return ChecksumMismatch(
        "The bytes do not match the Upload-Checksum; none of them was stored. Send them again"
    )


def _gone() -> UploadGone:
    return UploadGone(
        "The upload was terminated, has expired, or its file was replaced; create it again with POST /tus"
    )


def _wrong_offset(now: int | None = None) -> WrongOffset:
    if now is None:
        return WrongOffset(
            "Another request continues this upload at the same time; ask for the offset with HEAD, then "
            "continue there"
        )
    return WrongOffset(f"The upload has received {now} bytes; continue there", details={"offset": now})


def _too_small(plan: PartPlan) -> ChunkTooSmall:
    return ChunkTooSmall(
        f"The chunk is smaller than a part of this upload, {plan.part_size} bytes, and the file does not end "
        f"with it; nothing was stored. Send chunks of at least {plan.part_size} bytes (chunkSize of "
        "tus-js-client), or the rest of the file at once",
        details={"least": plan.part_size},
    )


def _not_one_part(plan: PartPlan, size: int) -> ChunkNotOnePart:
    return ChunkNotOnePart(
        f"A chunk with an Upload-Checksum must have exactly {plan.part_size} bytes, or fewer at the end of "
        f"the file: the service could not take back other parts. Nothing was stored; send {size} bytes",
        details={"exactly": size},
    )


def _beyond(plan: PartPlan) -> FileTooLarge:
    return FileTooLarge(f"The chunk goes beyond the Upload-Length of {plan.size} bytes; no more was stored")
