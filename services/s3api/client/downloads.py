"""Downloads: resumed, checked, and written without replacing a file by accident."""

from __future__ import annotations

import base64
import fcntl
import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import urllib3

from s3api.client.api import BLOCK, EXISTS, UNREACHABLE, Failure
from s3api.client.transfer import (
    Count,
    S3OutOfReach,
    Transfer,
    Transferred,
    Verified,
    Way,
    etag_of,
    etag_of_parts,
    is_md5,
    local_failure,
    not_verified,
)
from s3api.private import NotPrivate, open_private

_UMASK = os.umask(0o077)  # reading the umask means setting it; no other thread runs yet
os.umask(_UMASK)
#: The name of a .part file. No file may be stored under one: another download removes old ones when it ends.
_PART = re.compile(r".*\.[0-9a-f]{16}\.part", re.DOTALL)


class Downloads(Transfer):
    """Downloads files, several at once."""

    def download(self, name: str, target: Path, *, force: bool = False) -> Transferred:
        """Download the file. The target appears when it is complete, and replaces a file only with `force`.

        Raises `Failure`.
        """
        try:
            with self._slots:
                return self._download(name, target, force=force)
        except OSError as error:
            raise local_failure(error, target) from error
        finally:
            self._meter.end(name)

    def download_to(self, name: str, sink: IO[bytes]) -> Transferred:
        """Write the file to the sink. After a broken connection, continue at the next byte."""
        try:
            first, facts = self._api.retried(lambda: self._open(name))
            with first:
                hashes = facts.hashes()
                self._meter.begin(name, "receiving", facts.size)
                self._receive(first, facts, sink, hashes, 0)
                sink.flush()
            return facts.downloaded(hashes)
        finally:
            self._meter.end(name)

    def _download(self, name: str, target: Path, *, force: bool) -> Transferred:
        if os.path.lexists(target) and (target.is_symlink() or not target.is_file()):
            raise Failure("target_exists", f"{target} exists and is not a regular file", EXISTS)
        first, facts = self._api.retried(lambda: self._open(name))
        with first:
            if target.exists():
                if unchanged := self._unchanged(facts, target):
                    return unchanged
                if not force:
                    raise Failure(
                        "target_exists", f"{target} is there with other contents; --force replaces it", EXISTS
                    )
            make_folder(target.parent)
            path = facts.part_beside(target)
            with part_file(path) as part:
                have = part.seek(0, os.SEEK_END)
                if have > facts.size or not facts.etag:
                    have = part.truncate(0)
                hashes = facts.hashes()
                if have:
                    first.close()
                    self._meter.begin(name, "comparing", facts.size)
                    part.seek(0)
                    hashes.read(part, self._counter(name))
                part.seek(have)
                self._meter.begin(name, "receiving", facts.size, have)
                self._receive(None if have else first, facts, part, hashes, have)
                part.flush()
                try:
                    done = facts.downloaded(hashes, resumed=have, path=str(target))
                except Failure:
                    path.unlink()
                    raise
                publish(part, path, target)
        for stale in target.parent.glob(f"{glob.escape(stem(target))}.{'[0-9a-f]' * 16}.part"):
            stale.unlink(missing_ok=True)  # an earlier version of the same file
        return done

    def _unchanged(self, facts: Facts, target: Path) -> Transferred | None:
        """The result when the target already has the same contents; None when it has not."""
        if target.stat().st_size != facts.size:
            return None
        self._meter.begin(facts.name, "comparing", facts.size)
        hashes = facts.hashes()
        with target.open("rb") as stream:
            hashes.read(stream, self._counter(facts.name))
        with suppress(Failure):
            found = facts.downloaded(hashes, path=str(target), outcome="unchanged")
            return found if found.verified else None
        return None

    def _open(self, name: str, start: int = 0, etag: str = "") -> tuple[urllib3.BaseHTTPResponse, Facts]:
        """The file from byte `start` on, if it still has this ETag."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Match": etag}
        response = None
        via: Way = "s3"
        if self._via != "service":
            url = self._api.call("GET", "/download/", name)["content"]
            with suppress(S3OutOfReach), self._falling_back():
                response = self._api.open("GET", url, headers=headers, to_s3=True)
        if response is None:
            via = "service"
            response = self._api.open("GET", self._api.at("/files/", name), headers=headers)
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            response.close()
            raise Failure("no_ranges", f"'{name}' cannot be resumed: its server sends no ranges")
        return response, Facts.of(name, response, via)

    def _receive(
        self,
        first: urllib3.BaseHTTPResponse | None,
        facts: Facts,
        sink: IO[bytes],
        hashes: Hashes,
        done: int,
    ) -> None:
        """Write the rest of the file from byte `done` on; `first` is the answer that begins there, if any.

        Fails after as many failures as there are retries, if no byte has arrived between them.
        """
        failures = 0
        while done < facts.size:
            try:
                response = first or self._open(facts.name, done, facts.etag)[0]
                first = None
                with response:
                    for data in self._api.blocks(response):
                        sink.write(data)
                        hashes.update(data)
                        self._meter.advance(facts.name, len(data))
                        done += len(data)
                        failures = 0
                _check_whole(done, facts)
            except Failure as failure:
                if failure.http_status == 412:
                    raise Failure(
                        "file_changed", f"'{facts.name}' changed while it came; download it again"
                    ) from failure
                if not failure.passing or failures >= self._api.retries:
                    raise
                self._api.pause(failures, failure)
                failures += 1


# --- the description of a file


@dataclass(frozen=True)
class Facts:
    """What the headers of an answer say: `etag` as it is there, `sha256` as the uploader declared it.

    `md5` is the ETag where that is the MD5 of the whole file, or of its only part.
    """

    name: str
    size: int
    etag: str
    sha256: str | None
    md5: str | None
    via: Way

    @classmethod
    def of(cls, name: str, response: urllib3.BaseHTTPResponse, via: Way) -> Facts:
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Failure("not_the_api", f"The answer does not tell the size of '{name}'", UNREACHABLE)
        # The declared digest may be unchecked; here it is compared with the bytes.
        declared = ("x-amz-meta-sha256", "x-amz-meta-declared-sha256", "X-Declared-SHA-256")
        sha256 = next((response.headers[name] for name in declared if name in response.headers), None)
        if found := re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", response.headers.get("Repr-Digest", "")):
            sha256 = base64.b64decode(found[1]).hex()
        if not re.fullmatch("[0-9a-f]{64}", sha256 or ""):
            sha256 = None
        etag, comparable = etag_of(response)
        if etag.endswith("-1"):
            comparable = is_md5(response, etag.removesuffix("-1"))
        md5 = etag if comparable else None
        return cls(name, int(length), response.headers.get("ETag", ""), sha256, md5, via)

    def hashes(self) -> Hashes:
        return Hashes(md5=self.sha256 is None and self.md5 is not None)

    def downloaded(
        self,
        hashes: Hashes,
        *,
        resumed: int = 0,
        path: str | None = None,
        outcome: Literal["downloaded", "unchanged"] = "downloaded",
    ) -> Transferred:
        """The result. Raises `Failure` when the bytes match neither the declared digest nor the ETag."""
        sha256 = hashes.sha256.hexdigest()
        verified: Verified = None
        wrong = hashes.size != self.size
        if self.sha256:
            verified, wrong = "sha256", wrong or sha256 != self.sha256
        elif hashes.md5 and self.md5 in (hashes.md5.hexdigest(), etag_of_parts([hashes.md5.digest()])):
            verified = "md5"
        elif hashes.md5 and self.via == "s3":  # the service does not say how S3 has encrypted the file
            wrong = True
        if wrong:
            raise not_verified(
                f"What came of '{self.name}' is not what was stored, or not what its sender declared; "
                "nothing was kept"
            )
        etag = self.etag.strip('"')
        return Transferred(self.name, outcome, self.size, sha256, etag, self.via, verified, resumed, path)

    def part_beside(self, target: Path) -> Path:
        """The .part file of an unfinished download. Each version of a file has its own."""
        key = hashlib.sha256(f"{self.name}\0{self.etag}".encode()).hexdigest()
        return target.with_name(f"{stem(target)}.{key[:16]}.part")


class Hashes:
    """The SHA-256 and length of the bytes that pass, and their MD5 where there is no SHA-256 to compare."""

    def __init__(self, *, md5: bool) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, data: bytes) -> None:
        self.size += len(data)
        self.sha256.update(data)
        if self.md5:
            self.md5.update(data)

    def read(self, stream: IO[bytes], count: Count) -> None:
        """The rest of the stream."""
        while data := stream.read(BLOCK):
            self.update(data)
            count(len(data))


def _check_whole(done: int, facts: Facts) -> None:
    if done < facts.size:
        message = f"'{facts.name}' ended after {done} of {facts.size} bytes"
        raise Failure("interrupted", message, UNREACHABLE, passing=True)


# --- local files


def is_kind(path: Path, *kinds: int) -> bool:
    """Whether the path leads to a file of one of these types. Raises `Failure` if that is not known."""
    try:
        return stat.S_IFMT(path.stat().st_mode) in kinds
    except FileNotFoundError:
        return False
    except OSError as error:
        raise local_failure(error, path) from error


def folder_of(name: str, size: int, folder: Path, relative: str) -> Path:
    """The folder of a folder marker: an empty object whose name ends in a slash.

    Raises `Failure` if the folder would be outside, or if the object is not empty.
    """
    if size:
        raise Failure(
            "unsafe_name", f"'{name}' has {size:,} bytes, and the name of a folder; use --to - to read it"
        )
    path = below(folder, relative) if relative else folder
    if relative and path.is_symlink():
        raise Failure("unsafe_name", f"{path} is a symbolic link; no folder was made")
    return path


def make_folder(path: Path) -> None:
    """Make a folder, with those above it. Raises `Failure`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        above = (*reversed(path.parents), path)
        file = next((one for one in above if os.path.lexists(one) and not one.is_dir()), path)
        raise Failure("target_exists", f"{file} is there and is not a folder", EXISTS) from error
    except OSError as error:
        raise local_failure(error, path) from error


