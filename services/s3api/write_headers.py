"""The headers of a write: its condition, the file's type, encoding, language and digests, what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flask import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from s3api import failures, headers
from s3api.names import guess_content_type, specific_content_type

_WHOLE = "send the whole file with one PUT, or plan an upload in parts with POST /uploads"
_TUS = "a resumable upload of tus begins with POST /tus"
#: Headers that change the meaning of a write and are not supported, with what to do instead. Some headers are
#: not listed because a server may ignore them: `Range` in a PUT (RFC 9110, section 14.2), `Prefer` (RFC 7240,
#: section 2), `Cache-Control` of a request (RFC 9111, section 5.2.1), and `If-Modified-Since` outside GET and
#: HEAD (RFC 9110, section 13.1.3).
UNSUPPORTED_IN_WRITES: Mapping[str, str] = {
    "Content-Range": f"no request writes a part of a file; {_WHOLE}",  # RFC 9110, section 14.5
    "Upload-Offset": _TUS,  # tus 1.0, FilePond
    "Upload-Length": _TUS,
    # draft-ietf-httpbis-resumable-upload
    "Upload-Complete": f"resumable uploads are not supported; {_WHOLE}",
    "Upload-Incomplete": f"resumable uploads are not supported; {_WHOLE}",
    "Tus-Resumable": _TUS,
    "X-Upload-Content-Length": f"resumable uploads are not supported; {_WHOLE}",  # Google's protocol
    "X-Goog-Upload-Protocol": f"resumable uploads are not supported; {_WHOLE}",
    "X-HTTP-Method-Override": "send the method itself",
    "X-HTTP-Method": "send the method itself",
    "X-Method-Override": "send the method itself",
    "X-Content-Range": f"no request writes a part of a file; {_WHOLE}",  # nginx's upload module
    "X-Update-Range": f"no request writes a part of a file; {_WHOLE}",  # SabreDAV's partial update
    "If": "the service is no WebDAV server; use If-Match",  # RFC 4918, section 10.4
    "Overwrite": "the service is no WebDAV server; use If-None-Match: *",  # RFC 4918, section 10.6
    # RFC 4918, section 10.3
    "Destination": "the service is no WebDAV server; upload the file under its name",
    "ETag": "it is a header of answers; send the digest as Content-Digest or Content-MD5",  # OpenStack Swift
    "X-Checksum": "send the digest as Content-Digest",
    "Content-Disposition": "the service decides what is shown and what is saved; leave the header out",
}
_OF_OTHER_STORAGE = "it is for another storage service; leave it out"
#: The same by the beginnings of names. `X-Amz-` is refused as a whole, because S3 adds headers every year:
#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
UNSUPPORTED_BEGINNINGS: Mapping[str, str] = {
    "X-Amz-": "it is for S3 itself; leave it out, or upload directly to S3 with POST /uploads",
    "Upload-": f"resumable uploads are not supported; {_WHOLE}",  # tus 1.0, and the draft of the IETF
    "X-Upload-": f"resumable uploads are not supported; {_WHOLE}",
    "OC-": "the service is no ownCloud or Nextcloud server; leave it out",
    "X-OC-": "the service is no ownCloud or Nextcloud server; leave it out",
    "X-Checksum-": "send the digest as Content-Digest",  # Artifactory
    "X-Goog-": _OF_OTHER_STORAGE,
    **dict.fromkeys(("X-Ms-Blob-", "X-Ms-Copy-", "X-Ms-Lease-", "X-Ms-Meta-"), _OF_OTHER_STORAGE),  # Azure
    **dict.fromkeys(("X-Object-", "X-Delete-", "X-Copy-"), _OF_OTHER_STORAGE),  # OpenStack Swift
    **dict.fromkeys(("X-Bz-", "X-Cos-", "X-Obs-", "X-Oss-"), _OF_OTHER_STORAGE),
}
_UNSUPPORTED = {name.lower(): (name, instead) for name, instead in UNSUPPORTED_IN_WRITES.items()}
_BEGINNINGS = {beginning.lower(): instead for beginning, instead in UNSUPPORTED_BEGINNINGS.items()}
#: The headers of tus that the requests below /tus understand.
TUS = frozenset(
    {
        *("tus-resumable", "upload-checksum", "upload-defer-length", "upload-length", "upload-metadata"),
        "upload-offset",
    }
)
#: What signing clients and proxies add, such as CloudFront, VPC Lattice and Google's Identity-Aware Proxy.
ADDED_BY_PROXIES = frozenset(
    {
        *("x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "x-amz-user-agent", "x-amz-cf-id"),
        *("x-goog-iap-jwt-assertion", "x-goog-authenticated-user-email", "x-goog-authenticated-user-id"),
    }
)
#: RFC 9110, section 13.1. If-Range and If-Modified-Since have no meaning in a write.
PRECONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")
_DIGEST_EXAMPLES = {
    "Digest": "SHA-256=<base64 of 32 bytes>",
    "Content-MD5": "<base64 of 16 bytes>",
    "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD, or <64 hex digits>",
}


def unsupported_in_write(names: Iterable[str]) -> tuple[str, str] | None:
    """The first of these headers that changes what a write means, and what to do instead."""
    for name in names:
        lower = name.lower()
        if unsupported := _UNSUPPORTED.get(lower):
            return unsupported
        if lower in ADDED_BY_PROXIES:
            continue
        for beginning, instead in _BEGINNINGS.items():
            if lower.startswith(beginning):
                return name, instead
    return None


def unsupported_in_trailer(names: Iterable[str]) -> str | None:
    """The first of these trailers that would be ignored, though it changes what the upload means.

    RFC 9110, section 6.5.1, lets a recipient drop trailers. A digest that nothing checks would mislead. A
    trailer is too late for what describes the content.
    """
    refused = {name.lower() for name in (*headers.DIGESTS, *PRECONDITIONS)}
    for name in names:
        lower = name.lower()
        if lower in refused or lower.startswith("content-") or unsupported_in_write([name]):
            return name
    return None


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
    given = request.headers
    return kept_encoding(given.get("Content-Encoding")) | kept_language(given.get("Content-Language"))


def kept_language(given: str | None) -> dict[str, str]:
    if given is None:
        return {}
    language = headers.content_language(given)
    if language is None:
        raise BadRequest("The Content-Language is not a list of language tags, such as 'de' or 'pt-BR'")
    return {"Content-Language": language}


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
    return specific_content_type(name, kind)


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
