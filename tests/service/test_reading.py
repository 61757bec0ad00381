"""Reads of a file and what every answer says, by the rules of HTTP, over the store in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from s3api import failures, headers
from s3api.bodies import Body
from s3api.file_store import Conditions, OpenFile
from s3api.names import guess_content_type
from s3api.observability import _trace_id
from support.memory_store import MemoryStore

MakeClient = Callable[..., FlaskClient]
DATA = b"0123456789"
TAG = f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'
MODIFIED = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
WHEN = "Tue, 02 Jan 2024 03:04:05 GMT"
BEFORE, AFTER = "Tue, 02 Jan 2024 03:04:04 GMT", "Tue, 02 Jan 2024 03:04:06 GMT"
OTHER = '"other"'


@pytest.fixture
def file(store: MemoryStore) -> str:
    """A file that was stored a while ago."""
    _store(store, "a")
    return "/files/a"


def _store(store: MemoryStore, name: str, data: bytes = DATA, **kept: str) -> None:
    store.put(name, Body(io.BytesIO(data), len(data), 1 << 20), "text/plain", create_only=False)
    stored = store.objects[name]
    stored.file = dataclasses.replace(stored.file, last_modified=MODIFIED)
    stored.kept = {key.replace("_", "-"): value for key, value in kept.items()}


def _names(given: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}


# --- conditions: RFC 9110, section 13


@pytest.mark.parametrize(
    ("given", "status"),
    [
        # 13.1.1: a strong comparison, of each tag of the list
        ({"If_Match": TAG}, 200),
        ({"If_Match": f"{OTHER} , {TAG}"}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": OTHER}, 412),
        ({"If_Match": f"W/{TAG}"}, 412),
        ({"If_Match": TAG.strip('"')}, 412),
        # 13.1.2: a weak one
        ({"If_None_Match": TAG}, 304),
        ({"If_None_Match": f"W/{TAG}"}, 304),
        ({"If_None_Match": f'"a,b",{OTHER},, {TAG}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": f"{OTHER}, W/{OTHER}"}, 200),
        # 13.1.3 and 13.1.4
        ({"If_Modified_Since": WHEN}, 304),
        ({"If_Modified_Since": AFTER}, 304),
        ({"If_Modified_Since": BEFORE}, 200),
        ({"If_Unmodified_Since": WHEN}, 200),
        ({"If_Unmodified_Since": BEFORE}, 412),
        # 13.2.2: a tag is looked at instead of a date; and what must hold comes first
        ({"If_Match": TAG, "If_Unmodified_Since": BEFORE}, 200),
        ({"If_None_Match": OTHER, "If_Modified_Since": WHEN}, 200),
        ({"If_None_Match": TAG, "If_Modified_Since": BEFORE}, 304),
        ({"If_Match": OTHER, "If_None_Match": TAG}, 412),
        ({"If_Match": TAG, "If_None_Match": TAG}, 304),
        ({"If_Unmodified_Since": BEFORE, "If_None_Match": TAG}, 412),
        # 13.1.5 and 13.2.2, step 5: a range comes after all conditions
        ({"Range": "bytes=5-", "If_Range": TAG}, 206),
        ({"Range": "bytes=5-", "If_Range": f"W/{TAG}"}, 200),
        ({"Range": "bytes=5-", "If_Range": OTHER}, 200),
        ({"Range": "bytes=5-", "If_Range": WHEN}, 206),
        ({"Range": "bytes=5-", "If_Range": AFTER}, 200),
        ({"Range": "bytes=5-", "If_Range": BEFORE}, 200),
        ({"Range": "bytes=5-", "If_Range": TAG, "If_Match": OTHER}, 412),
        ({"Range": "bytes=5-", "If_Range": OTHER, "If_None_Match": TAG}, 304),
        ({"Range": "bytes=5-", "If_None_Match": TAG}, 304),
        ({"Range": "bytes=5-", "If_None_Match": OTHER}, 206),
        ({"Range": "bytes=99-", "If_Range": TAG}, 416),
        ({"Range": "bytes=99-", "If_Range": OTHER}, 200),
        ({"If_Range": TAG}, 200),
    ],
)
def test_conditions(client: FlaskClient, file: str, given: dict[str, str], status: int) -> None:
    """GET answers by RFC 9110, sections 13.1 and 13.2.2; HEAD does too, but for ranges (section 14.2)."""
    got = client.get(file, headers=_names(given))
    head = client.head(file, headers=_names(given))

    assert got.status_code == status
    assert got.status_code not in (200, 206) or got.data == (DATA if status == 200 else DATA[5:])
    assert head.status_code == (200 if status in (206, 416) else status)
    assert head.data == b""


def test_a_date_within_its_second_is_weak(client: FlaskClient, store: MemoryStore) -> None:
    """RFC 9110, section 8.8.2.2: a file may change again in the second in which it was stored."""
    _store(store, "a")
    stored = store.objects["a"]
    ahead = datetime.now(UTC) + timedelta(minutes=1)
    stored.file = dataclasses.replace(stored.file, last_modified=ahead)
    modified = client.head("/files/a").headers["Last-Modified"]

    assert client.get("/files/a", headers={"Range": "bytes=1-", "If-Range": modified}).status_code == 200


def test_a_file_replaced_meanwhile_is_looked_at_again(
    client: FlaskClient, store: MemoryStore, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A condition that held for one file never serves another."""
    real, looks = store.open, []

    def replace_after_the_look(name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
        opened = real(name, conditions, with_body=with_body)
        if not with_body:
            looks.append(name)
            if len(looks) == 1:
                _store(store, name, b"abcdefghij")
        return opened

    monkeypatch.setattr(store, "open", replace_after_the_look)
    resumed = client.get(file, headers={"Range": "bytes=5-", "If-Range": TAG})

    assert (resumed.status_code, resumed.data, len(looks)) == (200, b"abcdefghij", 2)


def test_a_file_that_is_always_replaced_is_503(
    client: FlaskClient, store: MemoryStore, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking again has an end."""
    real = store.open

    def never_the_same(name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
        if with_body:
            raise failures.FileChanged("The file does not match")
        return real(name, conditions, with_body=with_body)

    monkeypatch.setattr(store, "open", never_the_same)
    answer = client.get(file, headers={"If-None-Match": OTHER})

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_a_304_says_what_its_200_would(client: FlaskClient, store: MemoryStore) -> None:
    """A 304 has the headers of its 200, which a cache keeps: RFC 9110, 15.4.5; RFC 9111, section 3.2."""
    _store(store, "a", Cache_Control="max-age=60")
    whole = client.get("/files/a").headers
    for given in ({"If-None-Match": TAG}, {"If-None-Match": f"{OTHER}, {TAG}"}, {"If-Modified-Since": WHEN}):
        unmodified = client.get("/files/a", headers=given)

        assert unmodified.status_code == 304
        for header in ("ETag", "Cache-Control", "Content-Security-Policy"):
            assert unmodified.headers[header] == whole[header]


# --- ranges: RFC 9110, sections 14.1.2, 14.2 and 15.5.17


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_416_says_how_long_the_file_is(client: FlaskClient, file: str, asked: str) -> None:
    """RFC 9110, section 15.5.17: `Content-Range: bytes */N`."""
    answer = client.get(file, headers={"Range": asked})

    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */10"
    assert answer.get_json()["content"] == {"size": 10}


@pytest.mark.parametrize("asked", ["bytes=-5", "bytes=0-", "bytes=0-0"])
def test_an_empty_file_satisfies_no_range(
    client: FlaskClient, store: MemoryStore, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any range of an empty file is 416, also if the store answers with the empty file: RFC 9110, 14.1.2."""
    _store(store, "empty", b"")
    for _ in range(2):
        answer = client.get("/files/empty", headers={"Range": asked})
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */0")
        real = store.open
        monkeypatch.setattr(
            store, "open", lambda name, _, real=real, **more: real(name, Conditions(), **more)
        )


def test_several_ranges_are_the_whole_file(client: FlaskClient, file: str) -> None:
    """RFC 9110, section 14.2: a server may ignore Range; it ignores several at once."""
    answer = client.get(file, headers={"Range": "bytes=0-1,4-5"})

    assert (answer.status_code, answer.data) == (200, DATA)


# --- what a file was stored with


def test_what_a_file_was_stored_with_comes_back(client: FlaskClient, store: MemoryStore) -> None:
    """RFC 9110, section 8.4: bytes that are stored with a coding are of no use without its name."""
    _store(store, "a", Content_Encoding="gzip", Content_Language="de", Cache_Control="max-age=5")
    got = client.get("/files/a")

    assert (got.headers["Content-Encoding"], got.headers["Content-Language"]) == ("gzip", "de")
    assert got.headers["Cache-Control"] == "max-age=5"
    assert client.head("/files/a").headers["Content-Encoding"] == "gzip"


def test_what_no_header_can_hold_is_left_out(client: FlaskClient, store: MemoryStore) -> None:
    """Another client of S3 may have stored anything."""
    _store(store, "a", Content_Encoding="gz\u00e9ip", Content_Language="x" * 2000, Cache_Control="a b;;")
    got = client.get("/files/a")

    assert "Content-Encoding" not in got.headers
    assert "Content-Language" not in got.headers
    assert got.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ("public, max-age=60", "private, max-age=60"),
        ("PUBLIC, S-MaxAge=9, immutable", "private, immutable"),
        ("must-revalidate", "private, must-revalidate"),
        ('private="x, public", no-store', "private, no-store"),
        ("no-store", "private, no-store"),
    ],
)
def test_what_needs_a_token_is_in_no_shared_cache(
    make_client: MakeClient, store: MemoryStore, stored: str, sent: str
) -> None:
    """RFC 9111, section 3.5: `public`, `s-maxage` and `must-revalidate` would let a shared cache keep it."""
    entry = {"name": "t", "verbs": ["read"], "prefix": "", "sha256": hashlib.sha256(b"secret").hexdigest()}
    client = make_client(allow_anonymous=False, api_tokens=[entry])
    _store(store, "a", Cache_Control=stored)
    answer = client.get("/files/a", headers={"Authorization": "Bearer secret"})

    assert answer.headers["Cache-Control"] == sent


