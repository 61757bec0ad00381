"""Every row of the HTTP contract, and every refusal, over the store in memory."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urljoin, urlsplit

import flask
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from s3api import failures, health, json_bodies
from s3api.admission import PUBLIC, VERBS
from s3api.app import create_app
from s3api.auth import hash_token
from s3api.bodies import Body
from s3api.errors import _STATUS
from s3api.file_store import MAX_SINGLE_PUT_BYTES, NotModified, Upload
from s3api.forms import MAX_OVERHEAD
from s3api.health import draining
from s3api.s3_store import S3FileStore
from s3api.staging import Staging
from support import raw_client
from support.memory_store import MemoryStore
from support.servers import ROOT, until
from support.stores import settings_for

BUCKET = "day02-memory"
MakeClient = Callable[..., FlaskClient]


def stored(store: MemoryStore, *names: str, data: bytes = b"data") -> None:
    for name in names:
        store.put(name, Body(io.BytesIO(data), len(data), 1 << 40), "text/plain", create_only=False)


def form(*parts: tuple[str, bytes], **fields: str) -> dict[str, Any]:
    return {"data": {**fields, "file": [(io.BytesIO(data), name) for name, data in parts]}}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def said(answer: TestResponse, status: int, message: str) -> Any:
    """The answer is this sentence in the envelope; returns its content."""
    assert answer.mimetype == "application/json"
    body = answer.get_json()
    assert (answer.status_code, body["status"], body["message"]) == (status, status, message)
    return body.get("content")


def refused(answer: TestResponse, status: int, code: str) -> str:
    """The answer is a failure with this code, in the envelope; returns its sentence."""
    body = answer.get_json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["request_id"] == answer.headers["X-Request-Id"]
    message: str = body["message"]
    return message


# --- what the mission names


def test_index(client: FlaskClient) -> None:
    """The root answers with the project's name."""
    said(client.get("/"), 200, "Successfully connected to day02 upload/download API")


def test_index_names_the_configured_project(make_client: MakeClient) -> None:
    """The sentence holds the configured project's name."""
    answer = make_client(project_name="other").get("/")

    said(answer, 200, "Successfully connected to other upload/download API")


def test_list_files(client: FlaskClient, store: MemoryStore) -> None:
    """The listing is the list of names."""
    stored(store, "b.txt", "a.txt")
    content = said(client.get("/list_files"), 200, f"Successfully listed files on s3 bucket '{BUCKET}'")

    assert content == ["a.txt", "b.txt"]


def test_list_files_of_an_empty_bucket(client: FlaskClient) -> None:
    """An empty bucket is an empty list, not an absent one."""
    assert said(client.get("/list_files"), 200, f"Successfully listed files on s3 bucket '{BUCKET}'") == []


def test_upload(client: FlaskClient, store: MemoryStore, tmp_path: Path) -> None:
    """A form's file is stored under its own name, described, and gone from the staging directory."""
    answer = client.post("/upload", **form(("a.csv", b"1,2,3")))
    content = said(answer, 200, f"Successfully uploaded 'a.csv' to the bucket '{BUCKET}'")

    etag = hashlib.md5(b"1,2,3").hexdigest()
    assert content == [{"name": "a.csv", "size": 5, "etag": etag, "sha256": sha256(b"1,2,3")}]
    assert store.objects["a.csv"].data == b"1,2,3"
    assert store.objects["a.csv"].content_type == "text/csv"
    assert list((tmp_path / "uploads").glob("s3api-staged-*")) == []


def test_upload_of_several_files(client: FlaskClient, store: MemoryStore) -> None:
    """Several files give one sentence with their names joined; the prefix is put before each unchanged."""
    answer = client.post("/upload", **form(("a.csv", b"1"), ("b.csv", b"22"), prefix="reports/2026-"))
    content = said(
        answer,
        200,
        f"Successfully uploaded 'reports/2026-a.csv, reports/2026-b.csv' to the bucket '{BUCKET}'",
    )

    assert [one["size"] for one in content] == [1, 2]
    assert sorted(store.objects) == ["reports/2026-a.csv", "reports/2026-b.csv"]


def test_upload_takes_the_last_segment_of_a_path(client: FlaskClient, store: MemoryStore) -> None:
    """Of a file name that is a path, only the last segment is used."""
    client.post("/upload", **form(("some/folder/a.csv", b"1")))

    assert list(store.objects) == ["a.csv"]


@pytest.mark.parametrize(
    "request_of",
    [
        {},
        {"data": {"other": "field"}},
        {"data": {"file": "not a file"}},
        {"data": {"file": (io.BytesIO(b"x"), "")}},
        {"data": {"other": (io.BytesIO(b"x"), "a.csv")}},
        {"data": b"", "content_type": "application/json"},
        {"data": {"prefix": "x"}, "content_type": "application/x-www-form-urlencoded"},
    ],
)
def test_upload_without_a_file(client: FlaskClient, request_of: Mapping[str, Any]) -> None:
    """A form without a file part, or with an empty file name, is 404."""
    answer = client.post("/upload", **request_of)

    said(answer, 404, "The file '' was not found")
    refused(answer, 404, "file_not_found")


def test_download(client: FlaskClient, store: MemoryStore) -> None:
    """A download is a presigned URL of 120 s, told with its end."""
    stored(store, "a.csv")
    answer = client.get("/download/a.csv")
    content = said(answer, 200, "Successfully generated presigned url for 'a.csv'")

    assert content.startswith(f"memory://{BUCKET}/a.csv?expires=120&")
    ends = datetime.fromisoformat(answer.get_json()["expires_at"])
    assert 115 < (ends - datetime.now(UTC)).total_seconds() <= 120
    assert answer.headers["Cache-Control"] == "no-store"


def test_form_without_a_size(client: FlaskClient, store: MemoryStore) -> None:
    """The course's GET plans a POST to S3, up to the limit of the service, and stores nothing."""
    answer = client.get("/upload/a.csv")
    plan = said(answer, 200, f"Successfully uploaded file 'a.csv' on s3 bucket '{BUCKET}'")

    assert (plan["method"], plan["multipart"]) == ("POST", False)
    limit = min(client.application.extensions["s3api"].settings.max_file_bytes, MAX_SINGLE_PUT_BYTES)
    assert plan["fields"] == {"key": "a.csv", "Content-Type": "text/csv", "size": f"0-{limit}"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert (store.objects, store.uploads) == ({}, {})
    assert client.head("/upload/a.csv").data == b""


def test_form_without_a_size_that_is_refused(client: FlaskClient) -> None:
    """A name, a query or a condition that POST /uploads refuses is refused here too."""
    refused(client.get("/upload/a/../b"), 400, "invalid_file_name")
    refused(client.get("/upload/a?size=1"), 400, "bad_request")
    refused(client.get("/upload/a", headers={"If-None-Match": "*"}), 400, "bad_request")
    message = refused(client.get("/upload/$%7Bfilename%7D"), 400, "bad_request")

    assert "PUT /upload/<file>" in message


def test_download_of_a_missing_file(client: FlaskClient) -> None:
    """A missing file is 404, with the sentence that scripts compare."""
    answer = client.get("/download/missing.csv")

    said(answer, 404, f"The file 'missing.csv' was not found on the bucket '{BUCKET}'")
    refused(answer, 404, "file_not_found")


# --- listing


def test_a_page_has_a_cursor_and_a_link(client: FlaskClient, store: MemoryStore) -> None:
    """A page that is not the last has the same next in its body and in its Link header."""
    stored(store, *(f"p/é {n}" for n in range(5)), "q")
    first = client.get("/list_files", query_string={"prefix": "p/", "limit": 2, "details": "true"})
    (link,) = re.findall(r'^<(\?[^>]+)>; rel="next"$', first.headers["Link"])
    second = client.get(f"/list_files{link}")
    third = client.get("/list_files", query_string={"prefix": "p/", "cursor": second.get_json()["next"]})

    assert [one["name"] for one in first.get_json()["content"]] == ["p/é 0", "p/é 1"]
    assert [one["name"] for one in second.get_json()["content"]] == ["p/é 2", "p/é 3"]
    assert third.get_json()["content"] == ["p/é 4"]
    assert "next" not in third.get_json()
    assert "Link" not in third.headers


def test_details(client: FlaskClient, store: MemoryStore) -> None:
    """Details are name, size, time and ETag."""
    stored(store, "a.txt", data=b"12345")
    (one,) = client.get("/list_files?details=true").get_json()["content"]

    assert list(one) == ["name", "size", "last_modified", "etag"]
    assert (one["size"], one["last_modified"][-1]) == (5, "Z")
    datetime.fromisoformat(one["last_modified"])


def test_a_delimiter_gives_prefixes(client: FlaskClient, store: MemoryStore) -> None:
    """With a delimiter, names below it are rolled up into prefixes."""
    stored(store, "a.txt", "b/1", "b/2")
    body = client.get("/list_files?delimiter=/").get_json()

    assert (body["content"], body["prefixes"]) == (["a.txt"], ["b/"])


def test_ndjson_streams_everything(client: FlaskClient, store: MemoryStore) -> None:
    """JSON lines contain the whole listing, more than one page, with one file's details on each line."""
    stored(store, *(f"{n:04}" for n in range(1500)))
    answer = client.get("/list_files", headers={"Accept": "application/x-ndjson"})
    lines = answer.text.splitlines()

    assert answer.mimetype == "application/x-ndjson"
    assert [json.loads(line)["name"] for line in lines] == [f"{n:04}" for n in range(1500)]
    assert set(json.loads(lines[0])) == {"name", "size", "last_modified", "etag"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "details=perhaps", "limit="])
def test_a_bad_query_value_is_named(client: FlaskClient, query: str) -> None:
    """A query value that is not allowed is 400, and the sentence names it."""
    message = refused(client.get(f"/list_files?{query}"), 400, "invalid_request")

    assert message.startswith(query.partition("=")[0])


@pytest.mark.parametrize("limit", ["1001", "9" * 10, "9" * 20, "9" * 5000, "0" * 30 + "1001"])
def test_a_limit_that_is_too_large_says_so(client: FlaskClient, limit: str) -> None:
    """RFC 9110, section 2.3: a number has no largest size. Python refuses a text of 4,301 digits."""
    answer = client.get(f"/list_files?limit={limit}")

    refused(answer, 400, "invalid_request")
    assert answer.get_json()["message"] == "limit: Input should be less than or equal to 1000"
    assert client.get("/list_files?limit=0000000000001").status_code == 200


