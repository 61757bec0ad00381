"""Strict parsers for the values of HTTP headers. The result is None for a value that is not valid."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote

from werkzeug.http import parse_date

#: Headers of every answer. No page may show an answer in a frame, and a page of another origin may not use it
#: as an image.
ALWAYS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
#: Headers of an answer unless its view sets them. Without a Cache-Control, a cache may choose how long it
#: keeps an answer (RFC 9111, section 4.2.2).
UNLESS_SET = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
]

#: The version of tus (https://tus.io/protocols/resumable-upload) that the service speaks.
TUS_VERSION = "1.0.0"
MAX_MEDIA_TYPE = 255

# RFC 9110, sections 5.6.2, 5.6.4 and 8.3.1. Quantifiers are possessive, so that matching takes linear time.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - HTTP's word for it
_QUOTED = r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*+)"'
_PARAMETER = rf"({_TOKEN})=(?:({_TOKEN})|{_QUOTED})"
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:[ \t]*+;[ \t]*+(?:{_PARAMETER})?)*+)")
_NEXT_PARAMETER = re.compile(rf";[ \t]*+{_PARAMETER}")

# RFC 7578, section 4.2. In a quoted value, browsers send UTF-8 and write a quotation mark as `%22`.
_FORM_PARAMETER = rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*+)")'
_FORM_PART = re.compile(rf"form-data((?:[ \t]*+;[ \t]*+(?:{_FORM_PARAMETER})?)*+)", re.IGNORECASE)
_NEXT_FORM_PARAMETER = re.compile(rf";[ \t]*+{_FORM_PARAMETER}")
# RFC 8187, section 3.2.1; also `*` and `'`, which JavaScript's encodeURIComponent leaves as they are.
_EXTENDED = re.compile(
    r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'((?:[A-Za-z0-9!#$&+.^_`|~*'-]|%[0-9a-f]{2})*+)", re.IGNORECASE
)

# RFC 9111, section 5.2: directives, with or without a value.
_DIRECTIVE = re.compile(rf"{_TOKEN}(?:=(?:{_TOKEN}|{_QUOTED}))?+")
_DIRECTIVES = re.compile(rf"[ \t]*+{_DIRECTIVE.pattern}[ \t]*+(?:,[ \t]*+{_DIRECTIVE.pattern}[ \t]*+)*+")
_SHARED = {"public", "s-maxage", "private"}

# RFC 8941, sections 3.2 and 3.3.5: a dictionary of byte sequences.
_DIGEST = re.compile(r"[ \t]*+([a-z*][a-z0-9_.*-]*+)=:([A-Za-z0-9+/]*+={0,2}):[ \t]*+")
# RFC 9110, section 5.6.7: the current form, and two obsolete ones.
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DATE = re.compile(
    rf"[A-Z][a-z]{{2}}, [0-9]{{2}} [A-Z][a-z]{{2}} [1-9][0-9]{{3}} {_TIME} GMT"
    rf"|[A-Z][a-z]{{5,8}}, [0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{2}} {_TIME} GMT"
    rf"|[A-Z][a-z]{{2}} [A-Z][a-z]{{2}} [0-9 ][0-9] {_TIME} [1-9][0-9]{{3}}"
)
# RFC 9110, section 8.8.3, restricted to the ETags that S3 sends.
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,255}"')
_TOKENS = re.compile(rf"{_TOKEN}(?:[ \t]*+,[ \t]*+{_TOKEN})*+")
# RFC 5646, section 2.1: tags of letters and digits.
_LANGUAGES = re.compile(
    r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*+([ \t]*+,[ \t]*+[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*+)*+"
)
# RFC 9110, sections 8.8.3 and 5.6.1: a list of entity tags. Its elements can be empty.
_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
_ENTITY_TAGS = re.compile(rf"[ \t,]*+{_ENTITY_TAG}(?:[ \t]*+,[ \t,]*+{_ENTITY_TAG})*+[ \t,]*+")
# RFC 9110, sections 14.1.1 and 5.6.1: a set of ranges, here of one, in which an element may be empty.
_RANGE = re.compile(r"bytes=[ \t,]*+(?:([0-9]++)-([0-9]*+)|-([0-9]++))[ \t,]*+", re.IGNORECASE)
_MAX_POSITION = 10**18 - 1  # beyond every file, and within what every S3 parses


def media_type(value: str) -> str | None:
    """The media type in canonical form, or None if the value is not exactly one.

    Type, subtype and the names of parameters are in lower case. Parameters are quoted only if necessary.
    """
    match = _MEDIA_TYPE.fullmatch(value.strip(" \t"))
    if match is None or len(value) > MAX_MEDIA_TYPE:
        return None
    parameters: dict[str, str] = {}
    for name, token, quoted in _NEXT_PARAMETER.findall(match[2]):
        if name.lower() in parameters:
            return None  # receivers disagree about which of the two counts
        plain = token or re.sub(r"\\(.)", r"\1", quoted)
        parameters[name.lower()] = plain if re.fullmatch(_TOKEN, plain) else _quote(plain)
    canonical = "; ".join([match[1].lower(), *(f"{name}={value}" for name, value in parameters.items())])
    return canonical if len(canonical) <= MAX_MEDIA_TYPE else None


class FormPart(NamedTuple):
    """The Content-Disposition of a form's part. `file_name` is None if the part is a text field."""

    name: str
    file_name: str | None