@pytest.mark.parametrize(
    ("kind", "stored", "sent"),
    [
        ("text/plain", 'attachment; filename="b.txt"', 'attachment; filename="b.txt"'),
        ("text/plain", 'inline; filename="b.txt"', 'inline; filename="b.txt"'),
        ("text/html", 'inline; filename="b.html"', 'attachment; filename="b.html"'),
        ("image/svg+xml", "INLINE", 'attachment; filename="a"'),
        ("text/plain", "something", 'attachment; filename="a"'),
        ("text/plain", "inline; filename*=UTF-8''..%2F..", 'inline; filename="a"'),
        ("text/plain", "inline; filename*=UTF-8''a%0D%0AX:1", 'inline; filename="a"'),
        ("text/plain", 'inline; filename="/etc/passwd"', 'inline; filename="passwd"'),
    ],
)
def test_a_stored_disposition_never_shows_a_page(
    client: FlaskClient, store: MemoryStore, kind: str, stored: str, sent: str
) -> None:
    """It may rename the file or make a download of it, through the service and in the presigned URL alike."""
    _store(store, "a", Content_Disposition=stored)
    store.objects["a"].content_type = kind
    url = client.get("/download/a").get_json()["content"]

    assert client.get("/files/a").headers["Content-Disposition"] == sent
    assert parse_qs(urlsplit(url).query)["disposition"] == [sent]


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "text/html;", "TEXT/HTML", "application/xml"])
@pytest.mark.parametrize("query", ["", "?redirect=true", "?check=false", "?check=false&redirect=true"])
def test_a_presigned_page_under_a_harmless_name(
    client: FlaskClient, store: MemoryStore, kind: str, query: str
) -> None:
    """The URL makes a download of it, or makes S3 answer with the harmless type that was judged."""
    _store(store, "a.png")
    store.objects["a.png"].content_type = kind
    for method in ("GET", "HEAD"):
        answer = client.open(f"/download/a.png{query}", method=method)
        if method == "GET" or "redirect" in query:
            url = answer.headers.get("Location") or answer.get_json()["content"]
            signed = parse_qs(urlsplit(url).query)
            shown = signed["disposition"][0].startswith("inline")
            assert not shown or signed["type"] == ["image/png"]


