"""Uploads with any mixture of headers: the answer says what happened."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from s3api import headers, write_headers
from support.servers import Service

SOME = settings(max_examples=150, derandomize=os.environ.get("CI") == "true")
OLD = b"what was there"
OLD_ETAG = f'"{hashlib.md5(OLD, usedforsecurity=False).hexdigest()}"'
#: Of header values anything but line breaks can be sent; werkzeug reads it as Latin-1.
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
DATES = st.sampled_from(["Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "9999999999", "x"])


def _digests(data: bytes) -> st.SearchStrategy[str]:
    def said(algorithm: str) -> str:
        return base64.b64encode(hashlib.new(algorithm, data, usedforsecurity=False).digest()).decode()

    return st.sampled_from(
        [
            f"sha-256=:{said('sha256')}:",
            f"sha-512=:{said('sha512')}:, unixsum=:AAAA:",
            f"SHA-256={said('sha256')},md5={said('md5')}",
            said("md5"),
        ]
    )


BODIES = st.sampled_from([b"", b"new", b"n" * 100_000])
CODINGS = st.sampled_from(["gzip", "identity", "GZIP, br", "aws-chunked", ",", "x" * 300])
ETAGS = st.sampled_from([OLD_ETAG, f"W/{OLD_ETAG}", '"other"', "*", f"{OLD_ETAG}, {OLD_ETAG}"])


@st.composite
def uploads(draw: st.DrawFn) -> tuple[bytes, bool, dict[str, str]]:
    """A body, whether it is chunked, and headers."""
    data = draw(BODIES)
    kinds: dict[str, st.SearchStrategy[str]] = {
        **dict.fromkeys(write_headers.PRECONDITIONS[:2], ETAGS | TEXT),
        "If-Unmodified-Since": DATES | TEXT,
        "If-Modified-Since": DATES | TEXT,
        **dict.fromkeys(headers.DIGESTS, _digests(data) | _digests(b"other") | TEXT),
        "Content-Encoding": CODINGS | TEXT,
        "Content-Language": st.sampled_from(["de", "de, pt-BR", "-", "x" * 300]) | TEXT,
        "Content-Type": st.sampled_from(["text/plain", "Multipart/Form-Data; boundary=x", "a"]) | TEXT,
        "Content-Range": TEXT,
        "Range": TEXT,
        "Prefer": TEXT,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=3, unique=True))
    return data, draw(st.booleans()), {name: draw(kinds[name]).strip() for name in chosen}


def _pieces(data: bytes) -> Iterator[bytes]:
    yield from (data[start : start + 30_000] for start in range(0, len(data), 30_000))


def _put(service: Service, data: bytes, given: Mapping[str, str], *, chunked: bool) -> Any:
    sent: Any = _pieces(data) if chunked else data
    return requests.put(service.at("/upload/", "fuzzed"), data=sent, headers=dict(given), timeout=60)


@SOME
@given(uploads())
def test_an_upload_is_stored_whole_or_refused(ministack_service: Service, sent: tuple[Any, ...]) -> None:
    """200 means that the file is the body; anything else is a 4xx, and the file is as it was."""
    data, chunked, given = sent
    requests.put(ministack_service.at("/upload/", "fuzzed"), data=OLD, timeout=60).raise_for_status()
    answer = _put(ministack_service, data, given, chunked=chunked)
    read = requests.get(
        ministack_service.at("/files/", "fuzzed"),
        headers={"Accept-Encoding": "identity"},
        timeout=60,
        stream=True,
    )
    found = read.raw.read(decode_content=False)

    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, answer.text
        assert found == OLD
        return
    assert found == data
    assert "Content-Range" not in given
    assert given.get("If-Match", OLD_ETAG) == OLD_ETAG
    assert "If-None-Match" not in given
    for header in set(headers.DIGESTS).intersection(given):
        known = headers.digests(header, given[header])
        assert known
        for algorithm, digest in known.items():
            name = algorithm.replace("-", "")
            assert hashlib.new(name, data, usedforsecurity=False).hexdigest() == digest


@pytest.mark.parametrize("header", write_headers.UNSUPPORTED_IN_WRITES)
def test_an_empty_value_is_refused_too(ministack_service: Service, header: str) -> None:
    """A header that changes the meaning is refused by its name, whatever its value."""
    answer = requests.put(
        ministack_service.at("/upload/", "refused"), data=b"x", headers={header: ""}, timeout=60
    )

    assert answer.status_code == 400
    assert header in answer.json()["message"]
