"""The files of this machine that are uploaded: which ones are meant, and how they are read."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import IO, Literal, Protocol

from s3api.client.api import BLOCK, NOT_FOUND, Failure
from s3api.client.transfer import Count

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


# --- reading


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
