"""The service's sentences in the terms of the command: its options instead of the members of a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s3api.client.api import Failure

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))
_SENTENCES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    ("Set overwrite to true to replace it", "--overwrite replaces it"),
    (
        "to replace it by the version, set overwrite to true, or send its ETag as If-Match",
        "--overwrite replaces it by the version",
    ),
    (
        "send the header 'Authorization: Bearer <token>'",
        "set S3API_TOKEN, or give --token-file",
    ),
    ("send the request without one", "leave S3API_TOKEN and --token-file out"),
    ("The member max_bytes", "--max-size"),
    (
        r"The (?:parameter|member) expires must be from (\d+) to (\d+) seconds",
        lambda found: f"--expires must be from {duration(int(found[1]))} to {duration(int(found[2]))}",
    ),
)


def in_options(message: str) -> str:
    """The message with the options of the command."""
    for pattern, replacement in _SENTENCES:
        message = re.sub(pattern, replacement, message)
    return message


def duration(seconds: int) -> str:
    """The number of seconds as the command line takes it: `7d`. A minute is `60s`."""
    for unit, size in _UNITS:
        if seconds > 60 and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


@contextmanager
def folder_explained(name: str) -> Iterator[None]:
    """Where a file is not found, say how a folder is written. A name with a dot is hardly a folder's."""
    try:
        yield
    except Failure as failure:
        if failure.code == "file_not_found" and "." not in name.rpartition("/")[2] and name[-1] != "/":
            failure.message += f"; if it is a folder, write '{name}/'"
        raise
