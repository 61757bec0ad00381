"""The use cases: everything that the service does with files and that takes more than one step.

They know neither Flask nor boto3. Each function takes the store as its first argument, returns frozen values,
and fails with one of `failures`.
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
    FileExists,
    FileNotFound,
    InvalidName,
    InvalidParts,
    RangeNotSatisfiable,
    StoreDenied,
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

#: How often a read starts again because its file was replaced between the check and the read.
LOOKS = 3


@dataclass(frozen=True, slots=True)
class ReadConditions:
    """The conditions and the range of a read (RFC 9110, sections 13 and 14).

    Tags include their quotes and `W/`; the tag `*` matches every file. A condition is None if the client did
    not send it, or sent a date that is not valid.
    """

    byte_range: str | None = None
    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None
    if_range: str | datetime | None = None

    def need_a_look(self, *, with_body: bool) -> bool:
        """Whether the answer depends on the state of the file."""
        given = (self.if_match, self.if_none_match, self.if_modified_since, self.if_unmodified_since)
        resumes = with_body and self.byte_range is not None and self.if_range is not None
        return resumes or any(one is not None for one in given)


class InvalidPlan(Exception):
    """The requested upload plan contradicts itself or a limit of the store."""


class StoredInPart(Exception):
    """The file `name` failed with `failed`, after other files of the same request had been stored."""

    def __init__(self, failed: FileError, name: str, stored: Sequence[Upload], total: int) -> None:
        super().__init__(f"{failed.message}; {len(stored)} of {total} files stored before '{name}'")
        self.failed = failed
        self.stored = stored


def list_all(store: FileStore, prefix: str) -> Iterator[Page]:
    """All pages of a listing. The first is fetched at once, so that a failure comes before the first page."""
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
    body_waits: bool = False,
) -> Upload:
    """Store one file, as `FileStore.put` does. If `if_match` fails, nothing of the body is read.

    `body_waits` means that the client sends the body only when it is read (`Expect: 100-continue`). Then the
    same is true of `create_only`. Both checks only save the body; the store decides when it writes.
    """
    if if_match is not None:
        check_match(name, find(store, name), if_match)
    if create_only and body_waits:
        check_absent(store, name)
    return store.put(name, body, content_type, create_only=create_only, if_match=if_match, kept=kept)


class ReceivedFile(Protocol):
    """A file that the service has received completely. `open` returns its bytes from the start."""

    @property
    def name(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def kept(self) -> Mapping[str, str]: ...
    def open(self) -> AbstractContextManager[Body]: ...


def put_files(store: FileStore, received: Sequence[ReceivedFile]) -> list[Upload]:
    """Store the files in order. Raises `StoredInPart` if one fails after others have been stored."""
    stored: list[Upload] = []
    for file in received:
        try:
            with file.open() as body:
                stored.append(
                    store.put(file.name, body, file.content_type, create_only=False, kept=file.kept)
                )
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
    """Sign a URL of a file. With `check`, raise `FileNotFound` if there is no such file.

    `present` receives the file, or None without `check`. It returns the Content-Disposition of the answer,
    and its Content-Type, or None for the stored one.
    """
    opened = store.open(name, Conditions(), with_body=False) if check else None
    disposition, content_type = present(opened)
    return store.sign_download(name, seconds, disposition, content_type, method=method)


def delete_file(store: FileStore, name: str, if_match: str | None = None) -> None:
    """Delete a file. Raises `FileNotFound`, and `FileChanged` if its quoted ETag is not `if_match`."""
    check_match(name, store.stat(name), if_match)
    store.delete(name, if_match)


def check_absent(store: FileStore, name: str) -> None:
    """Raises `FileExists` if the file exists now. A service that may only write does not learn it here."""
    with suppress(StoreDenied):
        if find(store, name) is not None:
            raise FileExists(
                f"The file '{name}' already exists on the bucket '{store.bucket}'; nothing was stored"
            )


def check_match(name: str, file: StoredFile | None, if_match: str | None) -> None:
    """Raises `FileChanged` if If-Match fails now. The store checks it again when it writes."""
    if if_match is None or (file is not None and if_match in ("*", f'"{file.etag}"')):
        return
    raise changed(name)


def delete_files(store: FileStore, names: Iterable[str]) -> dict[str, str | None]:
    """Delete files. The result has, for each name in order, None or the code of its failure."""
    wanted = list(dict.fromkeys(names))
    failed: dict[str, str] = {name: InvalidName.code for name in wanted if not is_name(name)}
    valid = [name for name in wanted if name not in failed]
    if valid:
        failed |= dict.fromkeys(store.missing(valid), FileNotFound.code)
        failed |= store.delete_many([name for name in valid if name not in failed])
    return {name: failed.get(name) for name in wanted}


def open_file(store: FileStore, name: str, asked: ReadConditions, *, with_body: bool) -> OpenFile:
    """Open a file for reading, with the conditions evaluated in the order of RFC 9110, section 13.2.2.

    A read with conditions fetches the file's metadata and evaluates the conditions here, because S3 and its
    emulators differ from the RFC for lists of tags, weak tags and several conditions together. It then opens
    the file with the ETag that was checked, so that a file that replaced it is never served. Only GET has a
    range (section 14.2).

    Raises `FileNotFound`, `NotModified`, `FileChanged`, `RangeNotSatisfiable`.
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
            same_file = Conditions(byte_range=byte_range, if_match=f'"{seen.file.etag}"')
            return _open_part(store, name, same_file, with_body)
    raise StoreUnavailable("The file was replaced each time it was about to be read; try again")


