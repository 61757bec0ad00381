"""Strict parsers for the values in S3's answers: numbers, times, ETags, ranges, and pages of a listing.

Every function raises `UnexpectedAnswer` for a value that S3 does not send.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from s3api.failures import RangeNotSatisfiable
from s3api.file_store import Page, StoredFile
from s3api.s3_answers import ETAG, UnexpectedAnswer

_CONTENT_RANGE = re.compile("bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


def page(root: ET.Element, bucket: str, prefix: str, limit: int, token: str | None) -> Page:
    """A page of a listing. Its names are percent-encoded, because XML cannot contain every name."""
    space = root.tag.removesuffix("ListBucketResult")  # the namespace, if there is one
    key, modified, etag, size = (f"{space}{tag}" for tag in ("Key", "LastModified", "ETag", "Size"))
    decode = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    files = [
        StoredFile(
            decode(entry.findtext(key, "")),
            number(entry.findtext(size)),
            _moment(entry.findtext(modified, "")),
            _listed_etag(entry.findtext(etag)),
        )
        for entry in root.findall(f"{space}Contents")
    ]
    prefixes = [
        decode(entry.findtext(f"{space}Prefix", "")) for entry in root.findall(f"{space}CommonPrefixes")
    ]
    names = [*(file.name for file in files), *prefixes]
    # A page of another prefix would show names that the caller must not see.
    if not all(names) or (prefix and not all(name.startswith(prefix) for name in names)):
        raise UnexpectedAnswer("a listing with a name that was not asked for")
    if root.findtext(f"{space}Name", bucket) != bucket:
        raise UnexpectedAnswer("a listing of another bucket")
    count = len(names)
    if count > limit or number(root.findtext(f"{space}KeyCount", str(count))) != count:
        raise UnexpectedAnswer("a listing with another number of names")
    following = root.findtext(f"{space}NextContinuationToken")
    more = root.findtext(f"{space}IsTruncated")
    if more not in ("true", "false"):
        raise UnexpectedAnswer("a listing that does not say whether it is whole")
    if more == "true" and following in (None, "", token):
        raise UnexpectedAnswer("a listing that does not go on from where it ended")
    return Page(files=files, prefixes=prefixes, next_token=following if more == "true" else None)


def number(text: str | None) -> int:
    if text and len(text) <= 18 and text.isascii() and text.isdigit():
        return int(text)
    raise UnexpectedAnswer("a missing or invalid number")


def _moment(text: str) -> datetime:
    """A time in XML."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnexpectedAnswer("a missing or invalid time") from error
    if moment.tzinfo is None:
        raise UnexpectedAnswer("a time without its zone")
    return moment


def _date(text: str | None) -> datetime:
    """A time in a header."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise UnexpectedAnswer("a missing or invalid date") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def clock_offset(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How far S3's clock is ahead of this machine's; None if the answer has no date."""
    try:
        return _date(headers.get("date")) - now
    except UnexpectedAnswer:
        return None


def stored_file(name: str, headers: Mapping[str, str], size: int) -> StoredFile:
    return StoredFile(
        name=name, size=size, last_modified=_date(headers.get("Last-Modified")), etag=etag_of(headers)
    )


def size_of_range(content_range: str, asked: str, length: int) -> int:
    """The size of the whole file, from the Content-Range. The range must be the one that was requested."""
    if not length and content_range.endswith("/0"):  # MiniStack's answer for an empty file
        raise RangeNotSatisfiable("The file is empty")
    found = _CONTENT_RANGE.fullmatch(content_range)
    if not found:
        raise UnexpectedAnswer("a part of the file without its range")
    start, end, size = (int(digits) for digits in found.groups())
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if first:
        wanted = int(first), min(int(last), size - 1) if last else size - 1
    else:
        wanted = max(0, size - int(last)), size - 1
    if (start, end) != wanted or end - start + 1 != length:
        raise UnexpectedAnswer("another range of the file")
    return size


def etag_of(answer: Mapping[str, Any]) -> str:
    return _bare_etag(answer.get("ETag"))


def _listed_etag(text: str | None) -> str:
    """SeaweedFS keeps a folder for a while after its last file, and lists it with an empty ETag."""
    found = ETAG.fullmatch(text or "")
    if found:
        return found[1]
    if text in ("", '""'):
        return ""
    raise UnexpectedAnswer("a missing or invalid ETag")


def _bare_etag(text: str | None) -> str:
    found = ETAG.fullmatch(text or "")
    if not found:
        raise UnexpectedAnswer("a missing or invalid ETag")
    return found[1]
