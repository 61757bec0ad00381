"""Reads by the rules of HTTP: conditions, ranges, targets, parameters, caches."""

from __future__ import annotations

import gzip
from urllib.parse import quote

import pytest

from e2e.api import Api, good, refused

DATA = b"0123456789"


@pytest.fixture
def name(api: Api) -> str:
    name = api.name("read.txt")
    api.put(name, DATA)
    return name


def _read(api: Api, name: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    given = {header.replace("_", "-"): value for header, value in headers.items()}
    answer = api.call(method, "/files/", name, headers=given)
    return answer.status_code, answer.content


def test_conditions_in_their_order(api: Api, name: str) -> None:
    """RFC 9110, section 13.2.2, of a real store: lists, weak tags, and several conditions together."""
    etag = api.call("HEAD", "/files/", name).headers["ETag"]
    past = "Mon, 01 Jan 2001 00:00:00 GMT"

    assert _read(api, name, If_Match=f'"x", {etag}') == (200, DATA)
    assert _read(api, name, If_Match=f"W/{etag}")[0] == 412
    assert _read(api, name, If_Match=etag, If_Unmodified_Since=past) == (200, DATA)
    assert _read(api, name, If_None_Match=f'"x", W/{etag}') == (304, b"")
    assert _read(api, name, If_None_Match="*") == (304, b"")
    assert _read(api, name, If_None_Match='"x"', If_Modified_Since="Fri, 01 Jan 2100 00:00:00 GMT") == (
        200,
        DATA,
    )
    assert _read(api, name, Range="bytes=5-", If_Range=f"W/{etag}") == (200, DATA)
    assert _read(api, name, Range="bytes=5-", If_Range="Fri, 01 Jan 2100 00:00:00 GMT") == (200, DATA)
    assert _read(api, name, Range="bytes=5-", If_Range=etag, If_Match='"x"')[0] == 412
    assert _read(api, name, Range="bytes=5-", If_Range=etag, If_Match=etag) == (206, DATA[5:])
    assert _read(api, name, "HEAD", Range="bytes=5-") == (200, b"")


def test_304_is_as_its_200(api: Api, name: str) -> None:
    """A 304 has the ETag and the caching headers of its 200: RFC 9110, section 15.4.5."""
    whole = api.call("GET", "/files/", name).headers
    unmodified = api.call("GET", "/files/", name, headers={"If-None-Match": whole["ETag"]})

    assert unmodified.status_code == 304
    for header in ("ETag", "Cache-Control", "Content-Security-Policy"):
        assert unmodified.headers[header] == whole[header]


@pytest.mark.parametrize("size", [0, 10])
def test_416_names_the_size(api: Api, size: int) -> None:
    """A 416 names the size (RFC 9110, section 15.5.17); an empty file has no last bytes (section 14.1.2)."""
    name = api.name("short.bin")
    api.put(name, b"x" * size)
    for asked in ["bytes=-0", "bytes=10-"] if size else ["bytes=-5", "bytes=0-", "bytes=-0"]:
        answer = api.call("GET", "/files/", name, headers={"Range": asked})
        refused(answer, 416, "range_not_satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize("page", ["/", "/ui", "/docs", "/openapi.json", "/nothing"])
def test_date_outside_the_calendar(api: Api, name: str, page: str) -> None:
    """RFC 9110, section 13.1.3: an invalid date is ignored, also where no token is needed."""
    for date in ("9999999999", "Mon, 01 Jan 9999999999 00:00:00 GMT"):
        for header in ("If-Modified-Since", "If-Unmodified-Since", "If-Range"):
            assert api.call("GET", page, headers={header: date}).status_code in (200, 404)
            assert api.call("GET", "/files/", name, headers={header: date}).status_code == 200


def test_nested_json(api: Api) -> None:
    """JSON that is nested beyond what can be read is a 400 (RFC 8259, section 9)."""
    body = b'{"files": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    answer = api.call("POST", "/delete", data=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["status"]) == (400, 400)


@pytest.mark.parametrize("wrong", [*'#"<>^`{|}', "%", "%zz"])
def test_target_that_is_none(api: Api, name: str, wrong: str) -> None:
    """RFC 9112, section 3.2: a target that is not valid is a 400, and never names another file."""
    path = f"/files/{quote(name, safe='/')}"

    assert api.raw("GET", path).status == 200
    for answer in (
        api.raw("GET", f"{path}{wrong}"),
        api.raw("DELETE", f"/delete/{quote(name)}{wrong}b"),
    ):
        assert answer.status == 400
        if answer.headers["Content-Type"] == "application/json":  # or a proxy before the service refuses it
            assert "percent-encoded" in refused(answer, 400, "bad_request")
    assert api.exists(name)


def test_parameters_are_refused_by_name(api: Api, name: str) -> None:
    """A parameter that is unknown, given twice or does not apply is refused, because it would be ignored."""
    unknown = api.call("GET", "/list_files?Limit=1")
    assert "'Limit'" in refused(unknown, 400, "bad_request")
    assert "limit" in unknown.json()["message"]
    refused(api.call("GET", f"/files/{quote(name)}?versionId=1"), 400, "bad_request")
    refused(api.call("GET", "/list_files?prefix=a&prefix=b"), 400, "bad_request")
    lines = {"Accept": "application/x-ndjson"}
    refused(api.call("GET", "/list_files?limit=1", headers=lines), 400, "bad_request")


def test_head_follows_the_redirect(api: Api, name: str) -> None:
    """A client that asks with HEAD, such as `curl -IL`, follows to a URL that is signed for HEAD."""
    url = api.call("HEAD", f"/download/{quote(name)}?redirect=true").headers["Location"]
    answer = api.s3("HEAD", url)

    assert (answer.status_code, answer.headers["Content-Length"]) == (200, "10")


def test_json_is_in_no_cache(api: Api, name: str) -> None:
    """RFC 9111, section 4.2.2: without Cache-Control a cache may store a listing heuristically."""
    for path in ("/", "/list_files?limit=1", f"/download/{quote(name)}", "/nothing", "/files/nothing"):
        assert api.call("GET", path).headers["Cache-Control"] == "no-store"
    assert api.call("GET", "/list_files?limit=1").headers["Vary"] == "Accept"


def test_compressed_file_is_what_it_is(api: Api) -> None:
    """RFC 6713: `log.txt.gz` is application/gzip, and no text that a browser would show."""
    name = api.name("log.txt.gz")
    data = gzip.compress(b"text")
    api.put(name, data)
    answer = api.call("GET", "/files/", name)

    assert (answer.headers["Content-Type"], answer.content) == ("application/gzip", data)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert good(api.call("GET", "/download/", name))["content"]