def _evaluate(asked: ReadConditions, seen: OpenFile) -> None:
    """RFC 9110, section 13.2.2, steps 1 to 4. Raises `FileChanged`, `NotModified`."""
    strong = f'"{seen.file.etag}"'
    modified = seen.file.last_modified.replace(microsecond=0)  # the precision of Last-Modified
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
    """Whether If-Range allows a part: only with the current validator, which must be strong.

    RFC 9110, sections 13.1.5 and 8.8.2.2. A date is strong after its second has ended, because the file can
    change again within the same second.
    """
    if isinstance(validator, datetime):
        modified = file.last_modified.replace(microsecond=0)
        return validator == modified and datetime.now(UTC) - modified > timedelta(seconds=1)
    return validator is None or validator == f'"{file.etag}"'


def _open_part(store: FileStore, name: str, conditions: Conditions, with_body: bool) -> OpenFile:
    """Raises `RangeNotSatisfiable` with the file's size. Stores differ for a range without bytes."""
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
    """A multipart upload that the store has opened. `md5_etags` is that of `StartedUpload`."""

    plan: PartPlan
    md5_etags: bool


def plan_upload(
    store: FileStore,
    name: str,
    size: int | None,
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
    """Plan an upload from the client to the store: a form for POST, one PUT, or a multipart upload.

    The client may choose with `multipart` and `part_size`. Otherwise a file of `multipart_from` bytes or more
    is uploaded in parts. A file of unknown size (None) needs a form: only a form can have a range of sizes.
    Raises `FileTooLarge`, `InvalidPlan`, `InvalidParts`.
    """
    unknown = size is None
    if size is None:
        size, multipart = min(max_bytes, MAX_SINGLE_PUT_BYTES), False
    if size > max_bytes:
        raise too_large(max_bytes)
    # In the key of a POST, S3 replaces '${filename}' by the sender's name for the file. It has no escape.
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
    if replaced and unknown:
        raise InvalidPlan(
            "S3 would replace '${filename}' in this name; send the file with PUT /upload/<file>, or plan the "
            "upload with POST /uploads"
        )
    if replaced:
        return store.sign_put(name, size, content_type, sha256, seconds, kept=kept)
    return store.sign_post(name, size, content_type, sha256, seconds, kept=kept, up_to=unknown)


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
    """Open a multipart upload of `size` bytes. Raises `InvalidParts` if it needs too many parts."""
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
    """Complete a multipart upload from the parts that the store has received. Returns the file's ETag.

    Idempotent: a completed upload can be completed again while its file exists. Raises `InvalidParts` with
    the parts that are missing or have the wrong size; the upload stays open and can be resumed.
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
    """Abort a multipart upload. Returns whether the store still had it.

    Raises `UploadCompleted` if the upload was completed and its file exists.
    """
    aborted = store.abort_parts(plan)
    # Some stores answer every abort in the same way, and a completion may have come first. The file shows it.
    if _is_of(_open(store, plan.name), plan):
        raise UploadCompleted(
            f"The upload of '{plan.name}' was completed before; the file stays. Delete it if it is not wanted"
        )
    return aborted


def is_uploaded(store: FileStore, plan: PartPlan) -> bool:
    """Whether the upload of this plan was completed and its file is there."""
    return _is_of(_open(store, plan.name), plan)


def _is_of(opened: OpenFile | None, plan: PartPlan) -> TypeGuard[OpenFile]:
    """Whether the file was uploaded by this plan. Its ETag can differ, because a restore changes it."""
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
