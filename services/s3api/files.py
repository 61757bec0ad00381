"""The use cases: what can be done with files, whatever stores them. No Flask and no boto3 here.

The store is a protocol that this module owns (`FileStore`), handed in as an argument. Results are frozen
values; failures are subclasses of `FileError`, each with a stable `code`.
"""

from __future__ import annotations

import hashlib
import hmac
import mimetypes
import posixpath
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import IO, Literal, Protocol, TypeGuard

MiB = 1024 * 1024
MAX_NAME_BYTES = 1024
MAX_BULK = 1000  # names in one request, as in S3's own
MAX_PARTS = 10_000
MIN_PART_BYTES = 8 * MiB
# S3 takes one PUT up to 5 GiB; anything above goes up in parts.
MAX_SINGLE_PUT_BYTES = 5 * 1024 * MiB

#: How often a read begins again because its file was replaced between the look at it and the read.
LOOKS = 3
KEPT_HEADERS = ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language")

# XML 1.0, section 2.2, cannot carry U+FFFE and U+FFFF, and S3's bulk deletes and multipart uploads are in XML
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html, XML related object keys).
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffe\uffff]")
_FORBIDDEN_SAID = "a control character, a backslash, U+FFFE or U+FFFF"
NOTHING: Mapping[str, str] = MappingProxyType({})


# Python's own table, without the machine's: it differs from one version of Python to another in what follows.
# A compressed file is what it is, not what is in it: S3 and this service hand out its bytes as they are.
_PYTHONS = mimetypes.MimeTypes().types_map
_TYPES: Mapping[str, str] = {
    **_PYTHONS[False],
    **_PYTHONS[True],
    ".7z": "application/x-7z-compressed",
    ".avif": "image/avif",
    ".br": "application/x-brotli",
    ".bz2": "application/x-bzip2",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".log": "text/plain",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".mkv": "video/matroska",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".parquet": "application/vnd.apache.parquet",
    ".svgz": "application/gzip",
    ".tgz": "application/gzip",
    ".ts": "video/mp2t",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".z": "application/x-compress",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}