@pytest.mark.parametrize("query", ["prefix=b", "delimiter=/", ""])
def test_a_cursor_is_bound_to_its_query(client: FlaskClient, store: MemoryStore, query: str) -> None:
    """A cursor of another query is 400."""
    stored(store, "a1", "a2", "b1")
    cursor = client.get("/list_files?prefix=a&limit=1").get_json()["next"]

    assert client.get(f"/list_files?prefix=a&cursor={cursor}").get_json()["content"] == ["a2"]
    refused(client.get(f"/list_files?{query}&cursor={cursor}"), 400, "invalid_cursor")
    refused(client.get("/list_files?prefix=a&cursor=made-up"), 400, "invalid_cursor")
    refused(client.get("/list_files?prefix=a&cursor="), 400, "invalid_cursor")


def test_a_cursor_of_another_key_is_refused(make_client: MakeClient, store: MemoryStore) -> None:
    """A cursor signed by another key is 400."""
    stored(store, "a1", "a2")
    cursor = make_client(signing_key="x" * 32).get("/list_files?limit=1").get_json()["next"]

    refused(make_client().get(f"/list_files?cursor={cursor}"), 400, "invalid_cursor")


# --- raw uploads


def test_a_raw_upload(client: FlaskClient, store: MemoryStore) -> None:
    """The raw body is stored under the name of the URL."""
    answer = client.put("/upload/folder/a.csv", data=b"1,2,3")
    content = said(answer, 200, f"Successfully uploaded 'folder/a.csv' to the bucket '{BUCKET}'")

    assert content[0]["sha256"] == sha256(b"1,2,3")
    assert store.objects["folder/a.csv"].data == b"1,2,3"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, "text/csv"),
        ("application/octet-stream", "text/csv"),
        ("application/x-www-form-urlencoded", "text/csv"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ('TEXT/Plain ;Charset="utf-8";', "text/plain; charset=utf-8"),
    ],
)
def test_the_content_type_of_a_raw_upload(
    client: FlaskClient, store: MemoryStore, given: str | None, kept: str
) -> None:
    """The client's content type is kept, in canonical form, unless it says that the client does not know."""
    client.put("/upload/a.csv", data=b"1", content_type=given)

    assert store.objects["a.csv"].content_type == kept


NOT_MEDIA_TYPES = [
    "text/plain;charset=utf-8,text/html",
    "text/plain, text/html",
    "text/plain; a=1; A=2",
    "text/plain; a",
    "text/plain; a=b c",
    'text/plain; a="b',
    "text",
    "/",
    "text/ü",
    "text/" + "x" * 300,
]


@pytest.mark.parametrize("given", NOT_MEDIA_TYPES)
@pytest.mark.parametrize("way", ["raw", "form", "plan"])
def test_a_content_type_that_is_not_one(
    client: FlaskClient, store: MemoryStore, given: str, way: str
) -> None:
    """An invalid media type (RFC 9110, section 8.3.1) is 400 in every kind of upload; nothing is stored."""
    if way == "raw":
        answer = client.put("/upload/a", data=b"x", content_type=given)
    elif way == "form":
        head = f'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: {given}'
        data = f"--b\r\n{head}\r\n\r\nx\r\n--b--\r\n".encode()
        answer = client.post("/upload", data=data, content_type="multipart/form-data; boundary=b")
    else:
        answer = client.post("/uploads", json={"name": "a", "size": 1, "content_type": given})

    body = answer.get_json()
    assert (body["status"], body["code"]) in [(400, "invalid_content_type"), (400, "invalid_request")], body
    assert store.objects == {}


def test_create_only(client: FlaskClient, store: MemoryStore) -> None:
    """With If-None-Match: * an existing file is 412, and stays."""
    headers = {"If-None-Match": "*"}

    assert client.put("/upload/a", data=b"first", headers=headers).status_code == 200
    refused(client.put("/upload/a", data=b"second", headers=headers), 412, "file_exists")
    assert store.objects["a"].data == b"first"
    refused(client.put("/upload/a", data=b"x", headers={"If-None-Match": '"etag"'}), 400, "bad_request")
    refused(client.put("/upload/a", data=b"x", headers={"If-Match": "*"}), 400, "bad_request")


def test_a_write_takes_no_date_as_its_only_condition(client: FlaskClient, store: MemoryStore) -> None:
    """S3 has no such condition for a write. With If-Match, it is ignored (RFC 9110, section 13.1.4)."""
    stored(store, "a")
    since = {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}

    for answer in (
        client.put("/upload/a", data=b"new", headers=since),
        client.delete("/delete/a", headers=since),
    ):
        assert "If-Unmodified-Since" in refused(answer, 400, "bad_request")
    assert list(store.objects) == ["a"]
    assert (
        client.delete("/delete/a", headers={**since, "If-Match": f'"{store.stat("a").etag}"'}).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("header", "good", "wrong", "status"),
    [
        ("Content-Language", "de, pt-BR", "x" * 2000, 400),
        ("Content-Encoding", "gzip", "g zip", 415),
        ("Content-Encoding", "gzip", "aws-chunked", 415),
    ],
)
def test_headers_that_are_kept(
    client: FlaskClient, store: MemoryStore, *, header: str, good: str, wrong: str, status: int
) -> None:
    """A header that would come back with the file is checked before the file is stored."""
    assert client.put("/upload/a", data=b"x", headers={header: wrong}).status_code == status
    assert store.objects == {}
    assert client.put("/upload/a", data=b"x", headers={header: good}).status_code == 200
    assert store.objects["a"].kept == {header: good}


def content_digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def test_a_content_digest(client: FlaskClient, store: MemoryStore) -> None:
    """A Content-Digest that matches is accepted, among others too; one that does not stores nothing."""
    right = {"Content-Digest": f"unixsum=:AAAA:, {content_digest(b'data')}"}
    wrong = {"Content-Digest": content_digest(b"other")}

    assert client.put("/upload/right", data=b"data", headers=right).status_code == 200
    refused(client.put("/upload/wrong", data=b"data", headers=wrong), 400, "digest_mismatch")
    empty = client.put("/upload/wrong", headers=wrong, environ_overrides={"CONTENT_LENGTH": "0"})
    refused(empty, 400, "digest_mismatch")
    assert list(store.objects) == ["right"]


@pytest.mark.parametrize(("data", "other"), [(b"data", b"other"), (b"other", b"data")])
def test_digests_in_two_headers(client: FlaskClient, store: MemoryStore, data: bytes, other: bytes) -> None:
    """Each header is checked, also without the others. Two that contradict each other are refused."""
    last, first = {"X-Amz-Content-Sha256": sha256(other)}, {"Content-Digest": content_digest(data)}

    refused(client.put("/upload/a", data=data, headers=last), 400, "digest_mismatch")
    both = client.put("/upload/a", data=data, headers=first | last)
    assert "Two headers" in refused(both, 400, "bad_request")
    assert store.objects == {}


@pytest.mark.parametrize(
    "header",
    [
        "sha-256=abc",
        "sha-256=:not base64!:",
        "sha-256=:AAAA:",
        "sha-256=:AAAAA:",
        "sha-256=:ÿ:",
        f"{content_digest(b'x')}, {content_digest(b'y')}",
        f"{content_digest(b'x')}, md5",
        "md5=:AAAA:",
        "",
    ],
)
def test_a_content_digest_that_is_not_understood(client: FlaskClient, header: str) -> None:
    """A Content-Digest without a SHA-256 in it is 400: silently not checking would be worse."""
    message = refused(
        client.put("/upload/a", data=b"x", headers={"Content-Digest": header}), 400, "bad_request"
    )

    assert "Content-Digest" in message


def test_a_raw_upload_needs_a_length_or_chunks(client: FlaskClient) -> None:
    """A body with neither a length nor chunks is 411."""
    answer = client.put("/upload/a")

    refused(answer, 411, "length_required")


@pytest.mark.parametrize("way", ["raw", "form", "plan"])
def test_one_limit_for_every_way_in(make_client: MakeClient, store: MemoryStore, way: str) -> None:
    """A file above the limit is 413 in every kind of upload; one of exactly the limit is stored."""
    client = make_client(max_file_bytes=10)

    def send(size: int) -> TestResponse:
        if way == "raw":
            return client.put("/upload/a", data=b"x" * size)
        if way == "form":
            return client.post("/upload", **form(("a", b"x" * size)))
        return client.post("/uploads", json={"name": "a", "size": size})

    assert send(10).status_code == 200
    store.objects.clear()
    refused(send(11), 413, "file_too_large")
    assert store.objects == {}


