"""The staging directory: where the files of a form wait on disk until they are in S3.

Each request that stages has a folder of its own, locked while the request lives. What it reserves is the size
of a sparse file in it, so the directory itself tells the budget's use, across processes. The kernel drops the
lock of a process that dies, however it dies; `sweep` removes every such folder that no process holds, and
touches nothing else: STAGING_DIR may be a directory with other things in it.

Other users of the machine can do nothing here: folders are 0700, files 0600, and the lock that all requests
take is on a file that only this user can open. What another user puts into the directory is never looked at.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from s3api.files import StagingFull, too_large
from s3api.private import lock_path, make_folder, open_private

STEP = 16 * 1024 * 1024  # a form of unknown length reserves this much at a time
_OWN = re.compile(r"^s3api-staged-[0-9a-f]{32}$")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StagedFile:
    """One file of a form, written to disk, counted and hashed as it comes; it goes with its folder."""

    def __init__(self, folder: StagingFolder, path: Path) -> None:
        self._folder = folder
        self._hash = hashlib.sha256()
        self.stream: IO[bytes] = os.fdopen(open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), "w+b")
        self.size = 0

    def write(self, data: bytes) -> int:
        """Raises `FileTooLarge` above the limit of a file, `StagingFull` when the disk or the budget is."""
        self.size += len(data)
        if self.size > self._folder.max_file_bytes:
            raise too_large(self._folder.max_file_bytes)
        self._folder.grow(len(data))
        self._hash.update(data)
        with _disk_full_is_staging_full():
            return self.stream.write(data)

    def seek(self, offset: int) -> int:
        with _disk_full_is_staging_full():
            return self.stream.seek(offset)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        with suppress(OSError):  # a full disk may refuse the last buffer; the file is about to go anyway
            self.stream.close()


class StagingFolder:
    """The folder of one request; made and removed by `Staging.folder`."""

    def __init__(self, staging: Staging, path: Path, max_file_bytes: int) -> None:
        self._staging = staging
        self._path = path
        self._reserved = 0
        self._used = 0
        self._files: list[StagedFile] = []
        self.max_file_bytes = max_file_bytes

    def new_file(self) -> StagedFile:
        with _disk_full_is_staging_full():
            staged = StagedFile(self, self._path / f"{len(self._files)}.part")
        self._files.append(staged)
        return staged

    def grow(self, amount: int) -> None:
        self._used += amount
        while self._used > self._reserved:
            self.reserve(STEP)

    def reserve(self, amount: int) -> None:
        self._staging.reserve(self._path, self._reserved + amount)
        self._reserved += amount

    def close(self) -> None:
        for staged in self._files:
            staged.close()


class Staging:
    """Hands out folders below `directory`, never more than `max_bytes` in all."""

    def __init__(self, directory: Path, max_bytes: int, max_file_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_file_bytes = max_file_bytes

    @contextmanager
    def folder(self, expected: int | None) -> Iterator[StagingFolder]:
        """A folder for one request, gone when the block ends, whatever happens.

        `expected` is the announced length of the form in bytes, reserved at once; None reserves as it comes.
        Raises `StagingFull` when the budget does not allow it.
        """
        path = self._directory / f"s3api-staged-{secrets.token_hex(16)}"
        folder = StagingFolder(self, path, self._max_file_bytes)
        lock = None
        try:
            # Made and locked as one step to `sweep`, which holds the same lock of the directory.
            with _disk_full_is_staging_full(), self._directory_lock():
                make_folder(path)
                lock = _lock_folder(path)
            if expected is not None:
                folder.reserve(expected)
            yield folder
        finally:
            folder.close()
            shutil.rmtree(path, ignore_errors=True)
            if lock is not None:
                os.close(lock)
            self.sweep()

    def reserve(self, path: Path, amount: int) -> None:
        with self._directory_lock():
            others = sum(_size(folder / "reserved") for folder in self._folders() if folder != path)
            if others + amount > self._max_bytes:
                raise StagingFull(
                    f"The staging directory is full ({self._max_bytes} bytes in all); try again later, "
                    "or send the file with PUT /upload/<file>, which needs no disk"
                )
            with _disk_full_is_staging_full():
                descriptor = open_private(path / "reserved", os.O_WRONLY | os.O_CREAT)
                try:
                    os.truncate(descriptor, amount)
                finally:
                    os.close(descriptor)

    def sweep(self) -> int:
        """Remove the folders of requests that are no more; returns how many."""
        swept = 0
        with self._directory_lock():
            for folder in self._folders():
                lock = _lock_folder(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)
                    swept += 1
        return swept

    def _folders(self) -> list[Path]:
        return [entry for entry in self._directory.iterdir() if _OWN.match(entry.name) and _is_ours(entry)]

    @contextmanager
    def _directory_lock(self) -> Iterator[None]:
        make_folder(self._directory)
        lock = open_private(lock_path(self._directory), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _is_ours(path: Path) -> bool:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid()


def _lock_folder(folder: Path) -> int | None:
    """An exclusively locked descriptor of a request's folder; None when it is in use, or gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


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