def form_part(value: str) -> FormPart | None:
    """The name and the file name. None if the value is not valid, or if parsers could differ about it.

    `filename*` counts more than `filename` (RFC 6266, section 4.3): .NET sends both. Continuations such as
    `filename*0` (RFC 2231) are not valid in a form.
    """
    match = _FORM_PART.fullmatch(value)
    if match is None:
        return None
    found: dict[str, str] = {}
    for given, token, quoted in _NEXT_FORM_PARAMETER.findall(match[1]):
        parameter = given.lower()
        if parameter in found or re.match(r"filename\*.|name\*", parameter):
            return None
        found[parameter] = token or quoted.replace('\\"', '"').replace("%22", '"')
    if "name" not in found:
        return None
    if "filename*" not in found:
        return FormPart(found["name"], found.get("filename"))
    extended = _EXTENDED.fullmatch(found["filename*"])
    if extended is None:
        return None
    try:
        return FormPart(found["name"], unquote(extended[2], extended[1], "strict"))
    except UnicodeDecodeError:
        return None


#: RFC 9530, the obsolete RFC 3230, and RFC 1864. In a PUT each is the digest of the body as it is sent,
#: because a representation includes its content coding (RFC 9110, section 8.1). The last one is a part of
#: AWS's signatures, in hex.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
DIGESTS = ("Content-Digest", "Repr-Digest", "Digest", "Content-MD5", "X-Amz-Content-Sha256")
_DIGEST_BYTES: Mapping[str, Mapping[str, int]] = {
    "Content-Digest": {"sha-256": 32, "sha-512": 64},
    "Repr-Digest": {"sha-256": 32, "sha-512": 64},
    "Digest": {"md5": 16, "sha-256": 32, "sha-512": 64},
}
_OLD_DIGEST = re.compile(r"[ \t]*+([A-Za-z0-9-]++)=([A-Za-z0-9+/]*+={0,2})[ \t]*+")