def test_a_form_uses_the_share_of_its_caller(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each token has its own share of the staging directory, and without a token each address has one."""
    callers: list[str | None] = []
    folder = Staging.folder

    def noted(staging: Staging, expected: int | None, caller: str | None = None) -> Any:
        callers.append(caller)
        return folder(staging, expected, caller)

    monkeypatch.setattr(Staging, "folder", noted)
    client = make_client(allow_anonymous=True, api_tokens=[entry(["write"])])
    client.post("/upload", headers=AUTHORIZED, **form(("a", b"1")))
    client.post("/upload", environ_overrides={"REMOTE_ADDR": "192.0.2.1"}, **form(("b", b"2")))

    assert callers == ["test", "192.0.2.1"]


@pytest.mark.parametrize(("above", "answers"), [(0, 400), (1, 507), (2_000_000, 507)])
def test_a_form_that_never_fits_is_refused_unread(make_client: MakeClient, above: int, answers: int) -> None:
    """A form above seven eighths of the staging budget is 507 before it is read. A retry would not help."""
    reads = []

    class Counted:
        def read(self, amount: int = -1) -> bytes:
            reads.append(amount)
            return b""

    announced = {
        "wsgi.input": Counted(),
        "CONTENT_LENGTH": str(7000 + above),
        "CONTENT_TYPE": "multipart/form-data; boundary=b",
    }
    answer = make_client(staging_max_bytes=8000).post("/upload", environ_overrides=announced)

    refused(answer, answers, "upload_interrupted" if answers == 400 else "staging_full")
    assert bool(reads) == (answers == 400)
    assert "Retry-After" not in answer.headers


def test_the_limit_of_a_file_is_not_that_of_a_form(make_client: MakeClient, store: MemoryStore) -> None:
    """A form may have several files that are each as large as a file may be. One larger file is 413."""
    client, whole = make_client(max_file_bytes=2 * MAX_OVERHEAD), b"x" * 2 * MAX_OVERHEAD

    def post(*files: tuple[str, bytes]) -> TestResponse:
        head = '--b\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
        parts = [head.format(name).encode() + data + b"\r\n" for name, data in files]
        body = b"".join([*parts, b"--b--\r\n"])
        return client.post("/upload", data=body, content_type="multipart/form-data; boundary=b")

    stored = post(("a", whole), ("b", whole))
    larger = post(("c", whole + b"x"))

    assert stored.status_code == 200
    assert set(store.objects) == {"a", "b"}
    refused(larger, 413, "file_too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\nnonsense",
        b"no boundary at all",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nends',
    ],
)
def test_a_malformed_form(client: FlaskClient, store: MemoryStore, tmp_path: Path, body: bytes) -> None:
    """A form that is malformed or cut off is 400, stores nothing and leaves nothing on disk."""
    answer = client.post("/upload", data=body, content_type="multipart/form-data; boundary=b")

    refused(answer, 400, "bad_request")
    assert store.objects == {}
    assert list((tmp_path / "uploads").glob("s3api-staged-*")) == []


def test_a_form_that_is_no_form(client: FlaskClient) -> None:
    """A body of another type is 415, with how to send it."""
    answer = client.post("/upload", data=b"{}", content_type="application/json")

    assert "multipart/form-data" in refused(answer, 415, "unsupported_media_type")


def test_a_form_of_too_many_parts(client: FlaskClient) -> None:
    """A form with more than 100 parts is 413."""
    answer = client.post("/upload", **form(*((f"{n}", b"") for n in range(101))))

    refused(answer, 413, "body_too_large")


def test_the_staging_budget(make_client: MakeClient, tmp_path: Path) -> None:
    """A form over the staging budget is 507 and leaves nothing; the next one within it succeeds.

    It would never fit, so there is no time after which to try again.
    """
    client = make_client(staging_max_bytes=1000)
    answer = client.post("/upload", **form(("a", b"x" * 2000)))

    assert "PUT /upload/" in refused(answer, 507, "staging_full")
    assert "Retry-After" not in answer.headers
    assert list((tmp_path / "uploads").glob("s3api-staged-*")) == []
    assert client.post("/upload", **form(("a", b"x" * 100))).status_code == 200


def test_a_form_that_fails_half_way_says_what_is_stored(
    client: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a later file of a form fails, the answer names those that were stored."""
    put = store.put

    def fail_on_b(name: str, *args: Any, **kwargs: Any) -> Upload:
        if name == "b":
            raise failures.StoreUnavailable("S3 cannot be reached; try again")
        return put(name, *args, **kwargs)

    monkeypatch.setattr(store, "put", fail_on_b)
    answer = client.post("/upload", **form(("a", b"1"), ("b", b"2"), ("c", b"3")))

    assert "1 of 3 files" in refused(answer, 503, "s3_unavailable")
    assert [one["name"] for one in answer.get_json()["content"]] == ["a"]


# --- direct uploads


def test_a_small_upload_is_planned_as_a_post(client: FlaskClient) -> None:
    """A plan below the threshold is one presigned POST, with the checksum and the type in its fields."""
    wanted = {"name": "a.csv", "size": 5, "sha256": sha256(b"12345")}
    answer = client.post("/uploads", json=wanted)
    plan = said(answer, 200, f"Successfully planned the upload of 'a.csv' to the bucket '{BUCKET}'")

    assert list(plan) == ["method", "multipart", "url", "fields", "expires_at"]
    assert (plan["method"], plan["multipart"]) == ("POST", False)
    assert plan["fields"]["Content-Type"] == "text/csv"
    assert plan["fields"]["x-amz-checksum-sha256"] == wanted["sha256"]


def test_a_name_that_a_post_would_change_is_planned_as_a_put(client: FlaskClient) -> None:
    """Without parts, such a file goes to S3 with one presigned PUT, whose signed headers the plan names."""
    wanted = {"name": "${filename}", "size": 1, "multipart": False}
    plan = client.post("/uploads", json=wanted).get_json()["content"]

    assert list(plan) == ["method", "multipart", "url", "headers", "expires_at"]
    assert (plan["method"], plan["multipart"]) == ("PUT", False)
    assert plan["headers"]["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "wanted", [{"name": "big", "size": 64 * 1024 * 1024}, {"name": "${filename}", "size": 1}]
)
def test_a_large_upload_is_planned_in_parts(
    client: FlaskClient, store: MemoryStore, wanted: dict[str, Any]
) -> None:
    """From the threshold up, and for a name that S3 would replace in a POST, the plan is multipart."""
    plan = client.post("/uploads", json=wanted).get_json()["content"]
    upload = f"/uploads/{plan['id']}"
    parts = [{"parts": list(range(1, plan["parts"] + 1))}]
    signed = client.post(f"{upload}/parts", json=parts[0]).get_json()["content"]

    assert (plan["method"], plan["multipart"]) == ("MULTIPART", True)
    assert [part["number"] for part in signed] == parts[0]["parts"]
    assert sum(part["size"] for part in signed) == wanted["size"]
    for part in signed:
        store.uploads["upload-0"].parts[part["number"]] = b"x" * part["size"]
    assert [part["size"] for part in client.get(f"{upload}/parts").get_json()["content"]] == [
        part["size"] for part in signed
    ]
    done = said(
        client.post(f"{upload}/complete"),
        200,
        f"Successfully uploaded '{wanted['name']}' to the bucket '{BUCKET}'",
    )
    assert done["size"] == wanted["size"]
    assert client.post(f"{upload}/complete").get_json()["content"] == done
    assert store.objects[wanted["name"]].file.size == wanted["size"]


def test_completing_too_early_names_what_is_missing(client: FlaskClient) -> None:
    """Completing without all parts is 400, names them, and the upload can go on."""
    plan = client.post("/uploads", json={"name": "big", "size": 100 * 1024 * 1024}).get_json()["content"]
    answer = client.post(f"/uploads/{plan['id']}/complete")

    assert "13 parts 13 are missing" in refused(answer, 400, "invalid_parts")
    assert answer.get_json()["content"] == {"missing": list(range(1, 14))}
    assert client.get(f"/uploads/{plan['id']}/parts").get_json()["content"] == []


def test_aborting(client: FlaskClient, store: MemoryStore) -> None:
    """Aborting is safe to repeat, says what it found, and the upload is gone."""
    plan = client.post("/uploads", json={"name": "big", "size": 100 * 1024 * 1024}).get_json()["content"]
    messages = [
        "Successfully aborted the upload of 'big'",
        "There was no upload of 'big' to abort any more; it was aborted before, or has expired",
    ]

    for aborted, message in zip([True, False], messages, strict=True):
        content = said(client.delete(f"/uploads/{plan['id']}"), 200, message)
        assert content == {"name": "big", "aborted": aborted}
    assert store.uploads == {}
    refused(client.get(f"/uploads/{plan['id']}/parts"), 404, "upload_not_found")


def completed(client: FlaskClient, store: MemoryStore, **more: str) -> str:
    """The id of a completed upload of `${filename}`, which is planned in parts for its name."""
    wanted = {"name": "${filename}", "size": 5, **more}
    plan = client.post("/uploads", json=wanted).get_json()["content"]
    next(iter(store.uploads.values())).parts[1] = b"12345"
    assert client.post(f"/uploads/{plan['id']}/complete").status_code == 200
    upload_id: str = plan["id"]
    return upload_id


def test_aborting_too_late(client: FlaskClient, store: MemoryStore) -> None:
    """Aborting a completed upload is 409, and the file stays."""
    upload_id = completed(client, store)

    assert "the file stays" in refused(client.delete(f"/uploads/{upload_id}"), 409, "upload_completed")
    assert store.objects["${filename}"].data == b"12345"


def test_an_aborted_upload_is_not_confirmed_by_another_file(client: FlaskClient, store: MemoryStore) -> None:
    """A file of the same name, size and number of parts is not that of an upload that was aborted."""
    plan = client.post("/uploads", json={"name": "${filename}", "size": 5}).get_json()["content"]
    client.delete(f"/uploads/{plan['id']}")
    completed(client, store)

    message = refused(client.post(f"/uploads/{plan['id']}/complete"), 404, "upload_not_found")
    assert "not of this upload" in message


def test_an_upload_completed_meanwhile_is_confirmed(
    client: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two completions at once both answer 200, also the one that finds the upload already completed."""
    plan = client.post("/uploads", json={"name": "${filename}", "size": 5}).get_json()["content"]
    store.uploads["upload-0"].parts[1] = b"12345"
    complete_parts = store.complete_parts

    def twice(plan: Any, parts: Any, **conditions: Any) -> str:
        complete_parts(plan, parts, **conditions)
        return complete_parts(plan, parts, **conditions)

    monkeypatch.setattr(store, "complete_parts", twice)

    assert client.post(f"/uploads/{plan['id']}/complete").status_code == 200


def test_a_sha256_that_was_only_declared_is_not_told_as_the_files(
    client: FlaskClient, store: MemoryStore
) -> None:
    """`Repr-Digest` never repeats what the sender of parts declared; another header does."""
    completed(client, store, sha256="0" * 64)
    answer = client.get("/files/%24%7Bfilename%7D")

    assert answer.data == b"12345"
    assert "Repr-Digest" not in answer.headers
    assert answer.headers["X-Declared-SHA-256"] == "0" * 64
    assert str(store.objects["${filename}"].nonce) not in str(answer.headers)


@pytest.mark.parametrize("age", [1, 2])
def test_an_upload_id_is_good_for_two_days(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, age: int
) -> None:
    """An id lives as long as the bucket's rule may let the upload live: one day, up to the next midnight."""
    plan = client.post("/uploads", json={"name": "big", "size": 100 * 1024 * 1024}).get_json()["content"]
    later = datetime.now(UTC) + timedelta(days=age, minutes=1)
    monkeypatch.setattr("itsdangerous.TimestampSigner.get_timestamp", lambda _: int(later.timestamp()))

    assert client.get(f"/uploads/{plan['id']}/parts").status_code == (200 if age == 1 else 404)


@pytest.mark.parametrize("tamper", [lambda i: i + "x", lambda i: "x" + i, lambda _: "made-up"])
def test_an_upload_id_cannot_be_made_up(client: FlaskClient, tamper: Callable[[str], str]) -> None:
    """An id that the service did not sign is 404 for every request."""
    plan = client.post("/uploads", json={"name": "big", "size": 100 * 1024 * 1024}).get_json()["content"]
    made_up = tamper(plan["id"])

    refused(client.get(f"/uploads/{made_up}/parts"), 404, "upload_not_found")
    refused(client.post(f"/uploads/{made_up}/complete"), 404, "upload_not_found")
    refused(client.delete(f"/uploads/{made_up}"), 404, "upload_not_found")


def test_a_part_number_outside_the_plan(client: FlaskClient) -> None:
    """A URL for a part that the plan does not have is 400."""
    plan = client.post("/uploads", json={"name": "big", "size": 100 * 1024 * 1024}).get_json()["content"]

    refused(client.post(f"/uploads/{plan['id']}/parts", json={"parts": [14]}), 400, "invalid_parts")
    refused(client.post(f"/uploads/{plan['id']}/parts", json={"parts": [0]}), 400, "invalid_request")


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"size": 1}, "name"),
        ({"name": "a"}, "size"),
        ({"name": "a", "size": -1}, "size"),
        ({"name": "a", "size": 1, "sha256": "short"}, "sha256"),
        ({"name": "a", "size": 1, "content_type": "a\r\nb"}, "content_type"),
        ({"name": "a", "size": 1, "unknown": 1}, "unknown"),
        ([], "_schema"),
    ],
)
def test_a_bad_plan_is_named(client: FlaskClient, wanted: object, named: str) -> None:
    """A JSON body that is not allowed is 400, and the sentence names what is wrong."""
    message = refused(client.post("/uploads", json=wanted), 400, "invalid_request")

    assert named == "_schema" or named in message


