"""What a store of files must do (`FileStore`), and the values that it takes and returns.

The use cases own this interface. `s3_store` implements it for S3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal, Protocol

from s3api.bodies import Body
from s3api.failures import (
    FileError,
    InvalidParts,
)

MiB = 1024 * 1024
MAX_BULK = 1000  # names in one request; S3 has the same limit
MAX_PARTS = 10_000
MIN_PART_BYTES = 8 * MiB
# S3 accepts up to 5 GiB in one PUT. A larger file is uploaded in parts.
MAX_SINGLE_PUT_BYTES = 5 * 1024 * MiB
#: Headers that are stored with a file.
KEPT_HEADERS = ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language")
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file in the store. `size` in bytes, `last_modified` with a time zone, `etag` without quotes."""

    name: str
    size: int
    last_modified: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in the store's order. `next_token` is None on the last page."""

    files: Sequence[StoredFile]
    prefixes: Sequence[str] = ()
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored file. `sha256` is in hex, computed from the bytes that were sent to the store."""

    name: str
    size: int
    etag: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Copied:
    """The copy `name` of the file `source`, which had this ETag and this `copy_mark` when it was copied."""

    source: str
    name: str
    size: int
    etag: str
    source_etag: str
    mark: str


@dataclass(frozen=True, slots=True)
class FileVersion:
    """One version of a file, or the marker of a deletion, which has no size and no ETag.

    `latest` is true for the version that a read returns, and for the marker of a file that is deleted now.
    """

    name: str
    version: str
    last_modified: datetime
    latest: bool
    deleted: bool
    size: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Versions in the store's order: by name, the newest of each name first."""

    versions: Sequence[FileVersion]
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class SignedUrl:
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignedPost:
    """A form to POST to `url`: first the `fields`, then the file in the field `file`."""

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

    `md5_etags` says whether the ETags of its parts and its file are computed from the MD5s of the bytes. They
    are not if the bucket is encrypted with a KMS key.
    """

    upload_id: str
    md5_etags: bool


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The plan of a multipart upload. The signed upload id contains it.

    The file keeps the random `nonce` in its metadata, which identifies it among files of the same name.
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
        """The size of part `number` in bytes. Raises `InvalidParts` unless it is between 1 and `parts`."""
        if not 1 <= number <= self.parts:
            raise InvalidParts(f"The part number {number} is not between 1 and {self.parts}")
        return min(self.part_size, self.size - (number - 1) * self.part_size)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of a read that the store evaluates; None if absent."""

    byte_range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file. The reader must exhaust or close `chunks`. `content_range` is set if it is only a part.

    `sha256` is the hex digest of the whole file, which was checked when the file was stored.
    `declared_sha256` was declared by the sender of a multipart upload, and nothing has checked it. `nonce` is
    that of the `PartPlan`. Each of them is None if the file has none.
    """

    file: StoredFile
    length: int
    content_type: str
    content_range: str | None
    chunks: Iterator[bytes]
    sha256: str | None = None
    declared_sha256: str | None = None
    nonce: str | None = None
    #: The `copy_mark` of the source from which the service copied this file.
    copy_of: str | None = None
    #: Those of `KEPT_HEADERS` that the file has. Another client of the store may have set any value.
    stored_headers: Mapping[str, str] = field(default_factory=dict)
    #: The headers and the metadata that a copy of the file keeps, by their names in lower case.
    copied_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """The `copy_mark` that a copy of this file would have."""
        return copy_mark(self.file.name, self.file.etag, self.copied_headers)


class NotModified(FileError):
    """The client already has the current file. `opened` is that file, if the service has looked at it."""

    code = "not_modified"

    def __init__(self, opened: OpenFile | None = None, *, details: object = None) -> None:
        super().__init__("Not modified", details=details)
        self.opened = opened


class FileStore(Protocol):
    """The interface of a store.

    Every method can raise `StoreUnavailable`, `StoreDenied` and `StoreFailed`. Its docstring names others.
    """

    bucket: str
    #: The URL of the store, for the operator.
    endpoint: str

    def check(self) -> None:
        """Return if the bucket answers in time. Raises `BucketNotFound` if it does not exist."""

    def list_page(self, prefix: str, delimiter: str, limit: int, token: str | None) -> Page:
        """Up to `limit` names and prefixes in total. `token` is the `next_token` of the previous page."""

    def stat(self, name: str) -> StoredFile:
        """The file's metadata. Raises `FileNotFound`."""

    def missing(self, names: Sequence[str]) -> set[str]:
        """The names that do not exist."""

    def open(self, name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
        """Open a file. Without a body, only `chunks` differs: it is empty.

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
        """Store the body completely or not at all, with the headers `kept`, such as Content-Encoding.

        Raises the failures of the body, `FileExists` if `create_only` and the file exists, and `FileChanged`
        if the existing file's quoted ETag is not `if_match`.
        """

    def delete(self, name: str, if_match: str | None = None) -> None:
        """Delete a file. A missing file is no failure. Raises `FileChanged` if its ETag is not `if_match`."""

    def delete_many(self, names: Sequence[str]) -> Mapping[str, str]:
        """Delete files. Missing files are no failure. Returns the code of each failure by name."""

    def copy(
        self,
        source: str,
        destination: str,
        *,
        source_etag: str | None,
        create_only: bool,
        if_match: str | None,
    ) -> Copied:
        """Copy a file with its metadata, completely or not at all. The conditions are those of `put`.

        Raises `FileNotFound`, `FileExists`, and `FileChanged` if the source does not have the ETag
        `source_etag`, or is replaced during the copy.
        """

    def restore(
        self, name: str, version: str | None = None, *, overwrite: bool = False, if_match: str | None = None
    ) -> StoredFile:
        """Restore the newest version of a deleted file with its metadata, or the given version of a file.

        Replaces an existing file only with a version and `overwrite`, or the file's quoted ETag as
        `if_match`. Raises `FileNotFound`, `FileNotDeleted`, `FileChanged`, `VersioningOff`, `Conflict`.
        """

    def list_versions(self, prefix: str, limit: int, token: str | None) -> VersionPage:
        """Up to `limit` versions and markers of files whose names begin with `prefix`.

        Raises `VersioningOff` if the bucket has never kept versions.
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
        """Sign a URL of the file, for this method only. Does not check whether the file exists.

        The answer has this Content-Disposition, and this Content-Type or, if None, the stored one.
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
        up_to: bool = False,
    ) -> SignedPost:
        """Sign a form that stores exactly `size` bytes and, if given, only with this SHA-256 (hex).

        With `up_to`, the form also stores fewer bytes.
        """

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
        """Sign a PUT that stores exactly `size` bytes and, if given, only with this SHA-256 (hex)."""

    def start_parts(
        self,
        name: str,
        content_type: str,
        sha256: str | None,
        nonce: str,
        *,
        kept: Mapping[str, str] = NOTHING,
    ) -> StartedUpload:
        """Open a multipart upload. Its file keeps the nonce, and the SHA-256 as declared but not checked."""

    def sign_parts(self, plan: PartPlan, numbers: Sequence[int], seconds: int) -> Sequence[SignedUrl]:
        """Sign a PUT for each part, for exactly the part's size. Raises `InvalidParts`."""

    def put_part(self, plan: PartPlan, number: int, body: Body) -> Part:
        """Store the part completely or not at all. `body` has the size that the plan gives the part.

        An existing part of this number is replaced. Raises the failures of the body, and `UploadNotFound`.
        """

    def list_parts(self, plan: PartPlan, *, after: int = 0) -> Sequence[Part]:
        """The parts with a number above `after` that the store has received. Raises `UploadNotFound`."""

    def complete_parts(
        self,
        plan: PartPlan,
        parts: Sequence[Part],
        *,
        create_only: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Complete the upload and return the ETag of its file. The conditions are those of `put`.

        Raises `UploadNotFound`, `InvalidParts`, `FileExists`, `FileChanged`.
        """

    def abort_parts(self, plan: PartPlan) -> bool:
        """Abort the upload. Returns whether the store still had it."""


def copy_mark(source: str, etag: str, copied_headers: Mapping[str, str]) -> str:
    """Identifies the copies of one state of a file. It is stored with each copy (`OpenFile.copy_of`).

    An ETag alone is not enough: the same bytes can be stored again with another content type.
    """
    state = json.dumps([source, etag, sorted(copied_headers.items())])
    return hashlib.sha256(state.encode()).hexdigest()


def part_size_for(size: int, least: int = MIN_PART_BYTES) -> int:
    """The smallest part size in whole MiB, and of at least `least` bytes, that needs at most 10,000 parts."""
    return max(least, -(-size // (MAX_PARTS * MiB)) * MiB)
