"""Any bytes in the values that the service decodes: never a 500."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from s3api import headers
from s3api.app import create_app
from s3api.bodies import Body
from support.memory_store import MemoryStore
from support.stores import settings_for

MANY = settings(max_examples=settings().max_examples * 6 // 10, derandomize=os.environ.get("CI") == "true")

#: What RFC 9110 allows in a value, and gunicorn lets through: all bytes except control characters.
BYTES = st.characters(codec="latin-1", exclude_characters="\x7f", exclude_categories=["Cc"])
#: Pieces that decoders look for, so that examples come far enough to break one.
PIECES = st.sampled_from(
    [
        *'-=:,;"\\*%[ \téÿ²', "sha-256=", "W/", "bytes=", "GMT", "Mon, 01 Jan ", "0001", "10000", "00:00:00",
        "9" * 400, "text/plain", "application/x-ndjson", "multipart/form-data", "boundary=", "q=", "charset=",
        "utf-8''%ff", "Bearer ", "http://", "null", "s3api_", "chunked",
    ]
)  # fmt: skip
VALUES = st.lists(st.one_of(PIECES, st.text(BYTES, max_size=8)), max_size=8).map("".join)

#: The lengths of digests in bytes.
SIZES = (("md5", 16), ("sha-256", 32), ("sha-512", 64))

READ = ["Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"]
WRITTEN = ["Content-Digest", "Content-Type", "If-None-Match", "If-Match", "Transfer-Encoding"]
ALWAYS = [
    "Accept", "Authorization", "Host", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "X-Request-Id", "Cookie",
    "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Content-Length", "Content-Type",
]  # fmt: skip
CALLS = [
    *(("GET", "/files/a", header) for header in READ),
    *(("HEAD", "/files/a", header) for header in READ),
    *(("PUT", "/upload/a", header) for header in WRITTEN),
    *(("GET", "/list_files", header) for header in ALWAYS),
    *(("POST", path, "Content-Type") for path in ("/upload", "/uploads", "/delete", "/uploads/a/parts")),
    ("GET", "/ui/ui.js", "If-None-Match"),
    ("GET", "/ui/ui.js", "If-Modified-Since"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    store = MemoryStore()
    store.put("a", Body(io.BytesIO(b"0123456789"), 10, 100), "text/plain", create_only=False)
    directory: Path = tmp_path_factory.mktemp("headers")
    app = create_app(settings_for(directory, trusted_proxy_hops=1, host="0.0.0.0"), store)
    return app.test_client()


def wsgi(header: str) -> str:
    """The header's name in a WSGI environment, which passes any value unchanged."""
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"


@pytest.mark.parametrize(("method", "path", "header"), CALLS)
@MANY
@given(value=VALUES)
@example("sha-256=:ÿ:")
@example("sha-256=:=:")
@example("Mon, 01 Jan 10000 00:00:00 GMT")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("bytes=" + "9" * 5000 + "-")
@example("multipart/form-data; boundary*=utf-8''%E2%82%AC")
@example("multipart/form-data; boundary=" + "b" * 5000)
@example('"' + "a" * 5000)
def test_any_header(client: Any, method: str, path: str, header: str, value: str) -> None:
    """Whatever a header holds, the answer is one of the service's own, and never a 500."""
    data = b"{}" if method in ("PUT", "POST") else None
    answer = client.open(path, method=method, data=data, environ_overrides={wsgi(header): value})

    assert answer.status_code < 500, answer.text
    assert len(answer.headers["X-Request-Id"]) <= 128


@MANY
@given(
    name=st.sampled_from(["prefix", "delimiter", "limit", "cursor", "details", "check", "x"]),
    value=st.binary(),
)
@example("limit", b"9" * 5000)
@example("cursor", b".eJw" + b"A" * 5000)
@example("cursor", b"\xff")
def test_any_query(client: Any, name: str, value: bytes) -> None:
    """Whatever a query holds, encoded or not, never a 500; the refusal does not grow with it."""
    for path in ("/list_files", "/download/a"):
        for text in ("".join(f"%{byte:02x}" for byte in value), value.decode("latin-1")):
            answer = client.get(path, environ_overrides={"QUERY_STRING": f"{name}={text}"})

            assert answer.status_code < 500, answer.text
            assert answer.status_code == 200 or len(answer.data) < 1000


