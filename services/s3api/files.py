"""The use cases: what can be done with files, whatever stores them. No Flask and no boto3 here.

Each function takes the store as its first argument. It returns frozen values, and fails with a `FileError`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol, TypeGuard

from s3api.bodies import Body, too_large
from s3api.failures import (
    FileChanged,
    FileError,
    FileNotFound,
    InvalidName,
    InvalidParts,
    RangeNotSatisfiable,
    StoreUnavailable,
    UploadCompleted,
    UploadNotFound,
    changed,
)
from s3api.file_store import (
    MAX_PARTS,
    MAX_SINGLE_PUT_BYTES,
    NOTHING,
    Conditions,
    FileStore,
    NotModified,
    OpenFile,
    Page,
    PartPlan,
    SignedPost,
    SignedPut,
    SignedUrl,
    StartedUpload,
    StoredFile,
    Upload,
    part_size_for,
)
from s3api.names import is_name

#: How often a read begins again because its file was replaced between the look at it and the read.
LOOKS = 3


@dataclass(frozen=True, slots=True)
class ReadConditions:
    """What a client asks of a read. Tags have their quotes and `W/`; `*` stands for any tag.

    RFC 9110, section 13. None where the client said nothing, or a date that is not valid.
    """

    byte_range: str | None = None
    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None
    if_range: str | datetime | None = None

    def need_a_look(self, *, with_body: bool) -> bool:
        """Whether the answer depends on which file is there."""
        given = (self.if_match, self.if_none_match, self.if_modified_since, self.if_unmodified_since)
        resumes = with_body and self.byte_range is not None and self.if_range is not None
        return resumes or any(one is not None for one in given)


class InvalidPlan(Exception):
    """The wishes for an upload plan contradict each other, or a limit of the store."""


class StoredInPart(Exception):
    """After others had been stored, one file of a request failed: `failed` says how, `name` which."""

    def __init__(self, failed: FileError, name: str, stored: Sequence[Upload], total: int) -> None:
        super().__init__(f"{failed.message}; {len(stored)} of {total} files stored before '{name}'")
        self.failed = failed
        self.stored = stored


def list_all(store: FileStore, prefix: str) -> Iterator[Page]:
    """Every page of a listing. The first is there when this returns, so a failure comes before any page."""
    return _walk(store, prefix, store.list_page(prefix, "", 1000, None))


def _walk(store: FileStore, prefix: str, first: Page) -> Iterator[Page]:
    """`first` and all pages after it. Each page is requested while the caller processes the one before it."""
    with ThreadPoolExecutor(1, thread_name_prefix="next-page") as ahead:
        page = first
        while page.next_token is not None:
            following = ahead.submit(store.list_page, prefix, "", 1000, page.next_token)
            yield page
            page = following.result()
        yield page


def put_file(
    store: FileStore,
    name: str,
    body: Body,
    content_type: str,
    *,
    create_only: bool,
    if_match: str | None,
    kept: Mapping[str, str],
) -> Upload:
    """Store one file, as `FileStore.put` does. Reads no byte of the body where `if_match` does not hold."""
    if if_match is not None:
        check_match(name, find(store, name), if_match)
    return store.put(name, body, content_type, create_only=create_only, if_match=if_match, kept=kept)


class ReceivedFile(Protocol):
    """A file that the service has received whole. `open` gives its bytes, from the first one."""

    @property
    def name(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    def open(self) -> AbstractContextManager[Body]: ...


def put_files(store: FileStore, received: Sequence[ReceivedFile]) -> list[Upload]:
    """Store the files one after the other. Raises `StoredInPart` where one fails after others are stored."""
    stored: list[Upload] = []
    for file in received:
        try:
            with file.open() as body:
                stored.append(store.put(file.name, body, file.content_type, create_only=False))
        except FileError as error:
            if not stored:
                raise
            raise StoredInPart(error, file.name, stored, len(received)) from error
    return stored


def sign_download(
    store: FileStore,
    name: str,
    seconds: int,
    present: Callable[[OpenFile | None], tuple[str, str | None]],
    *,
    check: bool,
    method: Literal["GET", "HEAD"],
) -> SignedUrl:
    """Sign a URL of a file. With `check`, look at the file first; raises `FileNotFound` where there is none.

    `present` returns the Content-Disposition, and the Content-Type or None, that the URL answers with. It is
    given the file, or None where no look was taken.
    """
    opened = store.open(name, Conditions(), with_body=False) if check else None
    disposition, content_type = present(opened)
    return store.sign_download(name, seconds, disposition, content_type, method=method)


def delete_file(store: FileStore, name: str, if_match: str | None = None) -> None:
    """Raises `FileNotFound` for a missing file, `FileChanged` for one that has not this quoted ETag."""
    check_match(name, store.stat(name), if_match)
    store.delete(name, if_match)


def check_match(name: str, file: StoredFile | None, if_match: str | None) -> None:
    """Raises `FileChanged` where If-Match does not hold now; the store's own condition excludes races."""
    if if_match is None or (file is not None and if_match in ("*", f'"{file.etag}"')):
        return
    raise changed(name)


