"""Local files to upload: how arguments select them, and how they are read."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import IO, Literal, Protocol

from s3api.client.api import BLOCK, NOT_FOUND, Failure
from s3api.client.transfer import Count, local_failure

# --- selecting files


class Reporter(Protocol):
    """Receives the failure of each file that is not uploaded."""

    def failed(self, failure: Failure) -> None: ...


@dataclass(frozen=True)
class Source:
    """A local file, and the name to store it under."""

    path: Path
    name: str


def sources(reporter: Reporter, arguments: Iterable[str], prefix: str) -> Iterator[Source]:
    """The files that the arguments select: files, folders, globs. No name occurs twice."""
    taken: dict[str, Path] = {}
    for source in _found(reporter, arguments):
        name = prefix + source.name
        first = taken.setdefault(name, source.path)
        if first is source.path:
            yield Source(source.path, name)
        elif not _same(first, source.path):
            message = f"{source.path} would be stored as '{name}', as {first} is; it was not uploaded"
            reporter.failed(Failure("name_taken", message))


def _found(reporter: Reporter, arguments: Iterable[str]) -> Iterator[Source]:
    for argument in arguments:
        told = _Told(reporter)
        empty = True
        for source in _of(told, argument):
            empty = False
            yield source
        if empty and not told.failures:
            told.failed(Failure("local_file_not_found", f"{argument}: there is no file in it", NOT_FOUND))


@dataclass
class _Told:
    """Counts the failures of one argument, so that none is dropped without a message."""

    reporter: Reporter
    failures: int = 0

    def failed(self, failure: Failure) -> None:
        self.failures += 1
        self.reporter.failed(failure)


def _of(reporter: Reporter, argument: str) -> Iterator[Source]:
    path = Path(argument)
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        if glob.has_magic(argument) and (matches := _glob(reporter, path)):
            yield from _matched(reporter, path, matches)
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR) or path.is_symlink():
            reporter.failed(_skipped(path, error))
        else:
            reporter.failed(Failure("local_file_not_found", f"{argument}: no such file", NOT_FOUND))
        return
    if kind == stat.S_IFDIR:
        own = Path(os.path.normpath(path)).name  # "." and "/" have no name
        yield from _inside(reporter, path, "" if own in ("", "..") else f"{own}/")
    elif kind == stat.S_IFREG:
        yield Source(path, path.name)
    else:
        problem = f"skipped {argument}: not a regular file; pipe it to `s3api upload - --name NAME`"
        reporter.failed(Failure("not_a_file", problem))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them has been deleted
        return False


def _skipped(path: Path, error: OSError) -> Failure:
    """The reason why a path is not uploaded."""
    if error.errno == errno.ENOENT:
        return Failure("not_a_file", f"skipped {path}: a symbolic link to nothing")
    return Failure("local_file_error", f"skipped {path}: {error.strerror}")


def _fixed(pattern: Path) -> Path:
    """The part of the pattern before the first wildcard."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))


