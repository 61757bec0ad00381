"""Health, the OpenAPI document, unknown URLs, request ids, tokens."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import pytest

from e2e.api import Api, MiB, good, part_of_form, refused


def test_health(api: Api) -> None:
    """The service is alive, and ready while S3 answers."""
    assert good(api.call("GET", "/livez"))["message"] == "The service is alive"
    assert good(api.call("GET", "/readyz"))["message"] == "The service is ready"


def test_health_needs_no_token(api: Api) -> None:
    """The root and the probes need no token."""
    for path in ("/", "/livez", "/readyz", "/healthz"):
        assert api.target.get(path).status_code == 200


def test_document(api: Api) -> None:
    """The OpenAPI document describes what the contract has."""
    answer = api.call("GET", "/openapi.json")
    document = answer.json()

    assert answer.headers["Content-Type"] == "application/json"
    assert document["openapi"].startswith("3.1")
    assert {
        *("/", "/list_files", "/upload", "/upload/{name}", "/download/{name}", "/files/{name}"),
        *("/delete/{name}", "/delete", "/restore/{name}", "/livez", "/readyz", "/healthz", "/uploads"),
        *("/uploads/{upload_id}/parts", "/uploads/{upload_id}/complete", "/uploads/{upload_id}"),
    } <= set(document["paths"])


@pytest.mark.parametrize("page", ["/docs", "/ui"])
def test_pages(api: Api, page: str) -> None:
    """A page for people loads all that it needs from the service itself."""
    answer = api.call("GET", page)
    needed = re.findall(r'(?:src|href)="([^"]+)"', answer.text)

    assert answer.headers["Content-Type"].startswith("text/html")
    assert needed
    for asset in needed:
        url = urljoin(f"{api.target.url}{page}", asset)
        assert url.startswith(api.target.url)
        assert api.session.get(url, timeout=30).status_code == 200


@pytest.mark.parametrize(
    "path", ["/nothing", "/metrics", "/docs/nothing", "/docs/../x", "/uploads/a/b/c", "/%2e%2e"]
)
def test_unknown_url(api: Api, path: str) -> None:
    """A URL that leads nowhere answers in the envelope; metrics are not on this port."""
    answer = api.raw("GET", path)

    refused(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/", "GET"),
        ("PATCH", "/list_files", "GET"),
        ("GET", "/upload", "POST"),
        ("POST", "/upload/a", "PUT"),
        ("GET", "/restore/a", "POST"),
        ("OPTIONS", "/files/a", "GET"),
        ("BREW", "/livez", "GET"),
    ],
)
def test_unknown_method(api: Api, method: str, path: str, allowed: str) -> None:
    """A method that a URL does not support is 405, and the answer names those that it supports."""
    answer = api.raw(method, path)

    refused(answer, 405, "method_not_allowed")
    assert allowed in answer.headers["Allow"]


def test_request_id(api: Api) -> None:
    """Every answer has a request id: the client's own, if it sends a valid one."""
    own = api.call("GET", "/livez", headers={"X-Request-Id": "my-own.id-1"})
    unsound = api.call("GET", "/livez", headers={"X-Request-Id": "<script>"})
    ids = {api.call("GET", "/livez").headers["X-Request-Id"] for _ in range(3)}

    assert own.headers["X-Request-Id"] == "my-own.id-1"
    assert "<" not in unsound.headers["X-Request-Id"]
    assert len(ids) == 3


def test_nothing_is_sniffed(api: Api) -> None:
    """A browser must not guess another type for an answer."""
    for path in ("/", "/nothing", "/docs", "/list_files?limit=0"):
        assert api.call("GET", path).headers["X-Content-Type-Options"] == "nosniff"


def test_no_answer_is_framed(api: Api) -> None:
    """No page of another site can show an answer in a frame, or use it as a picture or a script."""
    for path in ("/", "/nothing", "/docs", "/ui", "/openapi.json", "/list_files?limit=0"):
        headers = api.call("GET", path).headers

        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_the_page_names_no_bucket(api: Api, bucket: str) -> None:
    """Answers without a token do not contain the bucket's name."""
    for path in ("/", "/ui", "/docs", "/openapi.json"):
        answer = api.target.get(path)

        assert answer.status_code == 200
        assert bucket not in answer.text + str(answer.headers)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_foreign_page_changes_nothing(api: Api, origin: str) -> None:
    """A page of another origin cannot use what the caller may do."""
    name = api.name("mine.txt")
    api.put(name, b"mine")
    foreign: dict[str, Any] = {"headers": {"Origin": origin}}

    refused(api.call("PUT", "/upload/", name, data=b"theirs", **foreign), 403, "forbidden")
    refused(api.call("POST", "/upload", files=[part_of_form("x", b"x")], **foreign), 403, "forbidden")
    refused(api.call("POST", "/uploads", json={"name": name, "size": 1}, **foreign), 403, "forbidden")
    refused(api.call("POST", "/delete", json={"files": [name]}, **foreign), 403, "forbidden")
    refused(api.call("DELETE", "/delete/", name, **foreign), 403, "forbidden")
    assert api.call("GET", "/files/", name).content == b"mine"


def test_json_only_as_json(api: Api) -> None:
    """A JSON body of another media type, which a page of another origin could send, is 415."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        answer = api.call("POST", "/delete", data=b'{"files": ["x"]}', headers={"Content-Type": kind})

        assert "application/json" in refused(answer, 415, "unsupported_media_type")


def test_a_costly_body_is_refused(api: Api) -> None:
    """A body that is larger, or has more values, than any request needs is refused with a short answer."""
    json = {"Content-Type": "application/json"}
    many = b'{"files":[' + b",".join([b"[]"] * 100_000) + b"]}"

    refused(api.call("POST", "/delete", data=many, headers=json), 400, "bad_request")
    refused(api.call("POST", "/delete", data=b" " * (4 * MiB), headers=json), 413, "body_too_large")
    refused(api.call("POST", "/uploads", data=b" " * 20_000, headers=json), 413, "body_too_large")


def test_wrong_token(api: Api) -> None:
    """A token that is not configured is 401, even where none is needed."""
    answer = api.call("GET", "/list_files", headers={"Authorization": "Bearer s3api_wrong"})

    refused(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_no_token(api: Api) -> None:
    """Where a token is needed, nothing of the files is shown without one."""
    if not api.target.token:
        pytest.skip("S3API_TOKEN is not set: the service is open to all")
    answer = api.call("GET", "/list_files", headers={"Authorization": None})

    refused(answer, 401, "unauthorized")
