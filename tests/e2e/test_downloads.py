"""Downloads: presigned, and the bytes through the service."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pytest

from e2e.api import TIMEOUT, Api, good, refused

DATA = bytes(range(256)) * 40
AGE_TO_BE_DEAD = 30


def _changed(url: str, changes: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **changes}
    return urlunsplit(parts._replace(query=urlencode(query)))


# --- presigned


def test_presigned_file_is_a_download(api: Api) -> None:
    """A type that a browser must not show comes as an attachment with the file's name."""
    name = api.name("deep/page.html")
    api.put(name, b"<script>alert(1)</script>")
    fetched = api.s3("GET", good(api.call("GET", "/download/", name))["content"])

    assert fetched.content == b"<script>alert(1)</script>"
    assert fetched.headers["Content-Disposition"] == 'attachment; filename="page.html"'


def test_presigned_name_in_full(api: Api) -> None:
    """A name beyond ASCII comes in full, together with one that every client understands."""
    name = api.name("été 😀.txt")
    api.put(name, b"x")
    fetched = api.s3("GET", good(api.call("GET", "/download/", name))["content"])

    assert fetched.headers["Content-Disposition"] == (
        "inline; filename=\"_t_ _.txt\"; filename*=UTF-8''%C3%A9t%C3%A9%20%F0%9F%98%80.txt"
    )


def test_redirect(api: Api) -> None:
    """With `redirect=true` the answer redirects to the URL."""
    name = api.name("a.bin")
    api.put(name, DATA)
    answer = api.call("GET", "/download/", name, params={"redirect": "true"})
    fetched = api.s3("GET", answer.headers["Location"])

    assert (answer.status_code, fetched.content) == (302, DATA)
    assert answer.headers["Cache-Control"] == "no-store"


def test_attachment(api: Api) -> None:
    """With `attachment=true` the URL answers with a download, also of what a browser could show."""
    name = api.name("a.txt")
    api.put(name, DATA)
    answer = api.call("GET", "/download/", name, params={"attachment": "true"})
    fetched = api.s3("GET", good(answer)["content"])

    assert fetched.headers["Content-Disposition"] == 'attachment; filename="a.txt"'


def test_unchecked(api: Api) -> None:
    """With `check=false` S3 reports a missing file."""
    name = api.name("a.bin")
    api.put(name, DATA)
    urls = [
        good(api.call("GET", "/download/", asked, params={"check": "false"}))["content"]
        for asked in (name, api.name("missing.bin"))
    ]
    there, missing = (api.s3("GET", url) for url in urls)

    assert (there.status_code, there.content) == (200, DATA)
    assert missing.status_code == 404


def test_presigned_range(api: Api) -> None:
    """S3 serves a part of the file by the same URL."""
    name = api.name("a.bin")
    api.put(name, DATA)
    url = good(api.call("GET", "/download/", name))["content"]
    fetched = api.s3("GET", url, headers={"Range": "bytes=10-19"})

    assert (fetched.status_code, fetched.content) == (206, DATA[10:20])


@pytest.mark.parametrize(
    "changes",
    [
        {"X-Amz-Signature": "0" * 64},
        {"X-Amz-Expires": "604800"},
        {"X-Amz-Date": "20200101T000000Z"},
        {"response-content-disposition": "inline"},
    ],
    ids="".join,
)
def test_altered_url_is_dead(api: Api, changes: Mapping[str, str]) -> None:
    """S3 refuses a presigned URL if any part of it, including its expiry, was altered."""
    name = api.name("secret.html")
    api.put(name, b"secret")
    url = good(api.call("GET", "/download/", name))["content"]
    unchanged = api.s3("GET", _changed(url, {}))
    altered = api.s3("GET", _changed(url, changes))

    assert unchanged.content == b"secret"
    # 400 where the date is not that of the credential (AWS: AuthorizationQueryParametersError).
    assert altered.status_code in (400, 403)
    assert b"secret" not in altered.content.replace(b"secret.html", b"")


def test_url_of_another_file_is_dead(api: Api) -> None:
    """A presigned URL opens one file, and no other."""
    api.put(api.name("one.txt"), b"one")
    api.put(api.name("two.txt"), b"two")
    url = good(api.call("GET", "/download/", api.name("one.txt")))["content"]
    other = api.s3("GET", url.replace("one.txt", "two.txt", 1))

    assert other.status_code == 403


@pytest.mark.skipif(os.environ.get("S3API_WAIT_FOR_EXPIRY") != "1", reason="S3API_WAIT_FOR_EXPIRY is not 1")
def test_url_has_expired(url_from_the_start: tuple[Api, str, str]) -> None:
    """A presigned URL expires when the answer says."""
    api, url, expires_at = url_from_the_start
    dies = datetime.fromisoformat(expires_at).timestamp()
    while (answer := api.s3("GET", url)).status_code == 200:
        assert datetime.now(UTC).timestamp() < dies + AGE_TO_BE_DEAD, "the URL outlives what it said"
        time.sleep(1)

    assert answer.status_code in (400, 403)
    assert datetime.now(UTC).timestamp() > dies - AGE_TO_BE_DEAD