def _quote(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def digests(header: str, value: str) -> dict[str, str] | None:
    """The digests in one of the headers `DIGESTS`, in hex, by the algorithms' names in RFC 9530.

    Unknown algorithms are left out. The result is None if the value is malformed or repeats an algorithm.
    """
    if header == "X-Amz-Content-Sha256":
        return {"sha-256": value.lower()} if re.fullmatch(r"[0-9A-Fa-f]{64}", value) else None
    if header == "Content-MD5":
        md5 = _decoded(value.strip(" \t"), 16)
        return None if md5 is None else {"md5": md5}
    syntax = _OLD_DIGEST if header == "Digest" else _DIGEST
    found: dict[str, str] = {}
    for member in value.split(","):
        match = syntax.fullmatch(member)
        if match is None:
            return None
        algorithm = match[1].lower()
        size = _DIGEST_BYTES[header].get(algorithm)
        if size is None:
            continue
        digest = _decoded(match[2], size)
        if digest is None or algorithm in found:
            return None
        found[algorithm] = digest
    return found


def _decoded(text: str, size: int) -> str | None:
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == size else None


def strong_etag(value: str) -> str | None:
    """The value as one strong ETag with its quotes."""
    text = value.strip(" \t")
    return text if _STRONG_ETAG.fullmatch(text) else None


def content_encoding(value: str) -> str | None:
    """The codings in canonical form, or "" for identity. None if the value is not a list of names."""
    text = value.strip(" \t").lower()
    if len(text) > MAX_MEDIA_TYPE or not _TOKENS.fullmatch(text):
        return None
    return ", ".join(name for name in re.split(r"[ \t]*,[ \t]*", text) if name != "identity")


def content_language(value: str) -> str | None:
    """The language tags as they were sent. None if they are not valid."""
    text = value.strip(" \t")
    return text if len(text) <= MAX_MEDIA_TYPE and _LANGUAGES.fullmatch(text) else None


def date(value: str | None) -> datetime | None:
    """A date in UTC. A condition with an invalid date is ignored (RFC 9110, section 13.1.3)."""
    try:
        return parse_date(value) if value and _DATE.fullmatch(value) else None
    except OverflowError:  # werkzeug handles every other exception of the parser
        return None


def entity_tags(value: str | None) -> frozenset[str] | None:
    """The tags of If-Match or If-None-Match, with their quotes and `W/`, or `*`. None without the header.

    An invalid value has no tags, so it matches no file.
    """
    if value is None:
        return None
    if value.strip(" \t") == "*":
        return frozenset("*")
    return frozenset(re.findall(_ENTITY_TAG, value)) if _ENTITY_TAGS.fullmatch(value) else frozenset()


def cache_control(value: str | None, *, private: bool) -> str | None:
    """The directives of a stored Cache-Control. None if there are none, or if they are not valid.

    `public`, `s-maxage` and `must-revalidate` let a shared cache store an answer that needs authorization
    (RFC 9111, section 3.5). With `private`, the result forbids it and leaves contradicting directives out.
    """
    if not _DIRECTIVES.fullmatch(value or ""):
        return None
    found = [match[0] for match in _DIRECTIVE.finditer(value or "")]
    if private:
        kept = (one for one in found if one.partition("=")[0].lower() not in _SHARED)
        found = ["private", *kept]
    return ", ".join(found)


def is_binary(transfer_encoding: str | None) -> bool:
    """Whether a Content-Transfer-Encoding, which is a header of mail, leaves the bytes as they are.

    RFC 7578, section 4.7: it is deprecated in forms. A body in Base64 would be stored as Base64.
    """
    return (transfer_encoding or "binary").lower() in ("binary", "7bit", "8bit")


def visible(value: str | None) -> str | None:
    """The value if it is one line of visible ASCII. Another client of S3 may have stored any value."""
    return value if value and re.fullmatch(r"[\x20-\x7e]{1,1024}", value) else None


def byte_range(value: str | None) -> str | None:
    """One range of bytes, in canonical form. RFC 9110, section 14.2: any other range may be ignored.

    RFC 9110, section 14.1: the unit has no case. A number may be of any length, section 14.1.1; one that is
    larger than every file is as good as another.
    """
    match = _RANGE.fullmatch(value or "")
    if match is None:
        return None
    first, last, suffix = (_position(digits) if digits else None for digits in match.groups())
    if first is None:
        return f"bytes=-{suffix}"
    if last is None:
        return f"bytes={first}-"
    return None if last < first else f"bytes={first}-{last}"


def _position(digits: str) -> int:
    return min(int(digits.lstrip("0")[:19] or "0"), _MAX_POSITION)