def _glob(reporter: Reporter, pattern: Path) -> list[Path]:
    """The matches of the pattern. A folder that cannot be searched is a failure; `glob` ignores it."""
    fixed = _fixed(pattern)
    for parent in pattern.parents:
        if not parent.is_relative_to(fixed):
            break
        for found in glob.glob(str(parent), recursive=True):  # noqa: PTH207 - of any path, absolute or not
            if _kind(Path(found)) == stat.S_IFDIR and not os.access(found, os.R_OK | os.X_OK):
                reporter.failed(Failure("local_file_error", f"skipped {found}: the folder cannot be read"))
    return [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207 - as above


def _matched(reporter: Reporter, pattern: Path, matches: Iterable[Path]) -> Iterator[Source]:
    fixed = _fixed(pattern)
    for match in matches:
        relative = match.relative_to(fixed).as_posix()
        if _kind(match) == stat.S_IFDIR:
            if "**" not in pattern.parts:  # glob itself finds the files inside
                yield from _inside(reporter, match, f"{relative}/")
        elif _is_regular(reporter, match):
            yield Source(match, relative)


def _inside(reporter: Reporter, folder: Path, prefix: str) -> Iterator[Source]:
    def unreadable(error: OSError) -> None:
        reporter.failed(Failure("local_file_error", f"{error.filename}: {error.strerror}"))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        for entry in sorted([*files, *(one for one in folders if _kind(Path(root, one)) == stat.S_IFLNK)]):
            path = Path(root, entry)
            if _is_regular(reporter, path):
                yield Source(path, prefix + path.relative_to(folder).as_posix())


def _kind(path: Path) -> int | None:
    """The type of the file, or of the symbolic link itself; None if it cannot be found out."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except OSError:
        return None


def _is_regular(reporter: Reporter, path: Path) -> bool:
    """Whether a path in a folder is uploaded. A link could lead anywhere, and a pipe may never end."""
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind == stat.S_IFLNK:
            path.stat()
    except OSError as error:
        reporter.failed(_skipped(path, error))
        return False
    if kind == stat.S_IFREG:
        return True
    problem = "a symbolic link" if kind == stat.S_IFLNK else "not a regular file"
    reporter.failed(Failure("not_a_file", f"skipped {path}: {problem}"))
    return False


# --- reading


@dataclass
class LocalFile:
    """An open file that several threads read. `size` is its size in bytes when it was opened."""

    stream: IO[bytes]
    path: Path
    size: int = field(init=False)
    _modified: int = field(init=False)

    def __post_init__(self) -> None:
        state = os.fstat(self.stream.fileno())
        self.size, self._modified = state.st_size, state.st_mtime_ns

    def size_is_known(self) -> bool:
        """Whether the size is the number of bytes. Files of /proc and /sys have other sizes."""
        descriptor = self.stream.fileno()
        try:
            ends = not os.pread(descriptor, 1, self.size)
            return (
                ends and (not self.size or bool(os.pread(descriptor, 1, self.size - 1)))
            ) or self._has_changed()
        except OSError as error:
            if error.errno == errno.ESPIPE:
                return False
            raise

    def read(self, amount: int, offset: int) -> bytes:
        """Raises `Failure` if the file has become shorter, or cannot be read."""
        try:
            data = os.pread(self.stream.fileno(), amount, offset)
        except OSError as error:  # an error of the file, not of the connection
            raise local_failure(error, self.path) from error
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
        """Raises `Failure` if the file was written to while it was sent."""
        if self._has_changed():
            raise self._changed()

    def _has_changed(self) -> bool:
        state = os.fstat(self.stream.fileno())
        return (state.st_size, state.st_mtime_ns) != (self.size, self._modified)

    def _changed(self) -> Failure:
        return Failure("file_changed", f"{self.path} changed while it was sent; upload it again")


class Piece:
    """A range of a file, as a body for urllib3."""

    def __init__(self, local: LocalFile, offset: int, size: int, count: Count) -> None:
        self.sent = 0
        self._local = local
        self._offset = offset
        self._size = size
        self._count = count

    def read(self, amount: int) -> bytes:
        data = self._local.read(min(amount, self._size - self.sent), self._offset + self.sent)
        if self.sent + len(data) == self._size:
            self._local.check_unchanged()  # before the last bytes: a changed file is not stored
        self._count(len(data))
        self.sent += len(data)
        return data


class Stream:
    """A stream as a body, hashed while it is read; `path` is for messages."""

    def __init__(self, stream: IO[bytes], path: Path, count: Count) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._stream = stream
        self._path = path
        self._count = count

    def read(self, amount: int) -> bytes:
        try:
            data = self._stream.read(amount)
        except OSError as error:  # an error of the stream, not of the connection
            raise local_failure(error, self._path) from error
        self._count(len(data))
        self.size += len(data)
        self.sha256.update(data)
        return data