def test_json_that_does_not_parse(client: FlaskClient) -> None:
    """A body that is not JSON is 400 in the envelope."""
    refused(client.post("/uploads", data=b"{", content_type="application/json"), 400, "bad_request")


# --- downloads


def test_download_redirects(client: FlaskClient, store: MemoryStore) -> None:
    """With redirect=true the answer leads to the presigned URL.

    RFC 9110, section 15.4: its body, for clients that do not follow it, is the envelope as everywhere.
    """
    stored(store, "a.csv")
    answer = client.get("/download/a.csv?redirect=true")
    head = client.head("/download/a.csv?redirect=true")
    body = answer.get_json()

    assert (answer.status_code, body["status"]) == (302, 302)
    assert answer.headers["Location"].startswith(f"memory://{BUCKET}/a.csv")
    assert body["content"] == answer.headers["Location"]
    assert body.keys() == {"status", "message", "content", "expires_at"}
    assert (head.status_code, head.data) == (302, b"")
    assert head.headers["Content-Type"] == answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", 120),
        ("?expires=60", 60),
        ("?expires=3600&check=false", 3600),
        ("?expires=604800&redirect=true", 604_800),
        ("?redirect=true", 120),
    ],
)
def test_the_life_of_a_url(client: FlaskClient, store: MemoryStore, query: str, seconds: int) -> None:
    """`expires` is the life of the URL, with a redirect and without a check too. Without it, it is 120 s."""
    stored(store, "a")
    answer = client.get(f"/download/a{query}")
    ends = datetime.fromisoformat(answer.get_json()["expires_at"])

    assert f"?expires={seconds}&" in answer.get_json()["content"]
    assert ends.microsecond == 0
    assert seconds - 5 < (ends - datetime.now(UTC)).total_seconds() <= seconds
    assert answer.status_code == (302 if "redirect" in query else 200)


@pytest.mark.parametrize("expires", ["0", "59", "604801", "9" * 30])
@pytest.mark.parametrize("longest", [604_800, 3600])
def test_a_life_outside_the_limits(
    make_client: MakeClient, store: MemoryStore, expires: str, longest: int
) -> None:
    """A life that is too short or too long is refused, and the sentence names the limits."""
    stored(store, "a")
    client = make_client(max_download_url_seconds=longest)

    message = refused(client.get(f"/download/a?expires={expires}"), 400, "bad_request")
    assert message == f"The parameter expires must be from 60 to {longest} seconds"
    assert client.get(f"/download/a?expires={longest}").status_code == 200
    refused(client.get(f"/download/a?expires={longest + 1}"), 400, "bad_request")


@pytest.mark.parametrize("query", ["expires=", "expires=-60", "expires=1e3", "expires=10m", "expires=+90"])
def test_a_life_that_is_no_number(client: FlaskClient, store: MemoryStore, query: str) -> None:
    """A life is decimal digits: the service guesses no unit."""
    stored(store, "a")

    assert "expires" in refused(client.get(f"/download/a?{query}"), 400, "invalid_request")
    refused(client.get("/download/a?expires=60&expires=90"), 400, "bad_request")


@pytest.mark.parametrize("page", ["/ui", "/docs"])
def test_every_file_of_a_page_is_served(client: FlaskClient, page: str) -> None:
    """HTML Living Standard, "modulepreload": the browser reports a file that is not there as an error."""
    unseen = set(re.findall(r'(?:href|src)="([^"#:]+)"', client.get(page).text))
    seen: set[str] = set()
    while unseen:
        path = unseen.pop()
        seen.add(path)
        answer = client.get(f"/{path}")
        assert answer.status_code == 200, path
        if path.startswith("ui/") and path.endswith(".js"):
            imported = re.findall(r"""(?m)^(?:import|\}) .*from ["']\./([^"']+)["']""", answer.text)
            unseen |= {f"ui/{name}" for name in imported} - seen

    assert len(seen) > 2


def test_download_unchecked(client: FlaskClient, store: MemoryStore) -> None:
    """With check=false the store is not asked whether the file is there."""
    stored(store, "a.csv")
    there = client.get("/download/a.csv?check=false").get_json()
    missing = client.get("/download/missing.csv?check=false").get_json()

    assert there["message"] == "Successfully generated presigned url for 'a.csv'"
    assert missing["content"].startswith(f"memory://{BUCKET}/missing.csv")
    refused(client.get("/download/missing.csv?check=true"), 404, "file_not_found")


def test_reading_through_the_service(client: FlaskClient, store: MemoryStore) -> None:
    """The bytes come with the headers for caching, resuming and safety."""
    stored(store, "a.csv", data=b"1,2,3")
    answer = client.get("/files/a.csv")
    head = client.head("/files/a.csv")

    assert (answer.status_code, answer.data) == (200, b"1,2,3")
    assert answer.headers["Content-Length"] == "5"
    assert answer.headers["ETag"] == f'"{store.objects["a.csv"].file.etag}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert "Last-Modified" in answer.headers
    volatile = {"X-Request-Id", "Date"}
    assert head.data == b""
    assert {k: v for k, v in head.headers if k not in volatile} == {
        k: v for k, v in answer.headers if k not in volatile
    }


def test_the_sha256_that_was_declared_is_told(client: FlaskClient, store: MemoryStore) -> None:
    """Repr-Digest is the digest of the whole file, also with a range; it needs a declared digest."""
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(b'1,2,3').digest()).decode()}:"
    client.put("/upload/a", data=b"1,2,3", headers={"Content-Digest": digest})
    client.put("/upload/b", data=b"1,2,3")
    client.put("/upload/c", data=b"1,2,3")
    store.objects["c"].sha256 = "what somebody else put there"

    assert client.get("/files/a").headers["Repr-Digest"] == digest
    assert client.head("/files/a", headers={"Range": "bytes=0-1"}).headers["Repr-Digest"] == digest
    assert "Repr-Digest" not in client.get("/files/b").headers
    assert "Repr-Digest" not in client.get("/files/c").headers