@pytest.mark.parametrize("name", ["page.txt", "page.png", "page", "page.html"])
@pytest.mark.parametrize("stored_as", ["text/html", "image/svg+xml", "application/xhtml+xml"])
def test_a_page_is_never_shown(api: Api, name: str, stored_as: str) -> None:
    """Types that a browser would run are downloads, from S3 and the service, whatever the name."""
    name = api.name(name)
    api.put(name, b"<script>alert(1)</script>", **{"Content-Type": stored_as})
    for query in ("", "?check=false"):
        url = good(api.session.get(f"{api.target.url}/download/{quote(name)}{query}", timeout=TIMEOUT))
        answer = api.s3("GET", url["content"])
        kind = answer.headers["Content-Type"].partition(";")[0]

        shown = answer.headers["Content-Disposition"].startswith("inline")
        assert not shown or kind in ("text/plain", "image/png")
    through = api.call("GET", "/files/", name)
    assert through.headers["Content-Disposition"].startswith("attachment")


def test_a_content_type_that_is_not_one(api: Api) -> None:
    """Two types in one header are refused: a browser may take the second."""
    name = api.name("x.txt")
    for kind in ("text/plain;charset=utf-8,text/html", "text/plain, text/html", "text"):
        answer = api.call("PUT", "/upload/", name, data=b"x", headers={"Content-Type": kind})

        refused(answer, 400, "invalid_content_type")
    assert not api.exists(name)


# --- through the service


@pytest.fixture
def stored(api: Api) -> tuple[str, str]:
    """A file, and its ETag in HTTP's form."""
    name = api.name("bytes.bin")
    return name, f'"{api.put(name, DATA)["etag"]}"'


def test_whole_file(api: Api, stored: tuple[str, str]) -> None:
    """The bytes come with what a cache and a careful browser need."""
    name, etag = stored
    answer = api.call("GET", "/files/", name)

    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["Content-Length"] == str(len(DATA))
    assert answer.headers["ETag"] == etag
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="bytes.bin"'
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Last-Modified"].endswith("GMT")


def test_head(api: Api, stored: tuple[str, str]) -> None:
    """HEAD answers as GET does, without the bytes."""
    name, _ = stored
    got, head = api.call("GET", "/files/", name), api.call("HEAD", "/files/", name)
    # A load balancer may change the case of headers' names.
    ignored = {"date", "x-request-id", "connection", "keep-alive", "server"}

    assert (head.status_code, head.content) == (200, b"")
    assert {k: v for k, v in head.headers.lower_items() if k not in ignored} == {
        k: v for k, v in got.headers.lower_items() if k not in ignored
    }
    assert api.call("HEAD", "/files/", api.name("none")).status_code == 404


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, 10_239),
        ("bytes=-10", 10_230, 10_239),
        ("bytes=10239-10239", 10_239, 10_239),
        ("bytes=10000-99999", 10_000, 10_239),
    ],
)
def test_range(api: Api, stored: tuple[str, str], wanted: str, first: int, last: int) -> None:
    """One range of bytes is served as 206, in each of its forms."""
    name, _ = stored
    answer = api.call("GET", "/files/", name, headers={"Range": wanted})

    assert (answer.status_code, answer.content) == (206, DATA[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert answer.headers["Content-Length"] == str(last - first + 1)


def test_range_outside(api: Api, stored: tuple[str, str]) -> None:
    """A range that begins after the end is 416."""
    name, _ = stored

    refused(api.call("GET", "/files/", name, headers={"Range": "bytes=10240-"}), 416, "range_not_satisfiable")


def test_client_that_has_the_file(api: Api, stored: tuple[str, str]) -> None:
    """304 while the client's copy is current, and the file after a change."""
    name, etag = stored
    modified = api.call("HEAD", "/files/", name).headers["Last-Modified"]

    def status(**headers: str) -> tuple[int, bytes]:
        answer = api.call(
            "GET", "/files/", name, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        return answer.status_code, answer.content

    assert status(If_None_Match=etag) == (304, b"")
    assert status(If_Modified_Since=modified) == (304, b"")
    assert status(If_None_Match='"something-else"') == (200, DATA)
    assert api.call("GET", "/files/", name, headers={"If-None-Match": etag}).headers["ETag"] == etag
    assert status(If_Match='"something-else"')[0] == 412
    assert status(If_Match=etag) == (200, DATA)


def test_if_range(api: Api, stored: tuple[str, str]) -> None:
    """A download is resumed only if the file is the same; otherwise it starts again."""
    name, etag = stored
    same = api.call("GET", "/files/", name, headers={"Range": "bytes=5-", "If-Range": etag})
    api.put(name, DATA[::-1])
    other = api.call("GET", "/files/", name, headers={"Range": "bytes=5-", "If-Range": etag})

    assert (same.status_code, same.content) == (206, DATA[5:])
    assert (other.status_code, other.content) == (200, DATA[::-1])


def test_missing_file(api: Api, bucket: str) -> None:
    """A missing file is 404 with its sentence."""
    name = api.name("none")
    message = refused(api.call("GET", "/files/", name), 404, "file_not_found")

    assert message == f"The file '{name}' was not found on the bucket '{bucket}'"


def test_large_file_streams(api: Api, course_file: bytes) -> None:
    """A file longer than any buffer comes whole, also when it is read slowly."""
    name = api.name("large.csv")
    api.put(name, course_file)
    with api.call("GET", "/files/", name, stream=True) as answer:
        received = b"".join(answer.iter_content(10_000))

    assert received == course_file