def below(folder: Path, relative: str) -> Path:
    """The path of a name below the folder. Raises `Failure` if it would be outside, or is not valid here."""
    segments = relative.split("/")
    if not all(segments) or any(segment in (".", "..") or "\0" in segment for segment in segments):
        raise Failure("unsafe_name", f"'{relative}' cannot be the path of a file here; use --to FILE")
    if _PART.fullmatch(segments[-1]):
        raise Failure("unsafe_name", f"'{relative}' is the name of an unfinished download; use --to FILE")
    path = folder.joinpath(*segments)
    try:
        inside = path.parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise Failure("local_file_error", f"{path}: {error}") from error
    if not inside:
        raise Failure(
            "unsafe_name", f"{path.parent} is a link that leads out of {folder}; nothing was written"
        )
    return path


def stem(target: Path) -> str:
    """The target's name, cut so that a suffix fits within the limit of file systems.

    A cut name ends in a hash, so that it is no other target's.
    """
    name = target.name.encode("utf-8", "surrogateescape")
    if len(name) <= 200:
        return name.decode("utf-8", "ignore")
    return f"{name[:183].decode('utf-8', 'ignore')}-{hashlib.sha256(name).hexdigest()[:16]}"


@contextmanager
def part_file(path: Path) -> Iterator[IO[bytes]]:
    """An unfinished download. One process at a time continues it, and no other user can open it."""
    try:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    except NotPrivate as error:
        raise Failure("local_file_error", f"{error}; remove it, or choose another folder by --to") from error
    with os.fdopen(descriptor, "r+b") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(
                os.fstat(descriptor), path.stat()
            )  # no other process has just finished it
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise Failure("under_way", f"Another download to {path} is under way")
        yield part


def publish(part: IO[bytes], path: Path, target: Path) -> None:
    """Give the finished file its name, and the mode of a new file of this user."""
    os.fchmod(part.fileno(), 0o666 & ~_UMASK)
    path.replace(target)