def test_reading_a_range(client: FlaskClient, store: MemoryStore) -> None:
    """A range is 206 with its place; one outside is 416; more than one, or nonsense, is the whole file."""
    stored(store, "a", data=b"0123456789")

    part = client.get("/files/a", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.data, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    refused(client.get("/files/a", headers={"Range": "bytes=10-"}), 416, "range_not_satisfiable")
    for ignored in ("bytes=0-1,3-4", "bytes=x", "lines=1-2"):
        assert client.get("/files/a", headers={"Range": ignored}).data == b"0123456789"


def test_reading_conditionally(client: FlaskClient, store: MemoryStore) -> None:
    """An unchanged file is 304; a changed one that If-Match asks for is 412."""
    stored(store, "a")
    first = client.get("/files/a")
    etag, modified = first.headers["ETag"], first.headers["Last-Modified"]

    assert client.get("/files/a", headers={"If-None-Match": etag}).status_code == 304
    assert client.get("/files/a", headers={"If-Modified-Since": modified}).status_code == 304
    assert client.get("/files/a", headers={"If-Match": etag}).status_code == 200
    refused(client.get("/files/a", headers={"If-Match": '"other"'}), 412, "precondition_failed")


def test_if_range(client: FlaskClient, store: MemoryStore) -> None:
    """A range is honoured while If-Range holds; when the file has changed, the whole of it comes."""
    stored(store, "a", data=b"0123456789")
    first = client.get("/files/a")

    def resumed(validator: str) -> int:
        return client.get("/files/a", headers={"Range": "bytes=5-", "If-Range": validator}).status_code

    assert resumed(first.headers["ETag"]) == 206
    assert resumed('"another"') == 200
    assert resumed("Mon, 01 Jan 2024 00:00:00 GMT") == 200


@pytest.mark.parametrize(
    ("name", "content_type", "disposition"),
    [
        ("a.png", "image/png", 'inline; filename="a.png"'),
        ("a.txt", "text/plain; charset=utf-8", 'inline; filename="a.txt"'),
        ("a.html", "text/html", 'attachment; filename="a.html"'),
        ("a.svg", "image/svg+xml", 'attachment; filename="a.svg"'),
        ("x/y/a b.bin", "application/octet-stream", 'attachment; filename="a b.bin"'),
        ('q"uote%.txt', "text/plain", "inline; filename=\"q_uote_.txt\"; filename*=UTF-8''q%22uote%25.txt"),
        (
            "é\U0001f600.txt",
            "text/plain",
            "inline; filename=\"__.txt\"; filename*=UTF-8''%C3%A9%F0%9F%98%80.txt",
        ),
        ("folder/", "text/plain", 'inline; filename="folder"'),
        ("a.txt", "text/plain;charset=utf-8,text/html", 'attachment; filename="a.txt"'),
        ("a.txt", "text/plain, text/html", 'attachment; filename="a.txt"'),
        ("a.txt", "text/plain\t;", 'inline; filename="a.txt"'),
        ("a.txt", "", 'attachment; filename="a.txt"'),
        ("a.png", "IMAGE/PNG", 'inline; filename="a.png"'),
        ("a.mp4", "video/mp4; x=<script>", 'attachment; filename="a.mp4"'),
    ],
)
def test_what_is_served_inline_is_an_allow_list(
    client: FlaskClient, store: MemoryStore, name: str, content_type: str, disposition: str
) -> None:
    """Only types that are safe to show are inline; a name is told in ASCII, and in full where it is not."""
    store.put(name, Body(io.BytesIO(b""), 0, 1), content_type, create_only=False)
    answer = client.get(f"/files/{quote(name, safe='')}")

    assert answer.headers["Content-Disposition"] == disposition


@pytest.mark.parametrize(
    ("stored_as", "answered"),
    [
        ("TEXT/PLAIN;charset=UTF-8", "text/plain; charset=UTF-8"),
        ("text/plain;charset=utf-8,text/html", "application/octet-stream"),
        ("", "application/octet-stream"),
        ('text/html; a="b\\"c"', 'text/html; a="b\\"c"'),
    ],
)
def test_the_type_that_is_answered_is_canonical(
    client: FlaskClient, store: MemoryStore, stored_as: str, answered: str
) -> None:
    """For any stored type, the answers of the service and of S3 have one well-formed type."""
    store.put("a", Body(io.BytesIO(b""), 0, 1), stored_as, create_only=False)
    url = urlsplit(client.get("/download/a").get_json()["content"])

    assert client.get("/files/a").headers["Content-Type"] == answered
    assert dict(parse_qsl(url.query))["type"] == answered


@pytest.mark.parametrize("check", ["true", "false"])
@pytest.mark.parametrize("name", ["page.txt", "page.png", "page", "page.html"])
@pytest.mark.parametrize("stored_as", ["text/html", "image/svg+xml", "text/plain", "image/png"])
def test_a_presigned_url_shows_what_was_judged(
    client: FlaskClient, store: MemoryStore, name: str, stored_as: str, check: str
) -> None:
    """A URL that shows a file inline also fixes its type, to one of the list; the name alone is no reason."""
    store.put(name, Body(io.BytesIO(b""), 0, 1), stored_as, create_only=False)
    signed = client.get(f"/download/{name}?check={check}").get_json()["content"]
    query = dict(parse_qsl(urlsplit(signed).query))

    if query["disposition"].startswith("inline"):
        assert query["type"] in ("text/plain", "image/png")
        assert check == "false" or query["type"] == stored_as
    else:
        assert query["disposition"].startswith("attachment")
        assert check == "false" or stored_as in ("text/html", "image/svg+xml")


# --- deleting and restoring


def test_delete(client: FlaskClient, store: MemoryStore) -> None:
    """A deleted file is gone; deleting it again is 404."""
    stored(store, "a")

    said(client.delete("/delete/a"), 200, f"Successfully deleted file 'a' on s3 bucket '{BUCKET}'")
    said(client.delete("/delete/a"), 404, f"The file 'a' was not found on the bucket '{BUCKET}'")


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": '"other", "another"'}, 400),
        ({"If-Match": 'W/"other"'}, 400),
        ({"If-None-Match": "*"}, 400),
    ],
)
def test_the_condition_of_a_deletion(
    client: FlaskClient, store: MemoryStore, condition: dict[str, str], status: int
) -> None:
    """RFC 9110, section 13.1.1: `If-Match: *` is true of any file. Other conditions are refused."""
    stored(store, "a")
    answer = client.delete("/delete/a", headers=condition)

    assert (answer.status_code, "a" in store.objects) == (status, status != 200)


def test_a_link_must_not_delete(client: FlaskClient, store: MemoryStore) -> None:
    """GET on the delete URL is 405 and deletes nothing."""
    stored(store, "a")
    answer = client.get("/delete/a")

    refused(answer, 405, "method_not_allowed")
    assert answer.get_json()["message"] == "This URL does not answer to this method; use DELETE"
    assert answer.headers["Allow"] == "DELETE"
    assert list(store.objects) == ["a"]


def test_delete_many(client: FlaskClient, store: MemoryStore) -> None:
    """Each of many files has its own result, a missing one too; a name given twice has one."""
    stored(store, "a", "b")
    answer = client.post("/delete", json={"files": ["a", "missing", "b", "a"]})
    content = said(answer, 200, f"Successfully deleted 2 of 3 files on s3 bucket '{BUCKET}'")

    assert content == [
        {"name": "a", "deleted": True},
        {"name": "missing", "deleted": False, "code": "file_not_found"},
        {"name": "b", "deleted": True},
    ]


@pytest.mark.parametrize("names", [[], ["x"] * 1001, "a", [1], None])
def test_a_bad_bulk_delete(client: FlaskClient, names: object) -> None:
    """A bulk delete of no names, of more than 1,000, or of values that are not names is answered 400."""
    refused(client.post("/delete", json={"files": names}), 400, "invalid_request")


def test_a_bulk_delete_of_the_longest_names(client: FlaskClient) -> None:
    """A thousand names of a thousand bytes fit."""
    answer = client.post("/delete", json={"files": [f"{n:04}" + "\U0001f600" * 255 for n in range(1000)]})

    assert (answer.status_code, len(answer.get_json()["content"])) == (200, 1000)


def test_restore(client: FlaskClient, store: MemoryStore) -> None:
    """A deleted file comes back; one that is not deleted is 409, one that never was is 404."""
    stored(store, "a")
    client.delete("/delete/a")
    content = said(client.post("/restore/a"), 200, f"Successfully restored file 'a' on s3 bucket '{BUCKET}'")

    assert content["name"] == "a"
    assert list(store.objects) == ["a"]
    refused(client.post("/restore/a"), 409, "file_not_deleted")
    refused(client.post("/restore/b"), 404, "file_not_found")


# --- the service itself


def test_livez_touches_nothing(client: FlaskClient, store: MemoryStore) -> None:
    """Liveness answers while S3 is down."""
    store.fails_with = failures.StoreUnavailable("S3 cannot be reached; try again")

    assert client.get("/livez").status_code == 200


def test_readyz_asks_s3(make_client: MakeClient, store: MemoryStore) -> None:
    """Readiness follows S3, and names a missing bucket."""
    assert make_client().get("/readyz").status_code == 200
    store.fails_with = failures.BucketNotFound("The bucket 'day02-memory' does not exist")
    answer = make_client().get("/readyz")

    assert "day02-memory" in refused(answer, 503, "bucket_not_found")
    assert answer.headers["Retry-After"]