# --- the guess of a type


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("log.txt.gz", "application/gzip"),
        ("page.html.GZ", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.tar.bz2", "application/x-bzip2"),
        ("a.svg.xz", "application/x-xz"),
        ("a.csv.zst", "application/zstd"),
        ("a.html.br", "application/x-brotli"),
        ("a.svgz", "application/gzip"),
        ("a.txt.Z", "application/x-compress"),
        ("a.ts", "video/mp2t"),
        ("a.txt", "text/plain"),
        ("a.csv", "text/csv"),
        ("a.webp", "image/webp"),
        ("data:text/html,a", "application/octet-stream"),
        ("a.html?b.txt", "text/plain"),
        ("x.html/y", "application/octet-stream"),
        (".html", "application/octet-stream"),
    ],
)
def test_guessed_type(name: str, kind: str) -> None:
    """By the last extension of the name alone; IANA's media types, and RFC 6713 for gzip."""
    assert guess_content_type(name) == kind


# --- what every parser takes


@pytest.mark.parametrize(
    "date",
    [
        "9999999999",
        "Mon, 01 Jan 9999999999 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 99 Jan 2024 00:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 01 Jan 2024 00:00:00 +9999999999",
    ],
)
@pytest.mark.parametrize("path", ["/", "/files/a", "/ui", "/ui/ui.js", "/docs", "/openapi.json", "/nothing"])
@pytest.mark.usefixtures("file")
def test_a_date_outside_the_calendar(client: FlaskClient, path: str, date: str) -> None:
    """RFC 9110, section 13.1.3: it is ignored, on every route; a date far ahead is a date."""
    for header in ("If-Modified-Since", "If-Unmodified-Since", "If-Range", "Date"):
        for method in ("GET", "HEAD"):
            given = {header: date, "Range": "bytes=0-"}
            answer = client.open(path, method=method, headers=given)
            assert answer.status_code in (200, 206, 304, 404), (method, header, answer.status_code)


