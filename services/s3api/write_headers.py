"""The headers of a write: its condition, and the file's type, encoding, language and digests."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from s3api import failures, headers
from s3api.headers import UNKNOWN_TYPE
from s3api.names import guess_content_type

_DIGEST_EXAMPLES = {"Digest": "SHA-256=<base64 of 32 bytes>", "Content-MD5": "<base64 of 16 bytes>"}


def condition(*, any_file: bool = False) -> tuple[bool, str | None]:
    """Whether the file must not exist, and the ETag that it must have. S3 evaluates both without a race.

    `any_file` allows `If-Match: *`. If-Unmodified-Since is ignored together with If-Match, and if it is not a
    date (RFC 9110, section 13.1.4).
    """
    if_match, if_none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    since = headers.date(request.headers.get("If-Unmodified-Since"))
    if since is not None and if_match is None:
        raise BadRequest("S3 cannot hold If-Unmodified-Since for a write; send If-Match with the file's ETag")
    if any_file and if_none_match is not None:
        raise BadRequest("A deletion understands one condition: If-Match")
    if if_none_match not in (None, "*") or (if_none_match and if_match):
        raise BadRequest("A write understands 'If-None-Match: *', or If-Match with one ETag")
    if if_match is None or (any_file and if_match.strip() == "*"):
        return if_none_match == "*", if_match and "*"
    etag = headers.strong_etag(if_match)
    if etag is None:
        raise BadRequest("If-Match must hold one strong ETag, with its quotes, as the file's own")
    return False, etag


def kept_headers() -> dict[str, str]:
    """The headers of a PUT that are stored with the file, in addition to its content type."""
    kept = kept_encoding(request.headers.get("Content-Encoding"))
    given = request.headers.get("Content-Language")
    if given is not None:
        language = headers.content_language(given)
        if language is None:
            raise BadRequest("The Content-Language is not a list of language tags, such as 'de' or 'pt-BR'")
        kept["Content-Language"] = language
    return kept


def kept_encoding(given: str | None) -> dict[str, str]:
    if given is None:
        return {}
    encoding = headers.content_encoding(given)
    if encoding is None:
        raise UnsupportedMediaType("The Content-Encoding is not a list of codings, such as 'gzip'")
    if "aws-chunked" in encoding.split(", "):
        # It is part of S3's protocol, and the wrapped bytes are not the file.
        raise UnsupportedMediaType("The Content-Encoding 'aws-chunked' is for S3 itself; send the plain body")
    return {"Content-Encoding": encoding} if encoding else {}


def content_type(name: str, given: str | None) -> str:
    """The media type that the client sent, or a guess from the name if it sent none or an unspecific one.

    Raises `InvalidContentType`.
    """
    if not given:
        return guess_content_type(name)
    kind = headers.media_type(given)
    if kind is None:
        raise failures.InvalidContentType(
            "The content type is not a media type, such as 'text/plain; charset=utf-8'; "
            "correct it, or leave it out"
        )
    unknown = kind.partition(";")[0] in (UNKNOWN_TYPE, "application/x-www-form-urlencoded")
    return guess_content_type(name) if unknown else kind


def wanted_digests() -> dict[str, str]:
    """The digests of the body that the client sent, in hex, by the algorithms' names in RFC 9530."""
    found: dict[str, str] = {}
    for header in headers.DIGESTS:
        value = request.headers.get(header)
        if value is None:
            continue
        given = headers.digests(header, value)
        if not given:
            raise BadRequest(
                f"The {header} header holds no digest that the service can check, such as "
                f"'{_DIGEST_EXAMPLES.get(header, 'sha-256=:<base64 of 32 bytes>:')}'"
            )
        for algorithm, digest in given.items():
            if found.setdefault(algorithm, digest) != digest:
                raise BadRequest(f"Two headers give different digests ({algorithm}) of one body")
    return found
