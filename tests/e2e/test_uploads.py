"""Raw uploads: lengths, conditions, digests, limits."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest

from e2e.api import Api, good, refused, sha256


def _digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def test_known_length(api: Api, bucket: str, course_file: bytes) -> None:
    """A raw body is stored unchanged."""
    name = api.name("raw.csv")
    body = good(api.call("PUT", "/upload/", name, data=course_file))

    assert body["message"] == f"Successfully uploaded '{name}' to the bucket '{bucket}'"
    assert body["content"][0]["sha256"] == sha256(course_file)
    assert api.call("GET", "/files/", name).content == course_file


@pytest.mark.parametrize("size", [0, 1, 2_600_000, 9 * 1024 * 1024])
def test_unknown_length(api: Api, size: int) -> None:
    """A body in chunks, of unknown length, is stored unchanged."""
    name = api.name("chunked.bin")
    data = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
    body = good(api.call("PUT", "/upload/", name, data=_chunks(data)))
    fetched = api.call("GET", "/files/", name)

    assert (body["content"][0]["size"], body["content"][0]["sha256"]) == (size, sha256(data))
    assert sha256(fetched.content) == sha256(data)


def test_create_only(api: Api) -> None:
    """`If-None-Match: *` creates a file and never replaces one."""
    name = api.name("once.txt")
    first = api.call("PUT", "/upload/", name, data=b"first", headers={"If-None-Match": "*"})
    second = api.call("PUT", "/upload/", name, data=b"second", headers={"If-None-Match": "*"})
    chunked = api.call("PUT", "/upload/", name, data=_chunks(b"third"), headers={"If-None-Match": "*"})

    good(first)
    refused(second, 412, "file_exists")
    refused(chunked, 412, "file_exists")
    assert api.call("GET", "/files/", name).content == b"first"


def test_replaced(api: Api) -> None:
    """Without a condition an upload replaces an existing file."""
    name = api.name("twice.txt")
    api.put(name, b"first")
    api.put(name, b"second")

    assert api.call("GET", "/files/", name).content == b"second"


def test_good_digest(api: Api) -> None:
    """A digest that matches changes nothing."""
    name = api.name("digest.txt")
    stored = api.put(name, b"body", **{"Content-Digest": _digest(b"body")})

    assert stored["sha256"] == sha256(b"body")


@pytest.mark.parametrize("chunked", [False, True])
def test_bad_digest(api: Api, chunked: bool) -> None:
    """A digest that does not match stores nothing."""
    name = api.name("digest.txt")
    data = b"another body"
    headers = {"Content-Digest": _digest(b"body")}
    answer = api.call("PUT", "/upload/", name, data=_chunks(data) if chunked else data, headers=headers)

    refused(answer, 400, "digest_mismatch")
    assert not api.exists(name)


def test_bad_digest_keeps_what_was_there(api: Api) -> None:
    """A refused upload leaves the file as it was."""
    name = api.name("kept.txt")
    api.put(name, b"good")
    answer = api.call("PUT", "/upload/", name, data=b"bad", headers={"Content-Digest": _digest(b"x")})

    refused(answer, 400, "digest_mismatch")
    assert api.call("GET", "/files/", name).content == b"good"


def test_digest_that_is_none(api: Api) -> None:
    """An invalid Content-Digest is refused, not ignored."""
    answer = api.call("PUT", "/upload/", api.name("a"), data=b"x", headers={"Content-Digest": "md5=:AA==:"})

    refused(answer, 400, "bad_request")
    assert not api.exists(api.name("a"))


def test_too_large(api: Api) -> None:
    """A body whose announced length is above the limit is refused before it is sent."""
    answer = api.raw("PUT", f"/upload/{api.name('huge')}", {"Content-Length": str(2**60)})

    refused(answer, 413, "file_too_large")
    assert not api.exists(api.name("huge"))


def test_content_type(api: Api) -> None:
    """A file keeps the content type it was sent with, or gets that of its name."""
    given, guessed = api.name("given"), api.name("guessed.png")
    api.put(given, b"x", **{"Content-Type": "text/x-own; charset=utf-8"})
    api.put(guessed, b"x")

    assert api.call("HEAD", "/files/", given).headers["Content-Type"] == "text/x-own; charset=utf-8"
    assert api.call("HEAD", "/files/", guessed).headers["Content-Type"] == "image/png"
