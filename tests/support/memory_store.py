"""A `FileStore` in memory, for tests that need no S3. `test_store` holds it to the contract of S3."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote, urlencode

from s3api.bodies import Body
from s3api.failures import (
    FileChanged,
    FileError,
    FileExists,
    FileNotDeleted,
    FileNotFound,
    InvalidParts,
    RangeNotSatisfiable,
    UploadNotFound,
)
from s3api.file_store import (
    NOTHING,
    Conditions,
    Copied,
    FileVersion,
    NotModified,
    OpenFile,
    Page,
    Part,
    PartPlan,
    SignedPost,
    SignedPut,
    SignedUrl,
    StartedUpload,
    StoredFile,
    Upload,
    VersionPage,
    copy_mark,
)
from s3api.files import check_match


@dataclass
class _Object:
    file: StoredFile
    data: bytes
    content_type: str
    sha256: str | None = None
    declared_sha256: str | None = None
    nonce: str | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    copy_of: str | None = None

    def copied_headers(self) -> dict[str, str]:
        metadata = {"sha256": self.sha256, "declared": self.declared_sha256, "nonce": self.nonce}
        kept = {header.lower(): value for header, value in self.kept.items()}
        return {
            "content-type": self.content_type,
            **kept,
            **{key: one for key, one in metadata.items() if one},
        }


@dataclass
class _Upload:
    name: str
    content_type: str
    sha256: str | None
    nonce: str
    kept: Mapping[str, str] = field(default_factory=dict)
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class MemoryStore:
    """Keeps versions. While `fails_with` is set, every call raises it, as when S3 is down."""

    bucket: str = "day02-memory"
    endpoint: str = "memory://"
    fails_with: FileError | None = None
    objects: dict[str, _Object] = field(default_factory=dict)
    deleted: dict[str, _Object] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)
    #: By name, the newest last. A deletion has no object.
    history: dict[str, list[tuple[FileVersion, _Object | None]]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def _touch(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with

    def check(self) -> None:
        self._touch()

    def list_page(self, prefix: str, delimiter: str, limit: int, token: str | None) -> Page:
        self._touch()
        entries: list[tuple[bytes, StoredFile | str]] = []
        seen: set[str] = set()
        # S3 lists in the order of the UTF-8 bytes.
        for name in sorted(self.objects, key=str.encode):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                rolled = prefix + rest.partition(delimiter)[0] + delimiter
                if rolled not in seen:
                    seen.add(rolled)
                    entries.append((rolled.encode(), rolled))
            else:
                entries.append((name.encode(), self.objects[name].file))
        if token is not None:
            entries = [entry for entry in entries if entry[0] > bytes.fromhex(token)]
        page = entries[:limit]
        return Page(
            files=[entry for _, entry in page if isinstance(entry, StoredFile)],
            prefixes=[entry for _, entry in page if isinstance(entry, str)],
            next_token=page[-1][0].hex() if len(entries) > limit else None,
        )

    def _get(self, name: str) -> _Object:
        self._touch()
        if name not in self.objects:
            raise FileNotFound(f"The file '{name}' was not found on the bucket '{self.bucket}'")
        return self.objects[name]

    def stat(self, name: str) -> StoredFile:
        return self._get(name).file

    def missing(self, names: Sequence[str]) -> set[str]:
        self._touch()
        return {name for name in names if name not in self.objects}

    def open(self, name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
        stored = self._get(name)
        file, data = stored.file, stored.data
        modified = file.last_modified.replace(microsecond=0)
        quoted = f'"{file.etag}"'
        if conditions.if_match not in (None, "*", quoted):
            raise FileChanged("The file does not match")
        latest = conditions.if_unmodified_since
        if conditions.if_match is None and latest is not None and modified > latest:
            raise FileChanged("The file has been modified")
        if conditions.if_none_match is not None:
            if conditions.if_none_match in ("*", quoted):
                raise NotModified(details={"etag": quoted})
        elif conditions.if_modified_since is not None and modified <= conditions.if_modified_since:
            raise NotModified(details={"etag": quoted})
        content_range = None
        if conditions.byte_range is not None:
            first, _, last = conditions.byte_range.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, len(data) - int(last))
            end = min(len(data), int(last) + 1) if first and last else len(data)
            if start >= len(data) or start >= end:
                raise RangeNotSatisfiable("The range is outside the file")
            content_range = f"bytes {start}-{end - 1}/{len(data)}"
            data = data[start:end]
        return OpenFile(
            file,
            len(data),
            stored.content_type,
            content_range,
            iter([data]) if with_body else iter(()),
            stored.sha256,
            stored.declared_sha256,
            stored.nonce,
            stored.copy_of,
            dict(stored.kept),
            stored.copied_headers(),
        )

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
        self._touch()
        data = b"".join(_pieces(body))
        with self._lock:
            self._check(name, create_only=create_only, if_match=if_match)
            etag = self._store(name, data, content_type)
            self.objects[name].sha256 = body.sha256
            self.objects[name].kept = kept
        return Upload(name, len(data), etag, body.hexdigest())

    def _store(self, name: str, data: bytes, content_type: str, etag: str | None = None) -> str:
        etag = etag or hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.objects[name] = _Object(StoredFile(name, len(data), datetime.now(UTC), etag), data, content_type)
        self.deleted.pop(name, None)
        self._remember(name, self.objects[name])
        return etag

    def _remember(self, name: str, stored: _Object | None) -> None:
        past = self.history.setdefault(name, [])
        past[:] = [(replace(version, latest=False), one) for version, one in past]
        version = FileVersion(
            name=name,
            version=f"v{len(past) + 1}",
            last_modified=datetime.now(UTC),
            latest=True,
            deleted=stored is None,
            size=None if stored is None else stored.file.size,
            etag=None if stored is None else stored.file.etag,
        )
        past.append((version, stored))

    def _check(self, name: str, *, create_only: bool, if_match: str | None) -> None:
        there = self.objects.get(name)
        if create_only and there:
            raise FileExists(f"The file '{name}' already exists")
        check_match(name, there.file if there else None, if_match)

    def delete(self, name: str, if_match: str | None = None) -> None:
        self._touch()
        self._check(name, create_only=False, if_match=if_match)
        if name in self.objects:
            self.deleted[name] = self.objects.pop(name)
            self._remember(name, None)

    def delete_many(self, names: Sequence[str]) -> Mapping[str, str]:
        for name in names:
            self.delete(name)
        return {}

    def copy(
        self,
        source: str,
        destination: str,
        *,
        source_etag: str | None,
        create_only: bool,
        if_match: str | None,
    ) -> Copied:
        original = self._get(source)
        if source_etag not in (None, original.file.etag):
            raise FileChanged(f"The file '{source}' is not the one that was to be copied")
        with self._lock:
            self._check(destination, create_only=create_only, if_match=if_match)
            etag = self._store(destination, original.data, original.content_type)
            mark = copy_mark(source, original.file.etag, original.copied_headers())
            copied = replace(original, file=self.objects[destination].file, copy_of=mark)
            self.objects[destination] = copied
        return Copied(source, destination, len(original.data), etag, original.file.etag, mark)

    def list_versions(self, prefix: str, limit: int, token: str | None) -> VersionPage:
        self._touch()
        found = [
            version
            for name in sorted(self.history, key=str.encode)
            if name.startswith(prefix)
            for version, _ in reversed(self.history[name])
        ]
        start = int(token or 0)
        more = len(found) > start + limit
        return VersionPage(found[start : start + limit], str(start + limit) if more else None)

    def restore(
        self, name: str, version: str | None = None, *, overwrite: bool = False, if_match: str | None = None
    ) -> StoredFile:
        self._touch()
        if if_match is not None:
            self._check(name, create_only=False, if_match=if_match)
        elif name in self.objects and not overwrite:
            raise FileNotDeleted(f"The file '{name}' is not deleted; a version needs overwrite")
        old = self.deleted.get(name)
        if version is not None:
            past = self.history.get(name, [])
            old = next((one for of, one in past if of.version == version), None)
        if old is None:
            raise FileNotFound(f"The file '{name}' was not found")
        self._store(name, old.data, old.content_type)
        self.objects[name] = replace(old, file=self.objects[name].file)
        return self.stat(name)

    def sign_download(
        self,
        name: str,
        seconds: int,
        disposition: str,
        content_type: str | None = None,
        *,
        method: Literal["GET", "HEAD"] = "GET",
    ) -> SignedUrl:
        query = {"expires": seconds, "disposition": disposition, "method": method}
        if content_type is not None:
            query["type"] = content_type
        return SignedUrl(f"memory://{self.bucket}/{quote(name)}?{urlencode(query)}", _in(seconds))

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
        sizes = f"0-{size}" if up_to else str(size)
        fields = {"key": name, "Content-Type": content_type, "size": sizes, **kept}
        if sha256:
            fields["x-amz-checksum-sha256"] = sha256
        return SignedPost(f"memory://{self.bucket}", fields, _in(seconds))

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
        headers = {"Content-Type": content_type, "Content-Length": str(size), **kept}
        if sha256:
            headers["x-amz-checksum-sha256"] = sha256
        return SignedPut(f"memory://{self.bucket}/{quote(name)}", headers, _in(seconds))

    def start_parts(
        self,
        name: str,
        content_type: str,
        sha256: str | None,
        nonce: str,
        *,
        kept: Mapping[str, str] = NOTHING,
    ) -> StartedUpload:
        self._touch()
        upload_id = f"upload-{len(self.uploads)}"
        self.uploads[upload_id] = _Upload(name, content_type, sha256, nonce, kept)
        return StartedUpload(upload_id, md5_etags=True)

    def sign_parts(self, plan: PartPlan, numbers: Sequence[int], seconds: int) -> Sequence[SignedUrl]:
        return [
            SignedUrl(f"memory://{plan.upload_id}/{number}?size={plan.size_of(number)}", _in(seconds))
            for number in numbers
        ]

    def _parts(self, plan: PartPlan) -> dict[int, bytes]:
        self._touch()
        if plan.upload_id not in self.uploads:
            raise UploadNotFound("The upload was not found")
        return self.uploads[plan.upload_id].parts

    def put_part(self, plan: PartPlan, number: int, body: Body) -> Part:
        self._parts(plan)
        data = b"".join(_pieces(body))
        self._parts(plan)[number] = data
        return Part(number, hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data))

    def list_parts(self, plan: PartPlan, *, after: int = 0) -> Sequence[Part]:
        return [
            Part(number, hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data))
            for number, data in sorted(self._parts(plan).items())
            if number > after
        ]

    def complete_parts(
        self,
        plan: PartPlan,
        parts: Sequence[Part],
        *,
        create_only: bool = False,
        if_match: str | None = None,
    ) -> str:
        received = self._parts(plan)
        if any(part.number not in received for part in parts):
            raise InvalidParts("A part is missing")
        self._check(plan.name, create_only=create_only, if_match=if_match)
        upload = self.uploads.pop(plan.upload_id)
        data = b"".join(received[part.number] for part in parts)
        etag = f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}-{len(parts)}"
        self._store(upload.name, data, upload.content_type, etag)
        stored = self.objects[upload.name]
        stored.declared_sha256, stored.nonce = upload.sha256, upload.nonce
        stored.kept = upload.kept
        return etag

    def abort_parts(self, plan: PartPlan) -> bool:
        self._touch()
        return self.uploads.pop(plan.upload_id, None) is not None


def _pieces(body: Body) -> Iterator[bytes]:
    while data := body.read(64 * 1024):
        yield data


def _in(seconds: int) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
