"""The names that files may have, and the content type that a name implies."""

from __future__ import annotations

import mimetypes
import posixpath
import re
from collections.abc import Mapping

from s3api.failures import InvalidName

MAX_NAME_BYTES = 1024
UNKNOWN_TYPE = "application/octet-stream"
# `curl --data-binary` and urllib send the second one with every file.
_UNSPECIFIC_TYPES = frozenset({UNKNOWN_TYPE, "application/x-www-form-urlencoded"})
# XML 1.0, section 2.2, cannot carry U+FFFE and U+FFFF, and S3's bulk deletes and multipart uploads are in XML
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html, XML related object keys).
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffe\uffff]")
_FORBIDDEN_TEXT = "a control character, a backslash, U+FFFE or U+FFFF"
_DOT_SEGMENTS = frozenset({".", ".."})
# Python's own table, without the machine's, and the types that differ between versions of Python. A
# compressed file has the type of its compression: S3 and this service hand out its bytes as they are.
_PYTHON_TYPES = mimetypes.MimeTypes().types_map
_TYPES: Mapping[str, str] = {
    **_PYTHON_TYPES[False],
    **_PYTHON_TYPES[True],
    ".7z": "application/x-7z-compressed",
    ".avif": "image/avif",
    ".br": "application/x-brotli",
    ".bz2": "application/x-bzip2",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".log": "text/plain",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".mkv": "video/matroska",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".parquet": "application/vnd.apache.parquet",
    ".svgz": "application/gzip",
    ".tgz": "application/gzip",
    ".ts": "video/mp2t",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".z": "application/x-compress",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}


def check_name(name: str) -> str:
    """Return the name unchanged if a file may have it. Raises `InvalidName`, which says what is wrong.

    A name is valid UTF-8 of 1 to 1,024 bytes. It has no control character, backslash, U+FFFE, U+FFFF, leading
    slash or dot segment.
    """
    if not name:
        raise InvalidName("The file name is empty")
    _check_length(name, "The file name")
    if _FORBIDDEN.search(name):
        raise InvalidName(f"The file name contains {_FORBIDDEN_TEXT}")
    if name.startswith("/"):
        raise InvalidName("The file name begins with a slash")
    if not _DOT_SEGMENTS.isdisjoint(name.split("/")):
        raise InvalidName("The file name contains a dot segment ('.' or '..')")
    return name


def is_name(name: str) -> bool:
    try:
        check_name(name)
    except InvalidName:
        return False
    return True


def check_prefix(prefix: str, what: str = "The prefix") -> str:
    """Return the prefix unchanged if names can begin with it. Raises `InvalidName`."""
    _check_length(prefix, what)
    if _FORBIDDEN.search(prefix):
        raise InvalidName(f"{what} contains {_FORBIDDEN_TEXT}")
    return prefix


def _check_length(text: str, what: str) -> None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidName(f"{what} is not valid UTF-8") from None
    if length > MAX_NAME_BYTES:
        raise InvalidName(f"{what} is {length} bytes long; at most {MAX_NAME_BYTES} are allowed")


def guess_content_type(name: str) -> str:
    """The content type of the name's last extension. It is the same on every machine."""
    return _TYPES.get(posixpath.splitext(name)[1].lower(), UNKNOWN_TYPE)


def specific_content_type(name: str, kind: str) -> str:
    """The content type that a client sent, or the one of the name if a client sends it with any content."""
    return guess_content_type(name) if kind.partition(";")[0] in _UNSPECIFIC_TYPES else kind
