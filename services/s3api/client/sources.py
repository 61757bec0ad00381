"""The files of this machine: which ones are meant, how they are read and written, what is noted of them.

Nothing here speaks HTTP.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from s3api.client.api import BLOCK, NOT_FOUND, Failure
from s3api.private import NotPrivate, check_folder, make_folder, open_private

Count = Callable[[int], None]

_UMASK = os.umask(0o077)  # it can only be read by setting it, which here no other thread notices
os.umask(_UMASK)

JOURNAL_SECONDS = 7 * 24 * 3600  # as long as the service takes an upload id


# --- which files


class Reporter(Protocol):
    """Who is told of what cannot be uploaded, and of what was passed over."""

    def failed(self, failure: Failure) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Source:
    """A local file, and the name to store it under."""

    path: Path
    name: str


def sources(reporter: Reporter, arguments: Iterable[str], prefix: str) -> Iterator[Source]:
    """The files that the arguments stand for: files, folders, globs. No name comes twice."""
    taken: dict[str, Path] = {}
    for source in _found(reporter, arguments):
        name = prefix + source.name
        first = taken.setdefault(name, source.path)
        if first is source.path:
            yield Source(source.path, name)
        elif not first.samefile(source.path):
            message = f"{source.path} would be stored as '{name}', as {first} is; it was not uploaded"
            reporter.failed(Failure("name_taken", message))


def _found(reporter: Reporter, arguments: Iterable[str]) -> Iterator[Source]:
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            own = Path(os.path.normpath(path)).name  # none for . and /
            yield from _inside(reporter, path, "" if own in ("", "..") else f"{own}/")
        elif path.is_file():
            yield Source(path, path.name)
        elif path.exists():
            problem = f"{argument} is no plain file; pipe it in, as standard input"
            reporter.failed(Failure("not_a_file", problem))
        elif matches := sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207 - of any path, absolute or not
            yield from _matched(reporter, path, [Path(match) for match in matches])
        else:
            problem = "a link to nothing" if path.is_symlink() else "no such file"
            reporter.failed(Failure("local_file_not_found", f"{argument}: {problem}", NOT_FOUND))


def _matched(reporter: Reporter, pattern: Path, matches: Iterable[Path]) -> Iterator[Source]:
    fixed = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    for match in matches:
        relative = match.relative_to(fixed).as_posix()
        if match.is_dir() and not match.is_symlink():
            if "**" not in pattern.parts:  # which finds by itself what is inside
                yield from _inside(reporter, match, f"{relative}/")
        elif _is_plain(reporter, match):
            yield Source(match, relative)


def _inside(reporter: Reporter, folder: Path, prefix: str) -> Iterator[Source]:
    def unreadable(error: OSError) -> None:
        reporter.failed(Failure("local_file_error", f"{error.filename}: {error.strerror}"))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        for entry in sorted([*files, *(one for one in folders if Path(root, one).is_symlink())]):
            path = Path(root, entry)
            if _is_plain(reporter, path):
                yield Source(path, prefix + path.relative_to(folder).as_posix())


def _is_plain(reporter: Reporter, path: Path) -> bool:
    """Whether it is a file of its own: a link could lead anywhere, a pipe could never end."""
    plain = path.is_file() and not path.is_symlink()
    if not plain:
        reporter.note(f"passed over {path}: {'a symbolic link' if path.is_symlink() else 'no plain file'}")
    return plain


def below(folder: Path, relative: str) -> Path:
    """The path of a name below the folder. Raises `Failure` where it would be elsewhere, or cannot be."""
    segments = relative.split("/")
    if not all(segments) or any(segment in (".", "..") or "\0" in segment for segment in segments):
        raise Failure("unsafe_name", f"'{relative}' cannot be the path of a file here; use --to FILE")
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


# --- reading


class Hashes:
    """The SHA-256 of what passes, its length, and its MD5 where that is all there is to compare with."""

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
        """All that is left of the stream."""
        while data := stream.read(BLOCK):
            self.update(data)
            count(len(data))


@dataclass
class LocalFile:
    """An open file, read from several threads at once. `size` in bytes, when it was opened."""

    stream: IO[bytes]
    path: Path
    size: int = field(init=False)
    _modified: int = field(init=False)

    def __post_init__(self) -> None:
        state = os.fstat(self.stream.fileno())
        self.size, self._modified = state.st_size, state.st_mtime_ns

    def read(self, amount: int, offset: int) -> bytes:
        """Raises `Failure` where the file has become shorter."""
        data = os.pread(self.stream.fileno(), amount, offset)
        if amount and not data:
            raise self._changed()
        return data

    def digest(
        self, algorithm: Literal["sha256", "md5"], offset: int, size: int, count: Count | None = None
    ) -> bytes:
        hashed = hashlib.new(algorithm, usedforsecurity=False)
        end = offset + size
        while offset < end:
            data = self.read(min(BLOCK, end - offset), offset)
            hashed.update(data)
            offset += len(data)
            if count:
                count(len(data))
        return hashed.digest()

    def check_unchanged(self) -> None:
        """Raises `Failure` when the file was written to while it was sent."""
        state = os.fstat(self.stream.fileno())
        if (state.st_size, state.st_mtime_ns) != (self.size, self._modified):
            raise self._changed()

    def _changed(self) -> Failure:
        return Failure("file_changed", f"{self.path} changed while it was sent; upload it again")


class Piece:
    """Bytes of a file on their way out, as urllib3 reads a body."""

    def __init__(self, local: LocalFile, offset: int, size: int, count: Count) -> None:
        self.sent = 0
        self._local = local
        self._offset = offset
        self._size = size
        self._count = count

    def read(self, amount: int) -> bytes:
        data = self._local.read(min(amount, self._size - self.sent), self._offset + self.sent)
        self._count(len(data))
        self.sent += len(data)
        return data


class Stream:
    """A stream on its way out, hashed as it passes."""

    def __init__(self, stream: IO[bytes], count: Count) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._stream = stream
        self._count = count

    def read(self, amount: int) -> bytes:
        data = self._stream.read(amount)
        self._count(len(data))
        self.size += len(data)
        self.sha256.update(data)
        return data


class Chained:
    """Several bodies, one after the other."""

    def __init__(self, *bodies: Any) -> None:
        self._bodies = list(bodies)

    def read(self, amount: int) -> bytes:
        while self._bodies:
            if data := self._bodies[0].read(amount):
                return bytes(data)
            del self._bodies[0]
        return b""


def form(fields: Mapping[str, str]) -> tuple[str, bytes, bytes]:
    """The content type of a form, and what stands before and after the file in it."""
    boundary = secrets.token_hex(16)
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
    return f"multipart/form-data; boundary={boundary}", head.encode(), f"\r\n--{boundary}--\r\n".encode()


@dataclass(frozen=True)
class Unfinished:
    """An upload in parts that has begun: what was sent where, and the id that the service knows it by."""

    url: str
    name: str
    size: int
    sha256: str
    id: str
    part_size: int

    @property
    def numbers(self) -> range:
        return range(1, max(1, -(-self.size // self.part_size)) + 1)

    def range_of(self, number: int) -> tuple[int, int]:
        """Where the part begins, and its size."""
        offset = (number - 1) * self.part_size
        return offset, min(self.part_size, self.size - offset)


class Journal:
    """The ids of unfinished uploads, one small file each, so that the next run finds them; nothing else.

    Which parts are there, and whether they are right, S3 is asked. Where the folder cannot be written,
    uploads work, and begin anew after an interruption.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, url: str, name: str, path: Path) -> Unfinished | None:
        """What was begun from this file for this name; None where nothing, or nothing legible, is noted."""
        try:
            noted = open_private(self._path(url, name, path), os.O_RDONLY)
            with os.fdopen(noted, encoding="utf-8") as stream:
                saved = Unfinished(**json.load(stream))
        except (OSError, ValueError, TypeError):
            return None
        return saved if saved.part_size > 0 else None

    def write(self, unfinished: Unfinished, path: Path) -> None:
        """Kept when this returns, even if the machine stops then."""
        with suppress(OSError):
            self._prepare()
            final = self._path(unfinished.url, unfinished.name, path)
            new = final.with_suffix(f".{secrets.token_hex(4)}.new")
            with os.fdopen(open_private(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as stream:
                json.dump(asdict(unfinished), stream)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(final)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._forget_the_expired()

    def remove(self, unfinished: Unfinished, path: Path) -> None:
        with suppress(OSError):
            self._path(unfinished.url, unfinished.name, path).unlink()

    def _path(self, url: str, name: str, path: Path) -> Path:
        key = "\0".join((url, name, str(path.resolve()))).encode("utf-8", "surrogateescape")
        return self._folder / f"{hashlib.sha256(key).hexdigest()[:32]}.json"

    def _prepare(self) -> None:
        """Have the folder, open to this user only, also where an older version made it otherwise."""
        make_folder(self._folder)
        check_folder(self._folder)
        self._folder.chmod(0o700)

    def _forget_the_expired(self) -> None:
        for old in self._folder.iterdir():
            if old.stat().st_mtime < time.time() - JOURNAL_SECONDS:
                old.unlink(missing_ok=True)


# --- writing


def stem(target: Path) -> str:
    """Of the target's name as much as leaves room for more, within what file systems take."""
    return target.name.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")


@contextmanager
def part_file(path: Path) -> Iterator[IO[bytes]]:
    """An unfinished download, which one process at a time may go on with, and no other user may open."""
    try:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    except NotPrivate as error:
        raise Failure("local_file_error", f"{error}; remove it, or choose another folder by --to") from error
    with os.fdopen(descriptor, "r+b") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(descriptor), path.stat())  # no other has just finished it
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise Failure("under_way", f"Another download to {path} is under way")
        yield part


def publish(part: IO[bytes], path: Path, target: Path) -> None:
    """Give the finished file its name, and the mode that a new file of this user has."""
    os.fchmod(part.fileno(), 0o666 & ~_UMASK)
    path.replace(target)