def delete_files(store: FileStore, names: Iterable[str]) -> dict[str, str | None]:
    """Delete what is there; returns, in the order given, None for a deleted file or the code of why not."""
    wanted = list(dict.fromkeys(names))
    failed: dict[str, str] = {name: InvalidName.code for name in wanted if not is_name(name)}
    valid = [name for name in wanted if name not in failed]
    if valid:
        failed |= dict.fromkeys(store.missing(valid), FileNotFound.code)
        failed |= store.delete_many([name for name in valid if name not in failed])
    return {name: failed.get(name) for name in wanted}


def open_file(store: FileStore, name: str, asked: ReadConditions, *, with_body: bool) -> OpenFile:
    """Open a file for reading, under the conditions and in the order of RFC 9110, section 13.2.2.

    A read that depends on the file looks at it first. It then opens the very file that it saw, so that no
    other file is served under a condition that was not its own. S3 and its emulators answer lists of tags,
    weak tags and several conditions together in ways that differ from the RFC. A range is for GET alone
    (section 14.2). Raises `FileNotFound`, `NotModified`, `FileChanged`, `RangeNotSatisfiable`.
    """
    if not asked.need_a_look(with_body=with_body):
        return _open_part(
            store, name, Conditions(byte_range=asked.byte_range if with_body else None), with_body
        )
    for _ in range(LOOKS):
        seen = store.open(name, Conditions(), with_body=False)
        _evaluate(asked, seen)
        if not with_body:
            return seen
        byte_range = asked.byte_range if _may_resume(asked.if_range, seen.file) else None
        with suppress(FileChanged):
            the_same = Conditions(byte_range=byte_range, if_match=f'"{seen.file.etag}"')
            return _open_part(store, name, the_same, with_body)
    raise StoreUnavailable("The file was replaced each time it was about to be read; try again")


def _evaluate(asked: ReadConditions, seen: OpenFile) -> None:
    """RFC 9110, section 13.2.2, steps 1 to 4. Raises `FileChanged`, `NotModified`."""
    strong = f'"{seen.file.etag}"'
    modified = seen.file.last_modified.replace(microsecond=0)  # as Last-Modified says it
    if asked.if_match is not None:
        holds = not asked.if_match.isdisjoint(("*", strong))
    else:
        holds = asked.if_unmodified_since is None or modified <= asked.if_unmodified_since
    if not holds:
        raise FileChanged(f"The file '{seen.file.name}' does not match the condition of the request")
    if asked.if_none_match is not None:
        has_it = not asked.if_none_match.isdisjoint(("*", strong, f"W/{strong}"))
    else:
        has_it = asked.if_modified_since is not None and modified <= asked.if_modified_since
    if has_it:
        raise NotModified(seen)


def _may_resume(validator: str | datetime | None, file: StoredFile) -> bool:
    """RFC 9110, section 13.1.5: exactly the current validator, and a strong one.

    By section 8.8.2.2 a date is strong once its second is over: until then the file may change again.
    """
    if isinstance(validator, datetime):
        modified = file.last_modified.replace(microsecond=0)
        return validator == modified and datetime.now(UTC) - modified > timedelta(seconds=1)
    return validator is None or validator == f'"{file.etag}"'


