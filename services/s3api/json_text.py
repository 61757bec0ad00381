"""JSON as the service writes it, in answers and in its log: in ASCII, on one line.

Other characters are escaped. So a file name that another client of S3 made cannot control the terminal that
shows it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from typing import Any

import orjson

#: Times in UTC end with Z.
_OPTIONS = orjson.OPT_UTC_Z


def to_json(value: object) -> bytes:
    """The value as JSON. Dataclasses become objects, and times become text by RFC 3339."""
    try:
        text = orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        # orjson takes no lone surrogate and no integer of more than 64 bits; a client may send either.
        return json.dumps(value, separators=(",", ":")).encode()
    return text if text.isascii() else _in_ascii(text)


def to_json_lines(values: Iterable[object]) -> bytes:
    """The values as JSON, each followed by a line break."""
    text = b"".join([orjson.dumps(value, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE) for value in values])
    return text if text.isascii() else _in_ascii(text)


def _in_ascii(text: bytes) -> bytes:
    return text.decode().encode("ascii", "s3api.json")


def _escape(error: Any) -> tuple[str, int]:
    """In JSON only strings hold characters beyond ASCII, so each can become an escape where it is."""
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("s3api.json", _escape)
