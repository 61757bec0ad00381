"""The journal: the unfinished multipart uploads, stored on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from s3api.private import check_folder, make_folder, open_private

JOURNAL_SECONDS = 7 * 24 * 3600  # as long as the service accepts an upload id


@dataclass(frozen=True)
class Unfinished:
    """An unfinished multipart upload: the file, its destination, and the service's id of the upload."""

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
        """The position and the size of a part."""
        offset = (number - 1) * self.part_size
        return offset, min(self.part_size, self.size - offset)


class Journal:
    """One small file for each unfinished upload, so that the next run can resume it.

    An entry holds the fields of `Unfinished`, and not the parts: S3 knows those.
    If the folder cannot be written, uploads work, and start again after an interruption.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, url: str, name: str, path: Path) -> Unfinished | None:
        """The unfinished upload of this file under this name; None if there is no valid entry."""
        try:
            noted = open_private(self._path(url, name, path), os.O_RDONLY)
            with os.fdopen(noted, encoding="utf-8") as stream:
                saved = Unfinished(**json.load(stream))
        except (OSError, ValueError, TypeError):
            return None
        return saved if saved.part_size > 0 else None

    def write(self, unfinished: Unfinished, path: Path) -> None:
        """Write the entry. After this returns, it survives a crash of the machine."""
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
        """Make the folder, and give access to this user only, also if it exists with another mode."""
        make_folder(self._folder)
        check_folder(self._folder)
        self._folder.chmod(0o700)

    def _forget_the_expired(self) -> None:
        for old in self._folder.iterdir():
            if old.stat().st_mtime < time.time() - JOURNAL_SECONDS:
                old.unlink(missing_ok=True)
