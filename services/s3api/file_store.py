"""What a store of files must do (`FileStore`), and the values that it takes and returns.

The use cases own this interface. `s3_store` implements it for S3.
"""

from __future__ import annotations

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
MAX_BULK = 1000  # names in one request, as in S3's own
MAX_PARTS = 10_000
MIN_PART_BYTES = 8 * MiB
# S3 takes one PUT up to 5 GiB; anything above goes up in parts.
MAX_SINGLE_PUT_BYTES = 5 * 1024 * MiB
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


class NotModified(FileError):
    """Not a failure to the client: it has the file already. `opened` says which, where the service knows."""

    code = "not_modified"

    def __init__(self, opened: OpenFile | None = None, *, details: object = None) -> None:
        super().__init__("Not modified", details=details)
        self.opened = opened


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


def part_size_for(size: int) -> int:
    """The smallest part size, a whole number of MiB and at least 8, that needs no more than 10,000 parts."""
    return max(MIN_PART_BYTES, -(-size // (MAX_PARTS * MiB)) * MiB)
