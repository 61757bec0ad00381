"""The staging directory: where the files of a form wait on disk until they are in S3.

All processes of the service share it, and keep their accounts in the directory itself. Each request has a
folder of its own, which is locked while the request lives. The size of a sparse file in the folder is what
the request has reserved, and the folder's name begins with digits that its caller's requests share. The
budget is charged as bytes arrive, not as they are announced, and one caller cannot use all of it.

The kernel frees the lock of a process that dies, however it dies. `sweep` removes the folders that no process
has locked. It touches nothing else: STAGING_DIR may be a directory with other things in it.

Waits for the disk or for a lock happen on a separate thread (`waiting.on_disk`).

Other users of the machine cannot interfere: folders are 0700, files 0600, and the lock that all requests
take is on a file that only this user can open. The service ignores what other users put into the directory.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from s3api.bodies import too_large
from s3api.failures import FormTooLarge, StagingFailed, StagingFull
from s3api.private import is_own_folder, lock_folder, lock_path, make_folder, open_private
from s3api.waiting import on_disk

STEP = 1024 * 1024  # a form reserves this much at a time
_PREFIX = "s3api-staged-"
_OWN = re.compile(rf"^{_PREFIX}[0-9a-f]{{32}}$")
_CALLER_DIGITS = 16
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _File:
    """A file on disk that is open only while it is in use: a form may have a hundred files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = os.fdopen(open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), "w+b")

    def _open(self) -> IO[bytes]:
        if self._file.closed:
            self._file = os.fdopen(open_private(self._path, os.O_RDWR), "r+b")
        return self._file

    def write(self, data: bytes) -> int:
        return self._open().write(data)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int) -> int:
        return on_disk(lambda: self._open().seek(offset))

    def read(self, amount: int = -1) -> bytes:
        """Raises `StagingFailed`, so that an error of the disk is not taken for one of the client."""
        try:
            return on_disk(lambda: self._open().read(amount))
        except OSError as error:
            raise StagingFailed("The service cannot read the file that it has staged") from error

    def close(self) -> None:
        """Close the file; the next use opens it again, at its beginning."""
        self._file.close()


