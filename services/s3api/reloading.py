"""A configuration file that is read again when it changes, without a restart."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")

log = logging.getLogger("s3api")


class Reloaded(Generic[Value]):
    """The parsed content of a file.

    A request that needs the content looks at the file, so every worker process sees a change with its next
    such request. The look is one `stat`, a few microseconds on a local disk. A network file system that
    hangs would stop all requests of the process. If the new content is not valid, or if the file is gone, the
    last valid content stays, and the log says so once. A file that cannot be read is tried again each time.
    """

    def __init__(self, path: Path, parse: Callable[[str], Value]) -> None:
        """Raises `OSError` or `ValueError` if the first content cannot be read or is not valid."""
        self._path = path
        self._parse = parse
        self._state = self._look()
        self._reported = ""
        self._value = self._read()

    def __call__(self) -> Value:
        state = self._look()
        if state != self._state:
            try:
                self._value = self._read()
            except OSError as error:
                self._report(error)
            except ValueError as error:
                self._state = state
                self._report(error)
            else:
                self._state = state
                self._reported = ""
                log.info("The changed file %s is used from now on", self._path)
        return self._value

    def _report(self, error: OSError | ValueError) -> None:
        reason = _reason(error)
        if reason != self._reported:
            log.error("The changed file %s is not used: %s", self._path, reason)
        self._reported = reason

    def _look(self) -> tuple[int, ...]:
        try:
            state = os.stat(self._path)  # noqa: PTH116 - every request pays for it
        except OSError:
            return ()
        return (state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size)

    def _read(self) -> Value:
        return self._parse(self._path.read_text(encoding="utf-8"))


def _reason(error: OSError | ValueError) -> str:
    """What is wrong, without a value of the file."""
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return "its content is not valid; the last valid content stays in use"