@pytest.mark.parametrize("path", ["/uploads", "/delete", "/uploads/a/parts"])
def test_deeply_nested_json(client: FlaskClient, path: str) -> None:
    """It is a 400 as any other JSON that does not fit: RFC 8259, section 9, lets a parser limit the depth."""
    for body in (b"[" * 1500, b"[" * 1000 + b"]" * 1000, b'{"a":' * 900):
        answer = client.post(path, data=body, content_type="application/json")
        assert (answer.status_code, answer.get_json()["status"]) == (400, 400)


@pytest.mark.parametrize("limit", ["\uff11", "\u0661", "1e1", "0x1", "", "-1", "9" * 30])
def test_a_limit_that_is_no_number(client: FlaskClient, limit: str) -> None:
    """Digits are those of ASCII."""
    assert client.get("/list_files", query_string={"limit": limit}).status_code == 400


# --- the request target and the query


@pytest.mark.parametrize("wrong", [*'#"<>^`{|}[]\\', "%", "%zz", "%2", "\xe9"])
@pytest.mark.parametrize(
    "where", ["/files/a{}", "/list_files?prefix={}", "/ui{}", "http://localhost/files/a{}"]
)
def test_a_target_that_is_none(client: FlaskClient, wrong: str, where: str) -> None:
    """RFC 9112, section 3.2: an invalid request line is a 400; RFC 3986, section 3.3, has the characters."""
    answer = client.get("/files/a", environ_overrides={"RAW_URI": where.format(wrong)})

    assert answer.status_code == 400
    assert "percent-encoded" in answer.get_json()["message"]


ROUTES = [
    ("GET", "/", "it knows none"),
    ("GET", "/livez", "it knows none"),
    ("GET", "/readyz", "it knows none"),
    ("GET", "/ui", "it knows none"),
    ("GET", "/openapi.json", "it knows none"),
    ("GET", "/list_files", "it knows prefix, delimiter, contains, limit, cursor, details"),
    ("GET", "/download/a", "it knows redirect, attachment, check"),
    ("GET", "/files/a", "it knows none"),
    ("HEAD", "/files/a", ""),
    ("PUT", "/upload/b", "it knows none"),
    ("POST", "/upload", "it knows none"),
    ("POST", "/uploads", "it knows none"),
    ("POST", "/delete", "it knows none"),
    ("DELETE", "/delete/a", "it knows none"),
    ("POST", "/restore/a", "it knows version, overwrite"),
    ("POST", "/uploads/a/complete", "it knows none"),
    ("DELETE", "/uploads/a", "it knows none"),
]