class StagedFile:
    """One file of a form: written to disk, counted and hashed as it arrives, removed with its folder."""

    def __init__(self, folder: StagingFolder, path: Path) -> None:
        self._folder = folder
        self._hash = hashlib.sha256()
        self.stream: Any = _File(path)
        self.size = 0

    def write(self, data: bytes) -> int:
        """Raises `FileTooLarge` above the limit of a file, `StagingFull` when disk or budget are full."""
        self.size += len(data)
        if self.size > self._folder.max_file_bytes:
            raise too_large(self._folder.max_file_bytes)
        self._folder.grow(len(data))
        with _disk_full_is_staging_full():
            return on_disk(self._store, data)

    def _store(self, data: bytes) -> int:
        self._hash.update(data)
        written: int = self.stream.write(data)
        return written

    def seek(self, offset: int) -> int:
        with _disk_full_is_staging_full():
            position: int = self.stream.seek(offset)
            return position

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Write what is buffered, and close the file until it is read."""
        with _disk_full_is_staging_full():
            on_disk(self.stream.close)

    def close(self) -> None:
        with suppress(OSError):  # a full disk may refuse the last buffer, but the file will be removed anyway
            self.stream.close()


class StagingFolder:
    """The folder of one request; made and removed by `Staging.folder`."""

    def __init__(self, staging: Staging, path: Path, max_file_bytes: int, *, shares: bool) -> None:
        self._staging = staging
        self._shares = shares
        self._path = path
        self._reserved = 0
        self._used = 0
        self._files: list[StagedFile] = []
        self.max_file_bytes = max_file_bytes

    def new_file(self) -> StagedFile:
        if self._files:
            self._files[-1].finish()
        with _disk_full_is_staging_full():
            staged = on_disk(StagedFile, self, self._path / f"{len(self._files)}.part")
        self._files.append(staged)
        return staged

    def grow(self, amount: int) -> None:
        self._used += amount
        if self._used > self._reserved:
            wanted = -(-self._used // STEP) * STEP
            self._reserved = on_disk(
                self._staging.reserve, self._path, self._used, wanted, shares=self._shares
            )

    def close(self) -> None:
        for staged in self._files:
            staged.close()


class Staging:
    """Hands out folders below `directory`, which together reserve at most `max_bytes`."""

    def __init__(self, directory: Path, max_bytes: int, max_file_bytes: int) -> None:
        self._directory = directory
        self.max_bytes = max_bytes
        self._max_file_bytes = max_file_bytes

    @contextmanager
    def folder(self, expected: int | None, caller: str | None = None) -> Iterator[StagingFolder]:
        """A folder for one request; it is removed when the block ends, whatever happens.

        `expected` is the length of the form in bytes, if the client announced it. All folders of a `caller`
        together get at most seven eighths of the budget. Raises `FormTooLarge` for a form that is larger than
        that, and `StagingFull` when there is no more room.
        """
        most = self._most(shares=caller is not None)
        if expected is not None and expected > most:
            raise _too_large(most)
        digits = secrets.token_hex(16)
        if caller is not None:
            digest = hashlib.sha256(caller.encode("utf-8", "surrogatepass")).hexdigest()
            digits = digest[:_CALLER_DIGITS] + digits[_CALLER_DIGITS:]
        path = self._directory / f"{_PREFIX}{digits}"
        folder = StagingFolder(self, path, self._max_file_bytes, shares=caller is not None)
        lock = None
        try:
            with _disk_full_is_staging_full():
                lock = on_disk(self._make, path)
            yield folder
        finally:
            on_disk(self._remove, folder, path, lock)

    def _make(self, path: Path) -> int | None:
        # `sweep` takes the same lock of the directory, so it never sees a folder that is not locked yet.
        with self._directory_lock():
            make_folder(path)
            return lock_folder(path)

    def _remove(self, folder: StagingFolder, path: Path, lock: int | None) -> None:
        folder.close()
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        self.sweep()

    def reserve(self, path: Path, least: int, wanted: int, *, shares: bool) -> int:
        """Charge the folder `wanted` bytes in all, or what the budget has left; returns how many.

        With `shares` all folders of its caller together get at most seven eighths of the budget. Raises
        `StagingFull` when there is room for fewer than `least`.
        """
        with self._directory_lock():
            used = {folder: _size(folder / "reserved") for folder in self._folders() if folder != path}
            room, most = self.max_bytes - sum(used.values()), self._most(shares=shares)
            if least > most:
                raise _too_large(most)
            if shares:
                own = sum(size for folder, size in used.items() if _caller_of(folder) == _caller_of(path))
                room = min(room, most - own)
            if least > room:
                raise self._full()
            granted = min(wanted, room)
            with _disk_full_is_staging_full():
                descriptor = open_private(path / "reserved", os.O_WRONLY | os.O_CREAT)
                try:
                    os.truncate(descriptor, granted)
                finally:
                    os.close(descriptor)
            return granted

    def _most(self, *, shares: bool) -> int:
        """The most that one form can get: with `shares`, an eighth of the budget stays for other callers."""
        return self.max_bytes - self.max_bytes // 8 if shares else self.max_bytes

    def _full(self) -> StagingFull:
        return StagingFull(
            f"The staging directory is full ({self.max_bytes} bytes in all); try again later, "
            "or send the file with PUT /upload/<file>, which needs no disk"
        )

    def used_bytes(self) -> int:
        """The bytes that all folders together have reserved."""
        try:
            return sum(_size(folder / "reserved") for folder in self._folders())
        except FileNotFoundError:  # no form has come yet
            return 0

    def sweep(self) -> int:
        """Remove the folders of requests whose process has ended; returns how many."""
        swept = 0
        with self._directory_lock():
            for folder in self._folders():
                lock = lock_folder(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)
                    swept += 1
        return swept

    def _folders(self) -> list[Path]:
        return [
            entry for entry in self._directory.iterdir() if _OWN.match(entry.name) and is_own_folder(entry)
        ]

    @contextmanager
    def _directory_lock(self) -> Iterator[None]:
        make_folder(self._directory)
        lock = open_private(lock_path(self._directory), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _caller_of(folder: Path) -> str:
    return folder.name.removeprefix(_PREFIX)[:_CALLER_DIGITS]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _too_large(most: int) -> FormTooLarge:
    return FormTooLarge(
        f"The form is larger than the {most} bytes that the staging directory has for one form; send the "
        "file with PUT /upload/<file>, which needs no disk"
    )


@contextmanager
def _disk_full_is_staging_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StagingFull(
                "The disk of the staging directory is full; try again later, or send the file with "
                "PUT /upload/<file>, which needs no disk"
            ) from error
        raise
