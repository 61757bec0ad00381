"""How a browser treats a stored file: its content type, and whether it is shown or saved."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import quote

from werkzeug.http import parse_options_header

from s3api import failures, headers
from s3api.file_store import OpenFile
from s3api.names import UNKNOWN_TYPE, check_name, guess_content_type

#: The types that a browser may show, in canonical form. Any other file is saved.
INLINE = re.compile(r"image/(png|jpeg|gif|webp|avif)|text/plain|application/pdf|(audio|video)/[a-z0-9.-]+")


def servable(content_type: str) -> str:
    """The stored type in canonical form. Another client of S3 may have stored any value."""
    return headers.media_type(content_type) or UNKNOWN_TYPE


def is_inline(content_type: str) -> bool:
    """Whether a browser may show a file of this type, in canonical form, by itself."""
    return INLINE.fullmatch(content_type.partition(";")[0]) is not None


def disposition(name: str, content_type: str, stored: str | None = None) -> str:
    """The Content-Disposition: inline for the types of `INLINE`, else attachment (RFC 6266).

    A name beyond ASCII is given twice, first in ASCII. The `stored` Content-Disposition can give the file
    another name or turn inline into attachment, but not the reverse.
    """
    asked, options = parse_options_header(stored)
    kind = "inline" if is_inline(content_type) and asked in ("", "inline") else "attachment"
    own_name = name.rstrip("/").rpartition("/")[2] or "file"
    with suppress(failures.InvalidName):
        own_name = check_name((options.get("filename") or "").rpartition("/")[2])
    plain = re.sub(r'[^\x20-\x7e]|["%]', "_", own_name)
    value = f'{kind}; filename="{plain}"'
    if plain != own_name:
        value += f"; filename*=UTF-8''{quote(own_name, safe='')}"
    return value


def of_signed_url(name: str, opened: OpenFile | None, *, save: bool) -> tuple[str, str | None]:
    """The Content-Disposition and Content-Type of a presigned URL. `opened` is None for an unchecked file.

    Without a type in the URL, S3 answers with the type that is stored at that time. A file that is shown
    inline must have the type that was checked here, so its URL always contains the type.
    """
    if opened is None:
        kind, stored = guess_content_type(name), None
    else:
        kind, stored = servable(opened.content_type), opened.stored_headers.get("Content-Disposition")
    shown = not save and is_inline(kind)
    value = disposition(name, kind if shown else UNKNOWN_TYPE, stored)
    return value, kind if shown or opened is not None else None