def test_readyz_asks_once_a_second(
    client: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many readiness requests at once ask S3 only once."""
    asked: list[int] = []
    monkeypatch.setattr(health, "CACHED_SECONDS", 3600)  # a slow machine needs more than a second for them
    monkeypatch.setattr(store, "check", lambda: asked.append(1))
    fresh = client.application.extensions["s3api"].readiness
    monkeypatch.setattr(fresh, "_check", store.check)
    for _ in range(50):
        client.get("/readyz")

    assert len(asked) == 1


def test_healthz_gates_the_start_and_then_no_longer_fails_with_s3(
    make_client: MakeClient, store: MemoryStore
) -> None:
    """A load balancer gets S3's failure until S3 has answered once, and then no more.

    ECS replaces a task that fails its load balancer's check: docs.aws.amazon.com/AmazonECS/latest/
    developerguide/service-load-balancing.html. A new task could not reach S3 either.
    """
    client = make_client()
    store.fails_with = failures.StoreUnavailable("S3 cannot be reached; try again")
    refused(client.get("/healthz"), 503, "s3_unavailable")
    refused(client.get("/healthz"), 503, "s3_unavailable")
    readiness = client.application.extensions["s3api"].readiness
    readiness._checked_at = float("-inf")
    store.fails_with = None
    assert client.get("/healthz").status_code == 200

    store.fails_with = failures.StoreUnavailable("S3 cannot be reached; try again")
    readiness._checked_at = float("-inf")

    assert client.get("/healthz").status_code == 200
    until(lambda: client.get("/readyz").status_code == 503, "readiness still says that S3 fails")
    assert client.get("/healthz").status_code == 200


def test_healthz_waits_for_nothing_once_s3_was_reached(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While S3 hangs, the check for a load balancer answers at once, and one question is under way."""
    assert client.get("/healthz").status_code == 200
    asked: list[int] = []
    hangs, readiness = threading.Event(), client.application.extensions["s3api"].readiness

    def hang() -> None:
        asked.append(1)
        hangs.wait(60)

    monkeypatch.setattr(readiness, "_check", hang)
    readiness._checked_at = float("-inf")
    try:
        answers = [client.get("/healthz").status_code for _ in range(20)]
        until(lambda: asked, "S3 is asked in the background")
    finally:
        hangs.set()

    assert answers == [200] * 20
    assert len(asked) == 1


def test_healthz_keeps_asking_s3_in_the_background() -> None:
    """The state of S3 stays known without traffic. A question that has ended allows the next one."""
    asked: list[int] = []
    readiness = health.Readiness(lambda: asked.append(1))
    assert readiness.failure() is None

    def is_asked(times: int) -> bool:
        readiness._checked_at = float("-inf")  # as if WATCHED_SECONDS had passed
        assert readiness.failure_before_first_success() is None
        return len(asked) >= times

    for times in (2, 3, 4):
        until(partial(is_asked, times), f"S3 is asked {times} times")


def test_healthz_fails_while_draining(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is about to stop gets no new requests from a load balancer."""
    assert client.get("/healthz").status_code == 200
    monkeypatch.setattr(draining, "is_set", lambda: True)

    refused(client.get("/healthz"), 503, "draining")


@pytest.mark.parametrize("path", ["/nope", "/list_files/", "/download/", "/restore/x/y", "/uploads/x/y/z"])
def test_an_unknown_url(client: FlaskClient, path: str) -> None:
    """An unknown URL is answered 404 or 405 in the envelope."""
    answer = client.get(path)

    refused(answer, *((405, "method_not_allowed") if path.startswith("/restore/") else (404, "not_found")))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "MADEUP"])
def test_an_unknown_method(client: FlaskClient, method: str) -> None:
    """A method that a URL does not answer to is 405 in the envelope, with those it does."""
    answer = client.open("/list_files", method=method)

    refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD"


def test_the_request_id(client: FlaskClient) -> None:
    """A sane request id is kept, anything else replaced; every answer has one."""
    assert client.get("/", headers={"X-Request-Id": "abc-123"}).headers["X-Request-Id"] == "abc-123"
    replaced = client.get("/", headers={"X-Request-Id": "has spaces"}).headers["X-Request-Id"]
    assert re.match(r"^[0-9a-f]{16}$", replaced)


def test_the_document_and_its_page(client: FlaskClient) -> None:
    """The document is OpenAPI 3.1, and the page that shows it loads nothing from elsewhere."""
    document = client.get("/openapi.json").get_json()
    page = client.get("/docs")

    assert document["openapi"].startswith("3.1")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) == 5
    for asset in assets:
        assert client.get(f"/{asset}").status_code == 200
    refused(client.get("/docs/../settings.py"), 404, "not_found")


# --- failures of S3

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/list_files", {}),
    ("GET", "/download/a", {}),
    ("GET", "/files/a", {}),
    ("PUT", "/upload/a", {"data": b"x"}),
    ("POST", "/upload", {"data": {"file": (io.BytesIO(b"x"), "a")}}),
    ("POST", "/uploads", {"json": {"name": "a", "size": 100 * 1024 * 1024}}),
    ("DELETE", "/delete/a", {}),
    ("POST", "/delete", {"json": {"files": ["a"]}}),
    ("POST", "/restore/a", {}),
]


@pytest.mark.parametrize("call", CALLS, ids=[f"{m} {p}" for m, p, _ in CALLS])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (failures.StoreUnavailable("S3 cannot be reached; try again"), 503),
        (failures.StoreThrottled("S3 asks to slow down; try again"), 503),
        (failures.StoreDenied("S3 does not allow it", "get_object"), 502),
        (failures.StoreFailed("S3 refused the request"), 502),
    ],
    ids=["unavailable", "throttled", "denied", "failed"],
)
def test_failures_of_s3(
    client: FlaskClient,
    store: MemoryStore,
    call: tuple[str, str, dict[str, Any]],
    error: failures.FileError,
    status: int,
) -> None:
    """For every request, a failing store is a clear answer with a stable code, never a 500."""
    method, path, more = call
    store.fails_with = error
    if "data" in more and isinstance(more["data"], dict):
        more = form(("a", b"x"))
    answer = client.open(path, method=method, **more)

    refused(answer, status, error.code)
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_the_unexpected_is_500_and_tells_nothing(
    client: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours is 500 in the envelope, without its message."""
    monkeypatch.setattr(store, "list_page", lambda *_: 1 / 0)
    message = refused(client.get("/list_files"), 500, "internal_error")

    assert "division" not in message


def test_every_error_has_a_status() -> None:
    """No error of the use cases is left without an HTTP status."""

    def all_of(kind: type[failures.FileError]) -> set[type[failures.FileError]]:
        return {kind}.union(*(all_of(sub) for sub in kind.__subclasses__()))

    assert all_of(failures.FileError) - {failures.FileError, NotModified} == set(_STATUS)


# --- names

ALLOWED = [
    "plain.txt",
    "with space.txt",
    "+()'!*&#?%=.txt",
    "accents-é-ü.txt",
    "\U0001f600.txt",
    "漢字.txt",
    "a//b",
    "folder/",
    "a...b/..c/d..",
    "x" * 1024,
    "é" * 512,
    "100%25.txt",
    "a%2Fb",
    "a;b:c@d$,~[]{}|^`<>",
    "\u2028\U0001fffe\ufffd",
]
REFUSED = [
    "..",
    ".",
    "a/../b",
    "../a",
    "a/.",
    "a/./b",
    "/leading",
    "back\\slash",
    "nul\x00",
    "line\nbreak",
    "\x7f",
    "\ufffe",
    "a\uffffb",
    "\x85",
    "x" * 1025,
    "é" * 513,
]


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed_names_go_round(client: FlaskClient, store: MemoryStore, name: str) -> None:
    """A name that is allowed goes in, is listed, read, planned for and deleted, unchanged."""
    url = quote(name, safe="")

    assert client.put(f"/upload/{url}", data=b"x").get_json()["content"][0]["name"] == name
    assert list(store.objects) == [name]
    assert client.get("/list_files").get_json()["content"] == [name]
    assert client.get(f"/files/{url}").data == b"x"
    assert client.get(f"/download/{url}").status_code == 200
    assert client.post("/uploads", json={"name": name, "size": 1}).status_code == 200
    assert client.delete(f"/delete/{url}").status_code == 200
    assert client.post(f"/restore/{url}").status_code == 200
    assert client.post("/delete", json={"files": [name]}).get_json()["content"][0]["deleted"]
    assert store.objects == {}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_names_are_refused_everywhere(client: FlaskClient, store: MemoryStore, name: str) -> None:
    """A name that is not allowed is 400 by every way in, and the store never hears of it."""
    store.fails_with = failures.StoreFailed("the store was asked")
    url = quote(name, safe="")
    calls = [("PUT", "/upload/"), ("GET", "/download/"), ("GET", "/files/"), ("DELETE", "/delete/")]
    for method, route in [*calls, ("POST", "/restore/")]:
        refused(client.open(f"{route}{url}", method=method, data=b""), 400, "invalid_file_name")
    assert client.post("/uploads", json={"name": name, "size": 1}).status_code == 400
    told = client.post("/delete", json={"files": [name]}).get_json()["content"]
    assert told == [{"name": name, "deleted": False, "code": "invalid_file_name"}]
    if "/" not in name:
        refused(client.post("/upload", **form(("x", b""), prefix=f"{name}/")), 400, "invalid_file_name")


@pytest.mark.parametrize("url", ["/files/%2e%2e", "/files/%2E%2E%2Fx", "/files/a%2F..%2Fb", "/files/%2Fetc"])
def test_encoded_bypasses(client: FlaskClient, url: str) -> None:
    """A dot segment or a leading slash is refused in every encoding."""
    refused(client.get(url), 400, "invalid_file_name")


@pytest.mark.parametrize("url", ["/files/%ff", "/files/%c3%28", "/list_files?prefix=%ff", "/%ff"])
def test_what_is_not_utf8_is_refused(client: FlaskClient, url: str) -> None:
    """A URL that is not UTF-8 is 400: it must not be turned into another name."""
    path, _, query = url.partition("?")
    answer = client.get(
        "/",
        environ_overrides={"PATH_INFO": unquote_to_bytes(path).decode("latin-1"), "QUERY_STRING": query},
    )

    refused(answer, 400, "invalid_file_name")


def test_plus_and_space_are_two_names(client: FlaskClient, store: MemoryStore) -> None:
    """In a path a plus is a plus; in a query it is a space."""
    stored(store, "a+b", "a b")

    assert client.delete("/delete/a+b").status_code == 200
    assert list(store.objects) == ["a b"]
    assert client.get("/list_files?prefix=a+b").get_json()["content"] == ["a b"]


# --- who may

TOKEN = "s3api_for-this-test"


def entry(verbs: list[str], prefix: str = "") -> dict[str, Any]:
    return {"name": "test", "verbs": verbs, "prefix": prefix, "sha256": hash_token(TOKEN)}


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
BY_VERB: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "list": [("GET", "/list_files?prefix=p/", {})],
    "read": [("GET", "/download/p/a", {}), ("GET", "/files/p/a", {})],
    "write": [
        ("PUT", "/upload/p/a", {"data": b"x"}),
        ("POST", "/uploads", {"json": {"name": "p/a", "size": 1}}),
        ("GET", "/upload/p/a", {}),
        ("POST", "/restore/p/gone", {}),
    ],
    "delete": [("POST", "/delete", {"json": {"files": ["p/a"]}}), ("DELETE", "/delete/p/a", {})],
}


@pytest.mark.parametrize("granted", list(BY_VERB))
def test_a_token_may_what_its_verbs_say(make_client: MakeClient, store: MemoryStore, granted: str) -> None:
    """Each verb opens its own URLs and no others."""
    client = make_client(allow_anonymous=False, api_tokens=[entry([granted])])
    for verb, calls in BY_VERB.items():
        for method, path, more in calls:
            stored(store, "p/a", "p/gone")
            store.delete("p/gone")
            answer = client.open(path, method=method, headers=AUTHORIZED, **more)
            if verb == granted:
                assert answer.status_code == 200, (path, answer.text)
            else:
                refused(answer, 403, "forbidden")


def test_whoami(make_client: MakeClient) -> None:
    """A caller learns its own name, verbs and prefix, whatever its verbs are."""
    client = make_client(allow_anonymous=False, api_tokens=[entry(["write", "delete"], prefix="p/")])
    found = client.get("/whoami", headers=AUTHORIZED)

    assert found.get_json()["content"] == {"name": "test", "verbs": ["delete", "write"], "prefix": "p/"}
    refused(client.get("/whoami"), 401, "unauthorized")
    anonymous = make_client().get("/whoami").get_json()["content"]
    assert anonymous == {"name": "anonymous", "verbs": sorted(BY_VERB), "prefix": ""}


@pytest.mark.parametrize("verb", list(BY_VERB))
def test_a_token_is_held_to_its_prefix(make_client: MakeClient, store: MemoryStore, verb: str) -> None:
    """A token allows nothing outside its prefix, not even to see which files exist."""
    client = make_client(allow_anonymous=False, api_tokens=[entry(list(BY_VERB), prefix="other/")])
    stored(store, "p/a")
    for method, path, more in BY_VERB[verb]:
        refused(client.open(path, method=method, headers=AUTHORIZED, **more), 403, "forbidden")
    refused(client.get("/list_files", headers=AUTHORIZED), 403, "forbidden")
    refused(client.get("/download/p/missing", headers=AUTHORIZED), 403, "forbidden")
    answer = client.post("/upload", headers=AUTHORIZED, **form(("a", b"x"), prefix="p/"))
    refused(answer, 403, "forbidden")
    assert list(store.objects) == ["p/a"]


def test_an_upload_id_is_no_permission(make_client: MakeClient) -> None:
    """A caller who may not write a name may not use an upload id for it either."""
    everything = make_client()
    plan = everything.post("/uploads", json={"name": "p/a", "size": 100 * 1024 * 1024}).get_json()["content"]
    held = make_client(allow_anonymous=False, api_tokens=[entry(["write"], prefix="other/")])

    refused(held.get(f"/uploads/{plan['id']}/parts", headers=AUTHORIZED), 403, "forbidden")
    refused(held.delete(f"/uploads/{plan['id']}", headers=AUTHORIZED), 403, "forbidden")


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Basic dXNlcjpwYXNz", "", f"Bearer {TOKEN}x", "Bearer é"]
)
def test_without_a_valid_token(make_client: MakeClient, header: str | None) -> None:
    """No token, or another one, is 401 with how to send it, also where the file is missing."""
    client = make_client(allow_anonymous=False, api_tokens=[entry(["list", "read"])])
    headers = {} if header is None else {"Authorization": header}
    answer = client.get("/download/missing", headers=headers)

    refused(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for public in ("/", "/livez", "/readyz", "/healthz", "/docs", "/openapi.json", "/ui", "/ui/ui.js"):
        assert client.get(public, headers=headers).status_code == 200


def test_with_nothing_configured_nothing_answers(make_client: MakeClient) -> None:
    """Without tokens and without anonymous access only the four public URLs answer."""
    client = make_client(allow_anonymous=False)

    for public in ("/", "/livez", "/readyz", "/healthz"):
        assert client.get(public).status_code == 200
    for closed in ("/list_files", "/docs", "/openapi.json", "/ui", "/ui/ui.js", "/download/a"):
        assert "API_TOKENS" in refused(client.get(closed), 401, "unauthorized")


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_with_nothing_configured_no_route_answers(make_client: MakeClient, accept: str) -> None:
    """Every route and method of the service, also those that check an upload link instead of a token."""
    client = make_client(allow_anonymous=False)
    answers = {
        (method, rule.rule): client.open(
            re.sub(r"<[^>]+>", "x", rule.rule), method=method, headers={"Accept": accept}
        )
        for rule in client.application.url_map.iter_rules()
        if rule.endpoint not in PUBLIC
        for method in rule.methods or ()
    }

    assert len(answers) > 40
    for call, answer in answers.items():
        assert answer.status_code in (401, 410), call
        assert call[0] == "HEAD" or "API_TOKENS" in answer.get_json()["message"], call


def test_no_header_leads_where_the_path_says(client: FlaskClient) -> None:
    """CWE-601: no part of the path becomes the destination of a redirect, or a header of its own."""
    segments = ("https:evil.example", "%2f%2fevil.example", "%5c%5cevil.example", "a%0d%0aX-Evil:%201", "..")
    paths = {
        re.sub(r"<[^>]+>", segment, rule.rule) + slash
        for rule in client.application.url_map.iter_rules()
        for segment in segments
        for slash in ("", "/")
        if "<" in rule.rule
    }
    for path in sorted(paths):
        answer = client.get(path, headers={"Accept": "text/html"})
        location = answer.headers.get("Location", "")

        assert answer.status_code < 500, path
        assert "X-Evil" not in answer.headers, path
        assert urlsplit(urljoin(f"http://localhost{path}", location)).netloc == "localhost", path
        assert urljoin(f"http://localhost{path}", location).startswith("http:"), path


def test_anonymous_access_does_not_excuse_a_wrong_token(make_client: MakeClient) -> None:
    """A wrong token is 401 even where no token is needed."""
    client = make_client(allow_anonymous=True, api_tokens=[entry(["list"])])

    assert client.get("/list_files").status_code == 200
    refused(client.get("/list_files", headers={"Authorization": "Bearer wrong"}), 401, "unauthorized")
    refused(client.get("/download/a", headers=AUTHORIZED), 403, "forbidden")


FOREIGN = [
    {"Origin": "http://evil.test"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "http://localhost.evil.test"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost, http://evil.test"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]
OWN = [
    {},
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "/upload/b", {"data": b"x"}),
    ("POST", "/upload", {"form": ("b", b"x")}),
    ("POST", "/uploads", {"json": {"name": "b", "size": 1}}),
    ("GET", "/upload/b", {}),
    ("POST", "/uploads/any/complete", {}),
    ("DELETE", "/uploads/any", {}),
    ("DELETE", "/delete/a", {}),
    ("POST", "/delete", {"json": {"files": ["a"]}}),
    ("POST", "/restore/a", {}),
]
READS = ["/list_files", "/download/a", "/download/a?redirect=true", "/files/a"]


def ask(
    client: FlaskClient, call: tuple[str, str, dict[str, Any]], headers: Mapping[str, str]
) -> TestResponse:
    method, path, more = call
    more = form(more["form"]) if "form" in more else more
    return client.open(path, method=method, headers=headers, **more)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_origin_is_refused(
    client: FlaskClient, store: MemoryStore, headers: dict[str, str]
) -> None:
    """Where no token is needed, a foreign page changes nothing, and reads no listing, file or URL of one."""
    stored(store, "a")
    for call in CHANGES:
        refused(ask(client, call, headers), 403, "forbidden")
    for path in READS:
        refused(client.get(path, headers=headers), 403, "forbidden")
    refused(
        client.get("/list_files", headers={**headers, "Accept": "application/x-ndjson"}), 403, "forbidden"
    )

    assert list(store.objects) == ["a"]
    assert store.uploads == {}


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_the_own_page_is_not_foreign(
    client: FlaskClient, store: MemoryStore, headers: dict[str, str]
) -> None:
    """The service's own page, and a client that is no browser, do what they ask for."""
    for call in CHANGES:
        stored(store, "a")
        assert ask(client, call, headers).status_code in (200, 404, 409), call
    stored(store, "a")
    for path in READS:
        assert client.get(path, headers=headers).status_code in (200, 302)


def test_a_link_from_another_site_may_be_followed(client: FlaskClient, store: MemoryStore) -> None:
    """A user who follows a link reads the file; the site with the link does not. A link changes nothing."""
    stored(store, "a")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert client.get("/files/a", headers=link).status_code == 200
    refused(client.delete("/delete/a", headers=link), 403, "forbidden")
    refused(client.get("/upload/a", headers=link), 403, "forbidden")


def test_a_token_does_not_make_a_foreign_page_welcome(make_client: MakeClient, store: MemoryStore) -> None:
    """With a token a foreign origin still changes nothing, unless configuration names it."""
    tokens = {"allow_anonymous": False, "api_tokens": [entry(list(BY_VERB))]}
    origin = {"Origin": "https://files.example:8443", **AUTHORIZED}
    client, allowing = make_client(**tokens), make_client(**tokens, allowed_origins=[origin["Origin"]])
    for call in CHANGES:
        stored(store, "a")
        refused(ask(client, call, origin), 403, "forbidden")
        assert ask(allowing, call, origin).status_code in (200, 404, 409), call


def test_the_own_origin_behind_a_proxy(make_client: MakeClient, store: MemoryStore) -> None:
    """The scheme is the one that the trusted proxy says; a proxy that is not trusted changes nothing."""
    stored(store, "a")
    tls = {"X-Forwarded-Proto": "https", "Host": "files.example", "Origin": "https://files.example"}
    here = {"allowed_hosts": ["files.example"]}
    trusting, other = make_client(trusted_proxy_hops=1, **here), make_client(**here)

    refused(other.delete("/delete/a", headers=tls), 403, "forbidden")
    refused(trusting.delete("/delete/a", headers={**tls, "Origin": "http://files.example"}), 403, "forbidden")
    assert trusting.delete("/delete/a", headers={**tls, "Host": "files.example:443"}).status_code == 200


# --- which host


EVERY_PAGE = [
    "/",
    "/list_files",
    "/files/a",
    "/docs",
    "/docs/docs.js",
    "/openapi.json",
    "/ui",
    "/ui/ui.js",
    "/nope",
]
OTHER_HOSTS = [
    "evil.test",
    "evil.test:5000",
    "localhost.evil.test",
    "127.0.0.1.evil.test",
    "192.0.2.1",
    "[::2]",
]


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_on_loopback_another_host_is_refused(client: FlaskClient, host: str) -> None:
    """A host name that an attacker points at this machine is refused with every method (DNS rebinding)."""
    for path in EVERY_PAGE:
        assert "ALLOWED_HOSTS" in refused(client.get(path, headers={"Host": host}), 421, "unknown_host")
    refused(client.put("/upload/a", data=b"x", headers={"Host": host}), 421, "unknown_host")
    refused(client.options("/upload/a", headers={"Host": host}), 421, "unknown_host")
    for probe in ("/livez", "/readyz", "/healthz"):
        assert client.get(probe, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:5000", "[::1]:5000", "[::1]"])
@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_its_own_names_are_served(make_client: MakeClient, bound: str, host: str) -> None:
    """The names of loopback are served, with any port."""
    assert make_client(host=bound).get("/list_files", headers={"Host": host}).status_code == 200


def test_hosts_are_configured(make_client: MakeClient) -> None:
    """Behind a load balancer every host is served; once hosts are named, only those and loopback are."""
    named = {"allowed_hosts": ["files.example"]}
    statuses = [
        [
            client.get("/list_files", headers={"Host": host}).status_code
            for host in ("files.example", "10.0.0.7", "localhost")
        ]
        for client in (
            make_client(host="0.0.0.0"),
            make_client(host="0.0.0.0", **named),
            make_client(**named),
        )
    ]

    assert statuses == [[200, 200, 200], [200, 421, 200], [200, 421, 200]]


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "evil.test@localhost", "localhost:x", "localhost,localhost", "é"]
)
def test_a_malformed_host(make_client: MakeClient, host: str) -> None:
    """RFC 9112, section 3.2: a Host that is not valid is 400, wherever the service is bound."""
    refused(make_client(host="0.0.0.0").get("/livez", headers={"Host": host}), 400, "bad_request")


# --- what a browser is told


def test_every_answer_is_hardened(make_client: MakeClient, store: MemoryStore) -> None:
    """No answer can be framed or embedded by another origin; HTTPS is remembered where it was used."""
    stored(store, "a")
    client = make_client(trusted_proxy_hops=1)
    for path in [*EVERY_PAGE, "/download/a", "/livez"]:
        plain = client.get(path)
        secure = client.get(path, headers={"X-Forwarded-Proto": "https"})

        assert plain.headers["X-Frame-Options"] == "DENY"
        assert plain.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        policy = plain.headers["Content-Security-Policy"]
        assert policy == "sandbox" if path == "/files/a" else "frame-ancestors 'none'" in policy
        assert "Strict-Transport-Security" not in plain.headers
        assert secure.headers["Strict-Transport-Security"] == "max-age=31536000"
    untrusting = make_client().get("/", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in untrusting.headers


def test_the_policy_of_the_page_names_no_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page, which is served without a token, may reach every bucket of the region: it names none."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    policies = {}
    for bucket in ("day02-private", "day02.with.dots"):
        settings = settings_for(tmp_path, bucket=bucket)
        page = create_app(settings, S3FileStore(settings)).test_client().get("/ui")
        assert bucket not in page.text + str(page.headers)
        policies[bucket] = page.headers["Content-Security-Policy"]

    assert "connect-src 'self' https://*.s3.eu-west-1.amazonaws.com;" in policies["day02-private"]
    assert "connect-src 'self' https://s3.eu-west-1.amazonaws.com;" in policies["day02.with.dots"]


# --- bodies that are larger than they look

#: Every route of the API's document that takes JSON.
JSON_ROUTES = [
    path.replace("{upload_id}", "any")
    for path, operations in json.loads(
        (ROOT / "services/s3api/static/openapi.json").read_text(encoding="utf-8")
    )["paths"].items()
    if "application/json" in operations.get("post", {}).get("requestBody", {}).get("content", {})
]


def test_the_routes_that_take_json() -> None:
    """The tests below reach all of them, and those of a later version."""
    assert {"/uploads", "/uploads/any/parts", "/delete", "/copy/folder", "/restore"} < set(JSON_ROUTES)


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize(
    "given", [None, "", "text/plain", "application/x-www-form-urlencoded", "text/plain;application/json",
              "application/json, text/plain", "application/jsonx", "application/vnd.api+json"]
)  # fmt: skip
def test_json_only_as_json(client: FlaskClient, path: str, given: str | None) -> None:
    """JSON is taken only as JSON: a page of another origin may send text and forms, but not JSON."""
    answer = client.post(path, data=b'{"files": ["a"]}', content_type=given)

    assert "application/json" in refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("given", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8"])
def test_json_is_json_however_it_is_written(client: FlaskClient, store: MemoryStore, given: str) -> None:
    """The media type has no case, and may have parameters."""
    stored(store, "a")

    assert client.post("/delete", data=b'{"files": ["a"]}', content_type=given).status_code == 200


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize("length", ["announced", "chunked"])
def test_a_json_body_has_a_limit(client: FlaskClient, path: str, length: str) -> None:
    """A body above the limit of its route is 413, whether its length is announced or not."""
    data = b" " * ((4 << 20) if path == "/delete" else 20_000)
    more: dict[str, Any] = {"data": data}
    if length == "chunked":
        more = {"input_stream": io.BytesIO(data), "environ_overrides": {"wsgi.input_terminated": True}}

    refused(client.post(path, content_type="application/json", **more), 413, "body_too_large")


COSTLY = {
    "members": b"{" + b",".join(b'"%d":0' % n for n in range(5000)) + b"}",
    "arrays": b'{"files":[' + b",".join([b"[]"] * 5000) + b"]}",
    "objects": b'{"files":[' + b",".join([b"{}"] * 5000) + b"]}",
    "numbers": b'{"parts":[' + b",".join([b"1"] * 5000) + b"]}",
    "names": b'{"files":[' + b",".join([b'"a"'] * 5000) + b"]}",
    "escapes": b'{"files":[' + b",".join([b'"\\\\"'] * 5000) + b"]}",
    "no end": b'{"files":["' + b'\\"' * 5000,
    "no quotes": b"[" * 5000,
    "deep": b'{"files":' + b"[" * 1500 + b"]" * 1500 + b"}",
    "deep objects": b'{"a":' * 900 + b"0" + b"}" * 900,
    "a number": b'{"parts":[' + b"9" * 5000 + b"]}",
    "a float": b'{"parts":[1e400]}',
    "not a number": b'{"parts":[NaN]}',
    "a member": b'{"' + b"x" * 10_000 + b'":0}',
    "not UTF-8": b'{"files":["\xff"]}',
}


@pytest.mark.parametrize("path", ["/uploads", "/uploads/any/parts", "/delete"])
@pytest.mark.parametrize("kind", list(COSTLY))
def test_a_costly_body_is_refused_in_a_few_words(client: FlaskClient, path: str, kind: str) -> None:
    """Many values, deep nesting and large numbers are refused with a short answer, never with a 500."""
    answer = client.post(path, data=COSTLY[kind], content_type="application/json")

    assert answer.status_code in (400, 413), answer.text
    assert len(answer.data) < 3000


def test_at_most_ten_problems_are_told(client: FlaskClient) -> None:
    """The answer names ten problems of a body, and the number of others."""
    body = {"name": "a", "size": 1, **{f"unknown{n}": 0 for n in range(500)}}
    message = refused(client.post("/uploads", json=body), 400, "invalid_request")

    assert message.count("unknown") == 10
    assert message.endswith("; and 490 more")


class Unread:
    """A body that fails the test when it is read."""

    def read(self, _amount: int = -1) -> bytes:
        raise AssertionError("the body was read")

    readline = read


BODIES: list[tuple[str, str, str, str]] = [
    ("POST", "/delete", "application/json", "delete"),
    ("POST", "/uploads", "application/json", "write"),
    ("POST", "/uploads/any/parts", "application/json", "write"),
    ("POST", "/upload", "multipart/form-data; boundary=b", "write"),
    ("PUT", "/upload/p/a", "text/plain", "write"),
]


@pytest.mark.parametrize("call", BODIES, ids=str)
@pytest.mark.parametrize("who", ["nobody", "without the verb", "a foreign page", "another host"])
def test_a_refused_body_is_not_read(
    make_client: MakeClient, call: tuple[str, str, str, str], who: str
) -> None:
    """A caller without the permission is refused before a byte of the body is read."""
    method, path, content_type, verb = call
    granted = [other for other in BY_VERB if other != verb or who != "without the verb"]
    client = make_client(allow_anonymous=False, api_tokens=[entry(granted)])
    headers = {
        "nobody": {},
        "without the verb": AUTHORIZED,
        "a foreign page": {**AUTHORIZED, "Origin": "http://evil.test"},
        "another host": {**AUTHORIZED, "Host": "evil.test"},
    }[who]
    sent = {"wsgi.input": Unread(), "CONTENT_LENGTH": "8000000", "CONTENT_TYPE": content_type}
    answer = client.open(path, method=method, headers=headers, environ_overrides=sent)

    assert answer.status_code == {"nobody": 401, "another host": 421}.get(who, 403), answer.text


def test_every_route_has_a_verb(client: FlaskClient) -> None:
    """Every route of the API has an entry for the permission that it needs."""
    endpoints = {rule.endpoint for rule in client.application.url_map.iter_rules()}

    assert {one for one in endpoints if one.startswith("api.")} - PUBLIC == set(VERBS)


def test_the_fields_of_a_form_have_a_limit_in_all(client: FlaskClient, store: MemoryStore) -> None:
    """Many fields within the limit of one are 413 together: they are held in memory."""
    part = b'--b\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n%b\r\n' % (b"x" * 200_000)
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'

    def send(fields: int) -> TestResponse:
        return client.post(
            "/upload", data=part * fields + file, content_type="multipart/form-data; boundary=b"
        )

    assert send(2).status_code == 200
    store.objects.clear()
    refused(send(50), 413, "body_too_large")
    assert store.objects == {}


def test_a_large_file_of_a_form_is_no_field(client: FlaskClient, store: MemoryStore) -> None:
    """What the files hold does not count as held in memory, however many there are."""
    content_type, body = raw_client.form(*((f"{n}", bytes(1 << 20)) for n in range(5)))
    answer = client.post(
        "/upload", input_stream=io.BytesIO(body), content_type=content_type, content_length=len(body)
    )

    assert answer.status_code == 200
    assert [len(store.objects[f"{n}"].data) for n in range(5)] == [1 << 20] * 5


def test_large_bodies_have_two_places(client: FlaskClient) -> None:
    """Two large bodies are processed at once; a third is 503, and a small one is processed."""
    large = json.dumps({"files": ["x" * 1000] * 100})
    with json_bodies._places, json_bodies._places:
        refused(client.post("/delete", data=large, content_type="application/json"), 503, "too_busy")
        assert client.post("/delete", json={"files": ["a"]}).status_code == 200

    assert client.post("/delete", data=large, content_type="application/json").status_code == 200


INVALID_DATES = [
    "Mon, 01 Jan 10000 00:00:00 GMT",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 2024 00:00:00 +9999999999",
    "Mon, 99 Jan 2024 99:99:99 GMT",
    "9999999999",
    "x",
]


def test_a_date_outside_the_calendar_is_ignored(client: FlaskClient, store: MemoryStore) -> None:
    """RFC 9110, section 13.1.3: a date that is not valid is no condition."""
    stored(store, "a")
    for date in INVALID_DATES:
        for header in ("If-Modified-Since", "If-Unmodified-Since", "If-Range"):
            headers = {header: date, "Range": "bytes=0-0"} if header == "If-Range" else {header: date}
            assert client.get("/files/a", headers=headers).status_code == 200, (header, date)


def test_a_delimiter_is_held_to_the_rule_of_names(client: FlaskClient) -> None:
    """A delimiter that no name can contain is 400, before S3 is asked."""
    refused(client.get("/list_files?delimiter=%00"), 400, "invalid_file_name")


def test_no_forwarded_header_is_believed_by_default(
    make_client: MakeClient,
) -> None:
    """X-Forwarded-For changes the client's address only behind the configured number of hops."""
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "X-Forwarded-Proto": "https"}
    seen = []
    for hops in (0, 1, 2):
        client = make_client(trusted_proxy_hops=hops)
        client.application.add_url_rule("/who", view_func=lambda: str(flask.request.remote_addr))
        seen.append(client.get("/who", headers=headers).text)

    assert seen == ["127.0.0.1", "198.51.100.7", "203.0.113.9"]