@MANY
@given(st.binary(min_size=1))
@example(b".eJw" + b"A" * 5000)
@example(b"a.b.c")
@example(b"W10.aaaaaa.AAAAAAAAAAAAAAAAAAAAAAAAAAA")
def test_any_upload_id(client: Any, value: bytes) -> None:
    """Any invalid upload id is 404, and the answer does not grow with it."""
    for method, rest in (("GET", "/parts"), ("POST", "/complete"), ("DELETE", "")):
        path = f"/uploads/{value.decode('latin-1')}{rest}"
        answer = client.open("/", method=method, environ_overrides={"PATH_INFO": path})

        assert answer.status_code in (400, 404, 405), answer.text
        assert len(answer.data) < 1000


@MANY
@given(header=st.sampled_from(["Content-Disposition", "Content-Type", "Content-Length", "X"]), value=VALUES)
@example("Content-Disposition", "form-data; name=file; filename*=utf-8''%ff")
@example("Content-Disposition", "form-data; name=file; filename*=nothing''%ff")
@example("Content-Length", "9" * 5000)
def test_any_header_of_a_part(client: Any, header: str, value: str) -> None:
    """Any headers of a form's part: never a 500."""
    others = {"Content-Disposition": 'form-data; name="file"; filename="b"'}
    head = "\r\n".join(f"{name}: {text}" for name, text in {**others, header: value}.items())
    body = f"--b\r\n{head}\r\n\r\nx\r\n--b--\r\n".encode("latin-1")
    answer = client.post("/upload", data=body, content_type="multipart/form-data; boundary=b")

    assert answer.status_code < 500, answer.text


# --- the decoders themselves

TOKENS = st.text(st.sampled_from("abzAZ09!#$%&'*+.^_`|~-"), min_size=1, max_size=8)
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8)


@MANY
@given(VALUES)
def test_a_canonical_type_stays(value: str) -> None:
    """The result is one type, in visible ASCII on one line, in lower case, and canonical."""
    found = headers.media_type(value)

    if found is not None:
        assert found.isascii()
        assert found.isprintable()
        assert headers.media_type(found) == found
        assert re.match(r"[^/,; ]+/[^/,; ]+(;|$)", found)


@MANY
@given(kind=TOKENS, sub=TOKENS, name=TOKENS, value=TEXTS, spaces=st.sampled_from(["", " ", "\t "]))
def test_a_type_keeps_its_meaning(kind: str, sub: str, name: str, value: str, spaces: str) -> None:
    """Type, subtype and parameter are those that were given, however they were written."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    found = headers.media_type(f'{kind}/{sub}{spaces};{spaces}{name}="{quoted}"{spaces};')

    assert found is not None
    essence, _, parameter = found.partition("; ")
    assert essence == f"{kind}/{sub}".lower()
    given_name, _, given_value = parameter.partition("=")
    assert given_name == name.lower()
    assert given_value in (value, f'"{quoted}"')


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("a/b" + "; " * 120 + "!", None),
        ("a/b;" + " " * 250 + ";", "a/b"),
        ('a/b;c="' + "\\a" * 120, None),
        ("a/b" + "; \t" * 80 + "c", None),
    ],
    ids=["semicolons", "spaces", "escapes", "tabs"],
)
def test_a_type_is_read_in_linear_time(value: str, read: str | None) -> None:
    """Spaces and semicolons that could be split in many ways take no exponential time.

    Without possessive quantifiers, the pattern tries each way to divide the spaces of the first value and of
    the last one. That takes more than 2**80 steps and exceeds the timeout of a test, so the test measures no
    time.
    """
    assert headers.media_type(value) == read


@MANY
@given(st.binary(min_size=32, max_size=32), st.sampled_from(["", "unixsum=:AAAA:, ", " "]))
def test_a_digest_is_read(digest: bytes, before: str) -> None:
    """A digest is its 32 bytes in hex, among others too."""
    value = f"{before}sha-256=:{base64.b64encode(digest).decode()}:"

    assert headers.digests("Content-Digest", value) == {"sha-256": digest.hex()}


@pytest.mark.parametrize(
    "value",
    # RFC 9110, section 5.6.7
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_the_three_forms_of_a_date(value: str) -> None:
    """A date in each form that HTTP knows is the same moment."""
    found = headers.date(value)

    assert found is not None
    assert found.isoformat() == "1994-11-06T08:49:37+00:00"


@MANY
@given(VALUES)
def test_a_range_is_one_or_none(value: str) -> None:
    """A parsed range is a single one, of ASCII digits, that does not end before it begins."""
    found = headers.byte_range(value)

    if found is not None:
        assert re.fullmatch(r"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})", found, re.ASCII)
        first, _, last = found.removeprefix("bytes=").partition("-")
        assert not (first and last) or int(first) <= int(last)


def test_the_other_parser_agrees() -> None:
    """Values that browsers and curl send are read as the framework's lenient parser reads them."""
    for value in ("text/plain; charset=utf-8", 'text/plain; a="b c"', "image/png", "video/mp4; codecs=avc1"):
        found = headers.media_type(value)
        assert found is not None
        assert parse_options_header(found) == parse_options_header(value)


