"""How a browser may treat a stored file: its type, and whether it is shown or saved."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import quote

from werkzeug.http import parse_options_header

from s3api import files, headers
from s3api.headers import UNKNOWN_TYPE

#: What a browser may show by itself, in canonical form; anything else is a download.
INLINE = re.compile(r"image/(png|jpeg|gif|webp|avif)|text/plain|application/pdf|(audio|video)/[a-z0-9.-]+")


def servable(content_type: str) -> str:
    """A stored type in canonical form; another client of S3 may have stored anything."""
    return headers.media_type(content_type) or UNKNOWN_TYPE


def is_inline(content_type: str) -> bool:
    """Whether a browser may show a file of this type, in canonical form, by itself."""
    return INLINE.fullmatch(content_type.partition(";")[0]) is not None


def disposition(name: str, content_type: str, stored: str | None = None) -> str:
    """RFC 6266: inline for what is on the list, else a download; the name in ASCII, if need be in full.

    What is `stored` can give the file another name, or make a download of it; never show it inline.
    """
    asked, options = parse_options_header(stored)
    kind = "inline" if is_inline(content_type) and asked in ("", "inline") else "attachment"
    own_name = name.rstrip("/").rpartition("/")[2] or "file"
    with suppress(files.InvalidName):
        own_name = files.check_name((options.get("filename") or "").rpartition("/")[2])
    plain = re.sub(r'[^\x20-\x7e]|["%]', "_", own_name)
    value = f'{kind}; filename="{plain}"'
    if plain != own_name:
        value += f"; filename*=UTF-8''{quote(own_name, safe='')}"
    return value


def of_signed_url(name: str, opened: files.OpenFile | None, *, save: bool) -> tuple[str, str | None]:
    """The Content-Disposition and Content-Type of a presigned URL; `opened` is None for an unchecked file.

    Without a type in its URL, S3 answers with the one that is stored when the URL is used. What is shown
    inline must be of the type that was judged here, so its type is always in the URL.
    """
    if opened is None:
        kind, stored = files.guess_content_type(name), None
    else:
        kind, stored = servable(opened.content_type), opened.stored_headers.get("Content-Disposition")
    shown = not save and is_inline(kind)
    value = disposition(name, kind if shown else UNKNOWN_TYPE, stored)
    return value, kind if shown or opened is not None else None
