"""A folder, or a selection of files, as one ZIP, which is written while it is sent.

The standard library's `zipfile` writes to a sink that is emptied after every piece, so the memory does not
depend on the sizes of the files. Files are stored without compression: most large files are compressed
already, and compression would cost more time than everything else. `zipfile` itself uses the formats for
large files (ZIP64) and for names beyond ASCII where they are needed.

A reader must not take an incomplete archive for a complete one. A file that cannot be read is named in the
entry `_errors.txt`, and after the end of the ZIP an exception breaks the connection, so that HTTP clients
report an incomplete answer. A failure in the middle of a file ends the ZIP there. No program opens it,
because its table of contents is missing.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from os.path import commonprefix
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from s3api.failures import (
    FileError,
    FileNotFound,
    InvalidName,
    StoreFailed,
    StoreUnavailable,
    TooBusy,
    TooManyFiles,
)
from s3api.file_store import Conditions, FileStore, OpenFile
from s3api.names import check_name, is_name

#: `zipfile` keeps the table of contents in memory until the end, about 1 KB for each file.
MAX_FILES = 10_000
#: The number of archives that a process writes at the same time.
MAX_AT_ONCE = 8
#: How often the store is asked for a file, and the pause before each new attempt in seconds.
ATTEMPTS, PAUSE = 3, 0.5
#: Small entries are sent together, in pieces of about this size.
PIECE = 64 * 1024
ERRORS = "_errors.txt"
# ZIP can express no other times (APPNOTE.TXT 6.3.10, section 4.4.6).
_FIRST, _LAST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
# The slashes of a path that cannot separate two steps: at its beginning or end, or after another slash.
_NO_STEP = re.compile(r"^/|(?<=/)/|/$")

_WHOLE = Conditions()
_PAGE = 1000

_places = threading.BoundedSemaphore(MAX_AT_ONCE)


class Archive:
    """The ZIP, as an iterable of its bytes. It takes one of `MAX_AT_ONCE` places until it is closed."""

    def __init__(self, store: FileStore, prefix: str, names: Sequence[str]) -> None:
        """Find the files: those with the given `names`, or all that begin with `prefix` if none are given.

        Raises `FileNotFound` if there is no such file, or if one of `names` is missing; `TooManyFiles`;
        `TooBusy`.
        """
        if not _places.acquire(blocking=False):
            raise TooBusy(f"The service is writing {MAX_AT_ONCE} other archives; try again later")
        self._has_place = True
        try:
            self._store = store
            found = _selected(store, names) if names else _below(store, prefix)
            self._folder = folder_of(names or [prefix])
            # A name that the service does not take is never read, because it could lead elsewhere.
            self._entries = entry_names(filter(is_name, found), self._folder)
            self._failed = [_error_of(name) for name in itertools.filterfalse(is_name, found)]
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """A name for the archive: that of its folder, or of the bucket."""
        return f"{self._folder.rstrip('/').rpartition('/')[2] or self._store.bucket}.zip"

    def close(self) -> None:
        if self._has_place:
            self._has_place = False
            _places.release()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces()
        finally:
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        sink = _Sink()
        archive = ZipFile(sink, "w", ZIP_STORED)
        for name, entry in self._entries:
            try:
                opened = self._open(name)
            except StoreUnavailable:
                raise  # the other files could not be read either
            except FileError as error:
                self._failed.append(_line(name, error))
                continue
            info = _info(entry, opened.file.last_modified)
            info.file_size = opened.length  # decides whether the entry needs ZIP64
            with archive.open(info, "w") as file:
                for chunk in self._chunks(name, opened):
                    file.write(chunk)
                    if sink.size >= PIECE:
                        yield sink.take()
        if self._failed:
            archive.writestr(_info(self._free_name(ERRORS), datetime.now(UTC)), "".join(self._failed))
        archive.close()
        yield sink.take()
        if self._failed:
            raise StoreFailed(
                f"{len(self._failed)} files of the archive could not be read; its entry {ERRORS} names them"
            )

    def _open(self, name: str, conditions: Conditions = _WHOLE) -> OpenFile:
        for _ in range(ATTEMPTS - 1):
            try:
                return self._store.open(name, conditions, with_body=True)
            except StoreUnavailable:
                time.sleep(PAUSE)
        return self._store.open(name, conditions, with_body=True)

    def _chunks(self, name: str, opened: OpenFile) -> Iterator[bytes]:
        """The bytes of the file. If the connection to the store breaks, continue at the next byte."""
        done, chunks = 0, opened.chunks
        for attempt in itertools.count(1):
            try:
                for chunk in chunks:
                    done += len(chunk)
                    yield chunk
            except StoreUnavailable:
                if attempt == ATTEMPTS:
                    raise
            else:
                return
            rest = Conditions(byte_range=f"bytes={done}-", if_match=f'"{opened.file.etag}"')
            chunks = self._open(name, rest).chunks

    def _free_name(self, wanted: str) -> str:
        taken = {entry for _, entry in self._entries}
        return next(name for n in itertools.count() if (name := "_" * n + wanted) not in taken)


class _Sink:
    """What `zipfile` writes to: a file that cannot seek."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """`zipfile` asks for it; nothing is held back."""

    def close(self) -> None:
        """`zipfile` asks for it; there is nothing to close."""

    def take(self) -> bytes:
        """The bytes that were written since the last call."""
        data = b"".join(self._pieces)
        self.size = 0
        self._pieces.clear()
        return data


def _selected(store: FileStore, names: Sequence[str]) -> list[str]:
    wanted = list(dict.fromkeys(names))
    for name in sorted(store.missing(wanted)):
        raise FileNotFound(f"The file '{name}' was not found on the bucket '{store.bucket}'")
    return wanted


def _below(store: FileStore, prefix: str) -> list[str]:
    found: list[str] = []
    page = store.list_page(prefix, "", _PAGE, None)
    while True:
        # An empty file whose name ends with a slash represents a folder. The paths of its files imply it.
        found += [file.name for file in page.files if file.size or not file.name.endswith("/")]
        if len(found) > MAX_FILES:
            raise TooManyFiles(
                f"An archive has at most {MAX_FILES:,} files, and more begin with '{prefix}'; ask for "
                "one folder in it at a time"
            )
        if page.next_token is None:
            break
        page = store.list_page(prefix, "", _PAGE, page.next_token)
    if not found:
        raise FileNotFound(
            f"There is no file on the bucket '{store.bucket}' whose name begins with '{prefix}'"
        )
    return found


def folder_of(names: Sequence[str]) -> str:
    """The deepest folder that contains all of the names, with its slash at the end; "" if there is none."""
    common = commonprefix(names)  # noqa: RUF071 - cut after a slash
    return common[: common.rfind("/") + 1]


def entry_names(names: Iterable[str], folder: str) -> list[tuple[str, str]]:
    """Each file and its path in the archive: below the folder, and different from all other paths.

    A slash that cannot separate two steps of a path is written as `%2F`: S3 has names such as `a//b`, and can
    have both `a` and `a/b`, but no folder can contain them.
    """
    entries: list[tuple[str, str]] = []
    files: set[str] = set()
    folders: set[str] = set()
    for name in sorted(names):  # so `a` comes before `a/b`
        path = ""
        for step in (_NO_STEP.sub("%2F", name[len(folder) :]) or "%2F").split("/"):
            if not path:
                path = step
            elif path in files:
                path += f"%2F{step}"
            else:
                folders.add(path)
                path += f"/{step}"
        tries = itertools.chain([path], (f"{path}~{number}" for number in itertools.count(2)))
        entry = next(one for one in tries if one not in files and one not in folders)
        files.add(entry)
        entries.append((name, entry))
    return entries


def _info(entry: str, modified: datetime) -> ZipInfo:
    moment = modified.astimezone(UTC).timetuple()[:6]
    info = ZipInfo(entry, min(max(moment, _FIRST), _LAST))
    info.external_attr = 0o644 << 16
    return info


def _error_of(name: str) -> str:
    try:
        check_name(name)
    except InvalidName as error:
        return _line(name, error)
    raise AssertionError(name)


def _line(name: str, error: FileError) -> str:
    """A line of `_errors.txt`. A name can contain line breaks, so it is written as JSON."""
    return f"{json.dumps(name, ensure_ascii=False)}: {error.message} ({error.code})\n"