def _open_part(store: FileStore, name: str, conditions: Conditions, with_body: bool) -> OpenFile:
    """Raises `RangeNotSatisfiable` with the size of the file; stores differ in what they say of no bytes."""
    wanted = conditions.byte_range
    opened = None
    if wanted is None or not re.fullmatch("bytes=-0+", wanted):
        with suppress(RangeNotSatisfiable):
            opened = store.open(name, conditions, with_body=with_body)
    if opened is not None and (wanted is None or opened.file.size):
        return opened
    size = 0
    if opened is None:
        size = store.stat(name).size
    raise RangeNotSatisfiable(
        f"The range is outside the file '{name}', which has {size} bytes", details={"size": size}
    )


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload in parts that the store has opened; `md5_etags` as in `StartedUpload`."""

    plan: PartPlan
    md5_etags: bool


def plan_upload(
    store: FileStore,
    name: str,
    size: int,
    content_type: str,
    sha256: str | None,
    *,
    kept: Mapping[str, str],
    max_bytes: int,
    multipart: bool | None,
    multipart_from: int,
    part_size: int | None,
    seconds: int,
) -> SignedPost | SignedPut | MultipartUpload:
    """Plan an upload that goes to the store directly: one form, one PUT, or a multipart upload.

    `multipart` and `part_size` are the client's wishes. Without a wish an upload is in parts from
    `multipart_from` bytes up. Raises `FileTooLarge`, `InvalidPlan`, `InvalidParts`.
    """
    if size > max_bytes:
        raise too_large(max_bytes)
    # S3 replaces '${filename}' in the key of a POST by the sender's own name for the file, and has no escape.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
    replaced = "${filename}" in name
    if multipart is None:
        in_parts = part_size is not None or size >= multipart_from or replaced
    else:
        _check_plan(size, multipart=multipart, part_size=part_size)
        in_parts = multipart
    if in_parts:
        plan, started = plan_parts(store, name, size, content_type, sha256, part_size=part_size, kept=kept)
        return MultipartUpload(plan, started.md5_etags)
    if replaced:
        return store.sign_put(name, size, content_type, sha256, seconds, kept=kept)
    return store.sign_post(name, size, content_type, sha256, seconds, kept=kept)


def _check_plan(size: int, *, multipart: bool, part_size: int | None) -> None:
    if not multipart and part_size is not None:
        raise InvalidPlan("A part_size is for a multipart upload; leave it out, or set multipart to true")
    if not multipart and size > MAX_SINGLE_PUT_BYTES:
        raise InvalidPlan(f"Above {MAX_SINGLE_PUT_BYTES} bytes S3 takes a file in parts only")


def plan_parts(
    store: FileStore,
    name: str,
    size: int,
    content_type: str,
    sha256: str | None,
    *,
    part_size: int | None = None,
    kept: Mapping[str, str] = NOTHING,
) -> tuple[PartPlan, StartedUpload]:
    """Open a multipart upload of `size` bytes. Raises `InvalidParts` where it would be of too many parts."""
    if part_size is not None and -(-size // part_size) > MAX_PARTS:
        raise InvalidParts(
            f"With this part_size the upload has more than {MAX_PARTS} parts; "
            f"{part_size_for(size)} bytes are enough"
        )
    nonce = secrets.token_urlsafe(16)
    started = store.start_parts(name, content_type, sha256, nonce, kept=kept)
    return PartPlan(name, started.upload_id, size, part_size or part_size_for(size), nonce), started


def complete_upload(
    store: FileStore, plan: PartPlan, *, create_only: bool = False, if_match: str | None = None
) -> str:
    """Complete a multipart upload from what the store itself received; returns the file's ETag.

    Idempotent: completing again what was completed answers the same, as long as its file is there. Raises
    `InvalidParts` naming what is missing or of the wrong size; the upload then stays open to be resumed.
    """
    try:
        return _complete_open_upload(store, plan, create_only=create_only, if_match=if_match)
    except UploadNotFound:
        opened = _open(store, plan.name)
        if _is_of(opened, plan):
            return opened.file.etag
        if opened is None:
            raise
        raise UploadNotFound(
            f"The upload was not found; it was aborted or has expired, or its file was replaced since. The "
            f"file '{plan.name}' that is there now is not of this upload"
        ) from None


def abort_upload(store: FileStore, plan: PartPlan) -> bool:
    """Abort a multipart upload; returns False where there was none any more.

    Raises `UploadCompleted` where it has become the file that is there.
    """
    aborted = store.abort_parts(plan)
    # Some stores answer the same to every abort, and a completion may have come first: the file tells.
    if _is_of(_open(store, plan.name), plan):
        raise UploadCompleted(
            f"The upload of '{plan.name}' was completed before; the file stays. Delete it if it is not wanted"
        )
    return aborted


def _is_of(opened: OpenFile | None, plan: PartPlan) -> TypeGuard[OpenFile]:
    """Whether the file was uploaded by this plan. Its ETag may be another: restoring a file changes it."""
    return opened is not None and opened.nonce == plan.nonce and opened.file.size == plan.size


def _complete_open_upload(
    store: FileStore, plan: PartPlan, *, create_only: bool, if_match: str | None
) -> str:
    parts = store.list_parts(plan)
    sizes = {part.number: part.size for part in parts}
    wrong = [number for number in range(1, plan.parts + 1) if sizes.get(number) != plan.size_of(number)]
    if wrong:
        shown = ", ".join(map(str, wrong[:10])) + (", …" if len(wrong) > 10 else "")
        raise InvalidParts(
            f"Of {plan.parts} parts {len(wrong)} are missing or of the wrong size ({shown}); upload them, "
            "then complete again",
            details={"missing": wrong},
        )
    wanted = [part for part in parts if part.number <= plan.parts]
    return store.complete_parts(plan, wanted, create_only=create_only, if_match=if_match)


def find(store: FileStore, name: str) -> StoredFile | None:
    opened = _open(store, name)
    return None if opened is None else opened.file


def _open(store: FileStore, name: str) -> OpenFile | None:
    try:
        return store.open(name, Conditions(), with_body=False)
    except FileNotFound:
        return None
