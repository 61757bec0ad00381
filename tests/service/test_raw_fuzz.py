"""Requests of any bytes over a socket: invalid HTTP is refused, and nothing is an internal error."""

from __future__ import annotations

import http.client
import os
import socket
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.raw_client import Answer, RawClient
from support.servers import Service

SOME = settings(max_examples=200, derandomize=os.environ.get("CI") == "true")
BYTES = st.binary(max_size=12)
METHODS = st.sampled_from([b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"get", b"TRACE"]) | BYTES
TARGETS = st.sampled_from(
    [
        b"/",
        b"/livez",
        b"/list_files?limit=1",
        b"/list_files?prefix=%ff",
        b"/files/fuzzed",
        b"/files/%2e%2e/a",
        b"/files/a#b",
        b"/upload",
        b"/upload/fuzzed",
        b"/delete",
        b"/uploads",
        b"*",
        b"http://evil.test/",
        b"//",
        b"/" + b"a" * 9000,
    ]
) | BYTES.map(lambda tail: b"/files/" + tail)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b""])
FIELDS = st.sampled_from(
    [
        b"Host: localhost",
        b"Host: evil.test",
        b"Content-Length: 3",
        b"Content-Length: -1",
        b"Content-Length: +3",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Expect: 100-continue",
        b"Expect: 200-ok",
        b"Range: bytes=0-",
        b"If-Range: 9999999999",
        b"If-Modified-Since: Mon, 01 Jan 99999 00:00:00 GMT",
        b"If-None-Match: \xff",
        b"Content-Type: application/json",
        b"Content-Type: multipart/form-data; boundary=\xff",
        b"Content-Encoding: gzip",
        b"Content-Digest: sha-256=:\xff:",
        b"Origin: null",
        b"Accept: application/x-ndjson;q=9",
        b"Connection: close, keep-alive",
        b"Upgrade: h2c",
        b" folded",
        b"No-Colon",
    ]
) | st.tuples(BYTES, BYTES).map(b": ".join)
BODIES = st.sampled_from(
    [b"", b"abc", b"{}", b"[" * 2000, b"3\r\nabc\r\n0\r\n\r\n", b"zz\r\n", b"ffffffffffffffff\r\na"]
)


@st.composite
def requests_of_any_bytes(draw: st.DrawFn) -> bytes:
    line = b" ".join([draw(METHODS), draw(TARGETS), draw(VERSIONS)])
    fields = [b"Host: localhost"] * draw(st.sampled_from([0, 1, 1, 1])) + draw(st.lists(FIELDS, max_size=6))
    return b"\r\n".join([line, *fields, b"", draw(BODIES | BYTES)])


def answers_to(service: Service, sent: bytes) -> list[Answer]:
    """All answers on one connection, whose sending side is closed after the bytes."""
    found: list[Answer] = []
    with RawClient(service.url) as client:
        client.send(sent)
        with suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
        client.socket.settimeout(20)
        stream = client.socket.makefile("rb")
        while True:
            try:
                start = stream.peek(1)
            except ConnectionResetError:
                return found
            if not start:
                return found
            method = "HEAD" if sent.startswith(b"HEAD ") else None
            response = http.client.HTTPResponse(_Buffered(stream), method=method)  # type: ignore[arg-type]
            response.begin()
            if response.status != 100:
                found.append(Answer(response.status, response.headers, response.read()))
                if response.headers["Connection"] == "close":
                    return found


class _Buffered:
    """A connection as `http.client` reads it, which leaves the next answer where it is."""

    def __init__(self, stream: object) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> object:
        return _Kept(self._stream)


class _Kept:
    """The stream, which stays open when an answer has been read."""

    def __init__(self, stream: object) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return (lambda: None) if name == "close" else getattr(self._stream, name)


@pytest.fixture(scope="module")
def service(ministack_service: Service) -> Service:
    return ministack_service


@SOME
@given(sent=requests_of_any_bytes())
@example(sent=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
@example(sent=b"PUT /upload/fuzzed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
def test_any_bytes_are_answered_or_refused(service: Service, sent: bytes) -> None:
    """RFC 9112: no request, whatever its bytes, is an internal error, and each refusal says why."""
    for answer in answers_to(service, sent):
        assert answer.status < 500 or answer.status in (501, 505), (answer.status, answer.body)
        if answer.status >= 400 and answer.body:
            told = answer.json()
            assert told["status"] == answer.status
            assert told["request_id"] == answer.headers["X-Request-Id"]


def test_a_whole_request_is_answered(service: Service) -> None:
    """What the generator sends is read as it is meant: two requests on one connection have two answers."""
    one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

    assert [answer.status for answer in answers_to(service, one + one)] == [200, 200]