LANGUAGES = "abcdefgh-" * 28  # 252 characters


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (headers.media_type, "a/" + "b" * 253),
        (headers.content_encoding, "b" * 255),
        (headers.content_language, LANGUAGES + "abc"),
    ],
)
def test_a_value_has_a_longest_form(read: Any, value: str) -> None:
    """255 characters are read as they are, and one more is refused: S3 limits the metadata of a file."""
    assert len(value) == headers.MAX_MEDIA_TYPE == 255
    assert read(value) == value
    assert read(value + "b") is None


MD5 = "XrY7u+Ae7tCTyyK7j1rNww=="  # of b"hello world"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (MD5, {"md5": "5eb63bbbe01eeed093cb22bb8f5acdc3"}),
        (f" {MD5}\t", {"md5": "5eb63bbbe01eeed093cb22bb8f5acdc3"}),
        (MD5.replace("+", "+!"), None),
        (MD5.replace("+", "+ "), None),
        (MD5[4:], None),
        ("", None),
    ],
)
def test_a_content_md5_is_base64_of_16_bytes(value: str, found: dict[str, str] | None) -> None:
    """RFC 1864, section 2: base64 of 128 bits. Characters outside its alphabet are refused, not skipped."""
    assert headers.digests("Content-MD5", value) == found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"bytes={'9' * 18}-", f"bytes={'9' * 18}-"),
        (f"bytes=1{'0' * 18}-", f"bytes={'9' * 18}-"),
        (f"bytes=0-{'9' * 400}", f"bytes=0-{'9' * 18}"),
        (f"bytes=-{'0' * 400}7", "bytes=-7"),
    ],
)
def test_a_position_beyond_every_file(value: str, expected: str) -> None:
    """RFC 9110, section 14.1.1: a number has any length. S3 gets at most 18 digits, which every S3 parses."""
    assert headers.byte_range(value) == expected


@pytest.mark.parametrize(
    ("header", "form", "algorithm", "size"),
    [
        *((header, "{}=:{}:", *one) for header in ("Content-Digest", "Repr-Digest") for one in SIZES[1:]),
        *(("Digest", "{}={}", *one) for one in SIZES),
    ],
)
def test_a_digest_has_the_length_of_its_algorithm(header: str, form: str, algorithm: str, size: int) -> None:
    """RFC 9530 and RFC 3230: a digest of another length is not one of this algorithm."""

    def value(length: int) -> str:
        return form.format(algorithm, base64.b64encode(b"d" * length).decode())

    assert headers.digests(header, value(size)) == {algorithm: (b"d" * size).hex()}
    assert headers.digests(header, value(size - 1)) is None
    assert headers.digests(header, value(size + 1)) is None
