"""Values of HTTP headers, decoded strictly. A value that does not parse is None, whatever its bytes are."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime

from werkzeug.http import parse_date

MAX_MEDIA_TYPE = 255
UNKNOWN_TYPE = "application/octet-stream"

# RFC 9110, sections 5.6.2, 5.6.4 and 8.3.1. Quantifiers are possessive, so that matching takes linear time.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - HTTP's word for it
_QUOTED = r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*+)"'
_PARAMETER = rf"({_TOKEN})=(?:({_TOKEN})|{_QUOTED})"
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:[ \t]*+;[ \t]*+(?:{_PARAMETER})?)*+)")
_NEXT_PARAMETER = re.compile(rf";[ \t]*+{_PARAMETER}")

# RFC 9111, section 5.2: directives, each with a value or without.
_DIRECTIVE = re.compile(rf"{_TOKEN}(?:=(?:{_TOKEN}|{_QUOTED}))?+")
_DIRECTIVES = re.compile(rf"[ \t]*+{_DIRECTIVE.pattern}[ \t]*+(?:,[ \t]*+{_DIRECTIVE.pattern}[ \t]*+)*+")
_SHARED = {"public", "s-maxage", "private"}

# RFC 8941, sections 3.2 and 3.3.5: a dictionary of byte sequences.
_DIGEST = re.compile(r"[ \t]*+([a-z*][a-z0-9_.*-]*+)=:([A-Za-z0-9+/]*+={0,2}):[ \t]*+")
# RFC 9110, section 5.6.7: the form that is sent, and two that are obsolete.
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DATE = re.compile(
    rf"[A-Z][a-z]{{2}}, [0-9]{{2}} [A-Z][a-z]{{2}} [1-9][0-9]{{3}} {_TIME} GMT"
    rf"|[A-Z][a-z]{{5,8}}, [0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{2}} {_TIME} GMT"
    rf"|[A-Z][a-z]{{2}} [A-Z][a-z]{{2}} [0-9 ][0-9] {_TIME} [1-9][0-9]{{3}}"
)
# RFC 9110, section 8.8.3, without what S3 never sends.
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,255}"')
_TOKENS = re.compile(rf"{_TOKEN}(?:[ \t]*+,[ \t]*+{_TOKEN})*+")
# RFC 5646, section 2.1: tags of letters and digits.
_LANGUAGES = re.compile(
    r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*+([ \t]*+,[ \t]*+[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*+)*+"
)
# RFC 9110, sections 8.8.3 and 5.6.1: a list of entity tags, in which an element may be empty.
_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
_ENTITY_TAGS = re.compile(rf"[ \t,]*+{_ENTITY_TAG}(?:[ \t]*+,[ \t,]*+{_ENTITY_TAG})*+[ \t,]*+")
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-[0-9]{1,18})")


def media_type(value: str) -> str | None:
    """The one media type that the value is, in its canonical form; None where it is not exactly one.

    Type, subtype and the names of parameters are in lower case, and parameters are quoted where they must be.
    """
    match = _MEDIA_TYPE.fullmatch(value.strip(" \t"))
    if match is None or len(value) > MAX_MEDIA_TYPE:
        return None
    parameters: dict[str, str] = {}
    for name, token, quoted in _NEXT_PARAMETER.findall(match[2]):
        if name.lower() in parameters:
            return None  # which of the two counts, no two receivers agree on
        plain = token or re.sub(r"\\(.)", r"\1", quoted)
        parameters[name.lower()] = plain if re.fullmatch(_TOKEN, plain) else _quote(plain)
    canonical = "; ".join([match[1].lower(), *(f"{name}={value}" for name, value in parameters.items())])
    return canonical if len(canonical) <= MAX_MEDIA_TYPE else None


#: What changes the meaning of a write, and is not supported, with what to do instead. These are not listed,
#: because they change nothing: `Range`, which RFC 9110, section 14.2, tells servers to ignore in a PUT;
#: `Prefer`, which is a wish (RFC 7240, section 2); `Cache-Control`, which browsers send about the request
#: (RFC 9111, section 5.2.1); `If-Modified-Since`, for GET and HEAD only (RFC 9110, section 13.1.3).
_WHOLE = "send the whole file with one PUT, or plan an upload in parts with POST /uploads"
UNSUPPORTED_IN_WRITES: Mapping[str, str] = {
    "Content-Range": f"no request writes a part of a file; {_WHOLE}",  # RFC 9110, section 14.5
    "Upload-Offset": f"resumable uploads of tus are not supported; {_WHOLE}",  # tus 1.0, FilePond
    "Upload-Length": f"resumable uploads of tus are not supported; {_WHOLE}",
    # draft-ietf-httpbis-resumable-upload
    "Upload-Complete": f"resumable uploads are not supported; {_WHOLE}",
    "Upload-Incomplete": f"resumable uploads are not supported; {_WHOLE}",
    "Tus-Resumable": f"resumable uploads of tus are not supported; {_WHOLE}",
    "X-Upload-Content-Length": f"resumable uploads are not supported; {_WHOLE}",  # Google's protocol
    "X-Goog-Upload-Protocol": f"resumable uploads are not supported; {_WHOLE}",
    "X-HTTP-Method-Override": "send the method itself",
    "X-HTTP-Method": "send the method itself",
    "X-Method-Override": "send the method itself",
    "X-Amz-Copy-Source": "the service copies no file; send its bytes",  # S3's CopyObject is a PUT
    "If": "the service is no WebDAV server; use If-Match",  # RFC 4918, section 10.4
    "Content-Disposition": "the service decides what is shown and what is saved; leave the header out",
}
#: RFC 9110, section 13.1. If-Range and If-Modified-Since do not count in a write.
PRECONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")
#: RFC 9530; RFC 3230, obsolete; RFC 1864. Of a PUT each is the digest of the body as it was sent: the data of
#: a representation includes its content coding (RFC 9110, section 8.1).
DIGESTS = ("Content-Digest", "Repr-Digest", "Digest", "Content-MD5")
_DIGEST_BYTES: Mapping[str, Mapping[str, int]] = {
    "Content-Digest": {"sha-256": 32, "sha-512": 64},
    "Repr-Digest": {"sha-256": 32, "sha-512": 64},
    "Digest": {"md5": 16, "sha-256": 32, "sha-512": 64},
}
_OLD_DIGEST = re.compile(r"[ \t]*+([A-Za-z0-9-]++)=([A-Za-z0-9+/]*+={0,2})[ \t]*+")


def _quote(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def digests(header: str, value: str) -> dict[str, str] | None:
    """The digests, in hex, that one of `DIGESTS` gives, by the algorithms' names in RFC 9530.

    Algorithms that are not known are left out. None where the value is malformed, or gives one twice.
    """
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
    """The one strong ETag that the value is, with its quotes."""
    text = value.strip(" \t")
    return text if _STRONG_ETAG.fullmatch(text) else None


def content_encoding(value: str) -> str | None:
    """The codings in canonical form, "" where they change nothing; None where it is no list of names."""
    text = value.strip(" \t").lower()
    if len(text) > MAX_MEDIA_TYPE or not _TOKENS.fullmatch(text):
        return None
    return ", ".join(name for name in re.split(r"[ \t]*,[ \t]*", text) if name != "identity")


def content_language(value: str) -> str | None:
    """The language tags as they were sent, or None where they are none."""
    text = value.strip(" \t")
    return text if len(text) <= MAX_MEDIA_TYPE and _LANGUAGES.fullmatch(text) else None


def date(value: str | None) -> datetime | None:
    """A date, in UTC. RFC 9110, section 13.1.3: a condition with a date that is not valid is ignored."""
    try:
        return parse_date(value) if value and _DATE.fullmatch(value) else None
    except OverflowError:  # werkzeug handles every other exception of the parser
        return None


def entity_tags(value: str | None) -> frozenset[str] | None:
    """The tags of If-Match or If-None-Match, with their quotes and `W/`, or `*`; None without the header.

    A value that is not valid holds no tag, and so matches no file.
    """
    if value is None:
        return None
    if value.strip(" \t") == "*":
        return frozenset("*")
    return frozenset(re.findall(_ENTITY_TAG, value)) if _ENTITY_TAGS.fullmatch(value) else frozenset()


def cache_control(value: str | None, *, private: bool) -> str | None:
    """The directives of a stored Cache-Control; None where they are not valid or there are none.

    RFC 9111, section 3.5: `public`, `s-maxage` and `must-revalidate` let a shared cache store what needs
    authorization. With `private` no shared cache stores it; what contradicts that is left out.
    """
    if not _DIRECTIVES.fullmatch(value or ""):
        return None
    found = [match[0] for match in _DIRECTIVE.finditer(value or "")]
    if private:
        kept = (one for one in found if one.partition("=")[0].lower() not in _SHARED)
        found = ["private", *kept]
    return ", ".join(found)


def visible(value: str | None) -> str | None:
    """The value where it is one line of visible ASCII; another client of S3 may have stored anything."""
    return value if value and re.fullmatch(r"[\x20-\x7e]{1,1024}", value) else None


def byte_range(value: str | None) -> str | None:
    """One range of bytes. RFC 9110, section 14.2: any other range may be ignored."""
    match = _RANGE.fullmatch(value or "")
    if match is None or (match[2] and int(match[1]) > int(match[2])):
        return None
    return match[0]