# --- values


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file in the store. `size` in bytes, `last_modified` with a time zone, `etag` without quotes."""

    name: str
    size: int
    last_modified: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in the store's order. `next_token` is None on the last page."""

    files: Sequence[StoredFile]
    prefixes: Sequence[str] = ()
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """What was stored: `sha256` is hex, computed from the bytes as they passed."""

    name: str
    size: int
    etag: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SignedUrl:
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignedPost:
    """A form to POST to `url`: the `fields` first, the file last under the name `file`."""

    url: str
    fields: Mapping[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignedPut:
    """A PUT of the file's bytes to `url`, with exactly these headers."""

    url: str
    headers: Mapping[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart upload: `number` from 1, `size` in bytes, `etag` without quotes."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class StartedUpload:
    """A multipart upload that the store has opened.

    `md5_etags` says whether the ETags of its parts and of its file come from the MD5s of the bytes. With keys
    of KMS they do not.
    """

    upload_id: str
    md5_etags: bool


@dataclass(frozen=True, slots=True)
class PartPlan:
    """What a multipart upload was planned to be; it travels inside the signed upload id.

    The file keeps the random `nonce` in its metadata, so that it can be told from any other of its name.
    """

    name: str
    upload_id: str
    size: int
    part_size: int
    nonce: str

    @property
    def parts(self) -> int:
        return max(1, -(-self.size // self.part_size))

    def size_of(self, number: int) -> int:
        """The bytes of part `number`. Raises `InvalidParts` outside 1..parts."""
        if not 1 <= number <= self.parts:
            raise InvalidParts(f"The part number {number} is not between 1 and {self.parts}")
        return min(self.part_size, self.size - (number - 1) * self.part_size)


@dataclass(frozen=True, slots=True)
class Conditions:
    """HTTP's own conditions of a read, as the client sent them; None where absent."""

    byte_range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file being read: `chunks` must be exhausted or closed. `content_range` is set for a part of it.

    `sha256` is that of the whole file, in hex; it was checked when the file was stored. `declared_sha256` is
    what the sender of a multipart upload declared, which nothing has checked. `nonce` is that of the plan
    that the file was uploaded by. Each is None where there is none.
    """

    file: StoredFile
    length: int
    content_type: str
    content_range: str | None
    chunks: Iterator[bytes]
    sha256: str | None = None
    declared_sha256: str | None = None
    nonce: str | None = None
    #: The headers of `KEPT_HEADERS` that the file was stored with, as another client of the store sent them.
    stored_headers: Mapping[str, str] = field(default_factory=dict)


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


# --- errors


class FileError(Exception):
    """A failure with a sentence for the client and a stable code for its scripts."""

    code = "file_error"

    def __init__(self, message: str, *, details: object = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.hint = hint


class InvalidName(FileError):
    code = "invalid_file_name"


class DuplicateName(FileError):
    """Two files of one form would be stored under the same name."""

    code = "duplicate_file_name"


class InvalidPlan(FileError):
    """The parameters of an upload plan contradict each other, or a limit of the store."""

    code = "bad_request"


class InvalidContentType(FileError):
    code = "invalid_content_type"


class FileNotFound(FileError):
    code = "file_not_found"


class FileExists(FileError):
    code = "file_exists"


class FileChanged(FileError):
    """A condition of the request (If-Match, If-Unmodified-Since) does not hold."""

    code = "precondition_failed"


class NotModified(FileError):
    """Not a failure to the client: it has the file already. `opened` says which, where the service knows."""

    code = "not_modified"

    def __init__(self, opened: OpenFile | None = None, *, details: object = None) -> None:
        super().__init__("Not modified", details=details)
        self.opened = opened


class RangeNotSatisfiable(FileError):
    code = "range_not_satisfiable"


class FileNotDeleted(FileError):
    code = "file_not_deleted"


class VersioningOff(FileError):
    code = "versioning_off"


class FileTooLarge(FileError):
    code = "file_too_large"


class DigestMismatch(FileError):
    code = "digest_mismatch"


class UploadInterrupted(FileError):
    """The client went away before the whole body had come."""

    code = "upload_interrupted"


class ClientTooSlow(FileError):
    """The body came more slowly than the minimum rate, or stopped coming."""

    code = "request_timeout"


class UploadNotFound(FileError):
    code = "upload_not_found"


class UploadCompleted(FileError):
    """The upload can no longer be aborted: it has become a file."""

    code = "upload_completed"


class InvalidParts(FileError):
    code = "invalid_parts"


class InvalidCursor(FileError):
    code = "invalid_cursor"


class Conflict(FileError):
    code = "conflict"


class StagingFull(FileError):
    code = "staging_full"


class TooBusy(FileError):
    code = "too_busy"


class StoreUnavailable(FileError):
    code = "s3_unavailable"


class StoreThrottled(StoreUnavailable):
    code = "s3_throttled"


class BucketNotFound(StoreUnavailable):
    code = "bucket_not_found"


class StoreDenied(FileError):
    """The store refused the service itself; `code` names the operation."""

    code = "s3_denied"

    def __init__(self, message: str, operation: str) -> None:
        super().__init__(message)
        self.code = f"s3_{operation}_denied"


class StoreFailed(FileError):
    code = "s3_error"


class ClockSkewed(StoreFailed):
    """The store refuses signatures because this machine's clock is wrong."""

    code = "clock_skewed"


class StoredInPart(Exception):
    """After others had been stored, one file of a request failed: `failed` says how, `name` which."""

    def __init__(self, failed: FileError, name: str, stored: Sequence[Upload], total: int) -> None:
        super().__init__(f"{failed.message}; {len(stored)} of {total} files stored before '{name}'")
        self.failed = failed
        self.stored = stored


# --- the port


class FileStore(Protocol):
    """What the use cases need of a store.

    Every method may raise `StoreUnavailable`, `StoreDenied` or `StoreFailed`; what else, each one says.
    """

    bucket: str

    def check(self) -> None:
        """Return when the bucket answers within the deadline. Raises `BucketNotFound` where there is none."""

    def list_page(self, prefix: str, delimiter: str, limit: int, token: str | None) -> Page:
        """Up to `limit` names and prefixes together, from where the page with this `next_token` ended."""

    def stat(self, name: str) -> StoredFile:
        """Raises `FileNotFound`."""

    def missing(self, names: Sequence[str]) -> set[str]:
        """Those of the names that are not there."""

    def open(self, name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
        """Without a body `chunks` is empty, and all else is as it would be with one.

        Raises `FileNotFound`, `NotModified`, `FileChanged`, `RangeNotSatisfiable`.
        """

    def put(
        self,
        name: str,
        body: Body,
        content_type: str,
        *,
        create_only: bool,
        if_match: str | None = None,
        kept: Mapping[str, str] = NOTHING,
    ) -> Upload:
        """Store the body whole or not at all, with the headers to keep, such as Content-Encoding.

        Raises what the body raises, `FileExists` when `create_only` and the name is taken, and `FileChanged`
        when the file that is there has not the quoted ETag `if_match`.
        """

    def delete(self, name: str, if_match: str | None = None) -> None:
        """Idempotent: a missing file is no error. Raises `FileChanged` when it has not this quoted ETag."""

    def delete_many(self, names: Sequence[str]) -> Mapping[str, str]:
        """Idempotent. Returns, for those that could not be deleted, the code of why."""

    def restore(self, name: str) -> StoredFile:
        """Bring back the newest version with its metadata, and never over a file that is there.

        Raises `FileNotFound`, `FileNotDeleted`, `VersioningOff`, `Conflict`.
        """

    def sign_download(
        self,
        name: str,
        seconds: int,
        disposition: str,
        content_type: str | None = None,
        *,
        method: Literal["GET", "HEAD"] = "GET",
    ) -> SignedUrl:
        """A URL that answers with the file and this Content-Disposition, whether or not the file is there.

        It works for this method alone.

        It answers with this Content-Type as well, or with the stored one where none is given.
        """

    def sign_post(
        self,
        name: str,
        size: int,
        content_type: str,
        sha256: str | None,
        seconds: int,
        *,
        kept: Mapping[str, str] = NOTHING,
    ) -> SignedPost:
        """A form that stores exactly `size` bytes, and only with this SHA-256 (hex) where one is given."""

    def sign_put(
        self,
        name: str,
        size: int,
        content_type: str,
        sha256: str | None,
        seconds: int,
        *,
        kept: Mapping[str, str] = NOTHING,
    ) -> SignedPut:
        """A URL that stores exactly `size` bytes, and only with this SHA-256 (hex) where one is given."""

    def start_parts(
        self,
        name: str,
        content_type: str,
        sha256: str | None,
        nonce: str,
        *,
        kept: Mapping[str, str] = NOTHING,
    ) -> StartedUpload:
        """Open a multipart upload. Its file keeps the nonce, and the SHA-256 as no more than declared."""

    def sign_parts(self, plan: PartPlan, numbers: Sequence[int], seconds: int) -> Sequence[SignedUrl]:
        """A URL for each part, which takes exactly the part's bytes. Raises `InvalidParts`."""

    def list_parts(self, plan: PartPlan) -> Sequence[Part]:
        """Raises `UploadNotFound`."""

    def complete_parts(
        self,
        plan: PartPlan,
        parts: Sequence[Part],
        *,
        create_only: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Returns the ETag. Raises `UploadNotFound`, `InvalidParts`, and for the conditions as `put` does."""

    def abort_parts(self, plan: PartPlan) -> bool:
        """Idempotent. Returns whether there was an upload to abort."""


# --- names


def check_name(name: str) -> str:
    """Return the name unchanged when it may name a file.

    Allowed is any valid UTF-8 of 1 to 1,024 bytes without control characters, backslashes, U+FFFE, U+FFFF, a
    leading slash or dot segments. Raises `InvalidName` with what is wrong.
    """
    if not name:
        raise InvalidName("The file name is empty")
    _check_length(name, "The file name")
    if _FORBIDDEN.search(name):
        raise InvalidName(f"The file name contains {_FORBIDDEN_SAID}")
    if name.startswith("/"):
        raise InvalidName("The file name begins with a slash")
    if any(segment in (".", "..") for segment in name.split("/")):
        raise InvalidName("The file name contains a dot segment ('.' or '..')")
    return name


def is_name(name: str) -> bool:
    try:
        check_name(name)
    except InvalidName:
        return False
    return True


def check_prefix(prefix: str, what: str = "The prefix") -> str:
    """Return the prefix unchanged when names could begin with it. Raises `InvalidName`."""
    _check_length(prefix, what)
    if _FORBIDDEN.search(prefix):
        raise InvalidName(f"{what} contains {_FORBIDDEN_SAID}")
    return prefix


def _check_length(text: str, what: str) -> None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidName(f"{what} is not valid UTF-8") from None
    if length > MAX_NAME_BYTES:
        raise InvalidName(f"{what} is {length} bytes long; at most {MAX_NAME_BYTES} are allowed")


def guess_content_type(name: str) -> str:
    """The type of the name's last extension, the same on every machine."""
    return _TYPES.get(posixpath.splitext(name)[1].lower(), "application/octet-stream")


# --- bodies

TOO_SLOW = "The body came too slowly, or stopped coming; nothing was stored. Send the request again"


@dataclass
class Received:
    """Bytes that a client sends, read like a file; an end before the announced `size` is an error."""

    stream: IO[bytes]
    size: int | None
    received: int = field(default=0, kw_only=True)

    def read(self, amount: int = -1) -> bytes:
        """Up to `amount` bytes, b"" at the end. Raises `UploadInterrupted` and `ClientTooSlow`."""
        if self.size is not None:
            left = self.size - self.received
            amount = left if amount < 0 else min(amount, left)
            if not amount:
                return b""
        try:
            data = self.stream.read(amount)
        except TimeoutError as error:
            raise ClientTooSlow(TOO_SLOW) from error
        except Exception as error:  # the server's own errors of a connection that broke or stalled
            raise UploadInterrupted("The connection ended before the whole file had been received") from error
        if not data and self.size is not None:
            raise UploadInterrupted(
                f"The connection ended after {self.received} of {self.size} bytes; nothing was stored"
            )
        self.received += len(data)
        return data


@dataclass
class Body(Received):
    """A file's bytes on their way in, counted, hashed and held to the policy as they pass.

    The last bytes are handed on only after the whole has been checked, so a store that streams it never
    receives a body that is complete and wrong. What went wrong is kept in `failure`, because HTTP libraries
    wrap what a body raises.
    """

    max_size: int
    sha256: str | None = None
    digests: Mapping[str, str] = field(
        default_factory=dict, kw_only=True
    )  # others, in hex, by RFC 9530's names
    failure: FileError | None = field(default=None, kw_only=True)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256, kw_only=True)
    _others: dict[str, hashlib._Hash] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.size is not None and self.size > self.max_size:
            raise too_large(self.max_size)
        self._start_hashes()

    def _start_hashes(self) -> None:
        self._hash = hashlib.sha256()
        self._others = {
            name: hashlib.new(name.replace("-", ""), usedforsecurity=False) for name in self.digests
        }

    def read(self, amount: int = -1) -> bytes:
        """Also raises `FileTooLarge` and `DigestMismatch`."""
        try:
            data = super().read(amount)
            self._hash.update(data)
            for other in self._others.values():
                other.update(data)
            if self.received > self.max_size:
                raise too_large(self.max_size)
            if not data or self.received == self.size:
                self._check_digest()
        except FileError as error:
            self.failure = error
            raise
        return data

    def read_fully(self, amount: int) -> bytes:
        """Exactly `amount` bytes, fewer only at the end."""
        parts: list[bytes] = []
        while amount > 0 and (data := self.read(amount)):
            parts.append(data)
            amount -= len(data)
        return b"".join(parts)

    def rewind(self) -> bool:
        """Go back to the first byte, so that the store can try again; False where the stream cannot."""
        if self.received:
            if not getattr(self.stream, "seekable", lambda: False)():
                return False
            self.stream.seek(0)
            self.received = 0
            self._start_hashes()
        return True

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _check_digest(self) -> None:
        if self.sha256 is not None and not hmac.compare_digest(self.sha256, self._hash.hexdigest()):
            raise DigestMismatch(
                "The body does not match the given SHA-256; nothing was stored. Send the file again"
            )
        for name, digest in self.digests.items():
            if not hmac.compare_digest(digest, self._others[name].hexdigest()):
                raise DigestMismatch(
                    f"The body does not match the given digest ({name}); nothing was stored. "
                    "Send the file again"
                )


def too_large(limit: int) -> FileTooLarge:
    return FileTooLarge(f"The file is larger than the limit of {limit} bytes; nothing was stored")


# --- use cases


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


def changed(name: str) -> FileChanged:
    return FileChanged(f"The file '{name}' does not match the condition of the request; nothing was changed")


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


def part_size_for(size: int) -> int:
    """The smallest part size, a whole number of MiB and at least 8, that needs no more than 10,000 parts."""
    return max(MIN_PART_BYTES, -(-size // (MAX_PARTS * MiB)) * MiB)


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