@pytest.mark.parametrize(("method", "path", "known"), ROUTES)
@pytest.mark.usefixtures("file")
def test_an_unknown_parameter(
    client: FlaskClient, store: MemoryStore, method: str, path: str, known: str
) -> None:
    """It is refused by name before anything is done, and the answer lists what the route knows."""
    answer = client.open(f"{path}?Prefix=x&versionId=1", method=method)

    assert answer.status_code == 400
    assert list(store.objects) == ["a"]
    if method != "HEAD":
        message = answer.get_json()["message"]
        assert "'Prefix'" in message
        assert known in message


def test_a_parameter_given_twice(client: FlaskClient) -> None:
    """One of the two would be ignored."""
    answer = client.get("/list_files?prefix=a&limit=1&prefix=b")

    assert (answer.status_code, "'prefix' is given 2 times" in answer.get_json()["message"]) == (400, True)


@pytest.mark.parametrize("query", ["limit=5", "delimiter=/", "cursor=x", "details=true"])
def test_a_parameter_that_lines_have_no_use_for(client: FlaskClient, query: str) -> None:
    """The whole listing in JSON lines has no pages, folders or names alone."""
    answer = client.get(f"/list_files?{query}", headers={"Accept": "application/x-ndjson"})

    assert answer.status_code == 400
    assert "it knows prefix" in answer.get_json()["message"]


# --- caches


@pytest.mark.parametrize(
    "path",
    ["/", "/livez", "/readyz", "/healthz", "/list_files", "/download/a", "/download/a?redirect=true",
     "/download/b", "/files/b", "/nothing", "/list_files?limit=0"],
)  # fmt: skip
@pytest.mark.usefixtures("file")
def test_json_is_in_no_cache(client: FlaskClient, path: str) -> None:
    """RFC 9111, section 4.2.2: without a word a cache may store by a guess, also a 404 or 302."""
    assert client.get(path).headers["Cache-Control"] == "no-store"


def test_a_listing_varies_with_accept(client: FlaskClient) -> None:
    """Both forms of a listing have Vary and `no-store`: RFC 9110, section 12.5.5."""
    for accept in ("application/json", "application/x-ndjson"):
        answer = client.get("/list_files", headers={"Accept": accept})
        assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Accept", "no-store")


# --- HEAD


@pytest.mark.usefixtures("file")
def test_head_redirects_to_where_head_works(client: FlaskClient) -> None:
    """A presigned URL is good for the one method that was signed (AWS: Signature Version 4)."""

    def method_of(url: str) -> list[str]:
        return parse_qs(urlsplit(url).query)["method"]

    assert method_of(client.head("/download/a?redirect=true").headers["Location"]) == ["HEAD"]
    assert method_of(client.get("/download/a?redirect=true").headers["Location"]) == ["GET"]


# --- the log


@pytest.mark.parametrize(
    ("value", "trace"),
    [
        (f"00-{'a1' * 16}-{'b2' * 8}-01", "a1" * 16),
        (f"cc-{'a1' * 16}-{'b2' * 8}-01-more", "a1" * 16),
        (f"00-{'a1' * 16}-{'b2' * 8}-01-more", None),
        (f"ff-{'a1' * 16}-{'b2' * 8}-01", None),
        (f"00-{'0' * 32}-{'b2' * 8}-01", None),
        (f"00-{'a1' * 16}-{'0' * 16}-01", None),
        (f"00-{'A1' * 16}-{'b2' * 8}-01", None),
        ("", None),
    ],
)
def test_trace_id(value: str, trace: str | None) -> None:
    """W3C Trace Context, section 3.2: only a valid header is used."""
    assert _trace_id(value) == trace


def test_entity_tags() -> None:
    """RFC 9110, sections 5.6.1 and 8.8.3: lists may have empty elements, and tags commas."""
    assert headers.entity_tags(None) is None
    assert headers.entity_tags(' , "a,b" ,W/"c",') == frozenset(['"a,b"', 'W/"c"'])
    assert headers.entity_tags("*") == frozenset("*")
    for invalid in ("", "a", '"a" "b"', '"a', 'w/"a"', '*, "a"'):
        assert headers.entity_tags(invalid) == frozenset()
