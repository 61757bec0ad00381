"""Archives: a folder or several files as one ZIP, which appears when it is complete."""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from s3api.client.api import EXISTS, FAILED, Api, Failure
from s3api.client.transfer import Meter, local_failure

ERRORS = "_errors.txt"
_SHOWN = 1000


def save(api: Api, query: Sequence[tuple[str, str]], target: Path, meter: Meter, *, force: bool) -> int:
    """Download the archive into a new file, and return its size. Only `force` replaces a file.

    Raises `Failure`. The target then stays as it was.
    """
    exists = Failure("target_exists", f"{target} exists already; --force replaces it", EXISTS)
    if os.path.lexists(target):
        if not force:
            raise exists
        if not target.is_file():
            raise Failure("target_exists", f"{target} is not a regular file", EXISTS)
    unfinished = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.part")
    try:
        try:
            with unfinished.open("xb") as sink:
                size = write(api, query, sink, meter, target.name)
        except Failure as failure:
            raise _explained(failure, unfinished) from failure
        if not zipfile.is_zipfile(unfinished):
            raise Failure("interrupted", "The archive is incomplete", FAILED)
        if not force:
            target.open("xb").close()  # a hard link would do both, but not on every file system
        unfinished.replace(target)
    except FileExistsError:
        raise exists from None
    except OSError as error:
        raise local_failure(error, target) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return size


def write(api: Api, query: Sequence[tuple[str, str]], sink: IO[bytes], meter: Meter, name: str) -> int:
    """Write the archive to the sink, and return its size. Raises `Failure` if it is incomplete."""
    url = f"{api.at('/archive')}?{urlencode(query)}"
    size = 0
    try:
        with api.retried(lambda: api.open("GET", url)) as response:
            meter.begin(name, "receiving", None)
            for block in api.blocks(response):
                sink.write(block)
                size += len(block)
                meter.advance(name, len(block))
            sink.flush()
    finally:
        meter.end(name)
    return size


def _explained(failure: Failure, unfinished: Path) -> Failure:
    """The same failure, or the files that the service could not read, if the archive names them."""
    try:
        with zipfile.ZipFile(unfinished) as archive:
            last = archive.infolist()[-1]
            text = archive.read(last).decode() if last.filename.endswith(ERRORS) else ""
    except (zipfile.BadZipFile, OSError, IndexError):
        return failure
    if not text:
        return failure
    lines = "; ".join(text.splitlines())
    return Failure(
        "archive_incomplete", f"The service could not read all of the files: {lines[:_SHOWN]}", FAILED
    )
