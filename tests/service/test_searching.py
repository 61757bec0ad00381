"""Search by a part of a name: `contains` on /list_files."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from flask.testing import FlaskClient

from s3api.auth import new_token
from s3api.searching import Search
from support.http_server import serving
from support.memory_store import MemoryStore
from support.servers import S3, Service, until
from support.stores import put

LINES = {"Accept": "application/x-ndjson"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("game", "reports/Games 2024.csv"),
        ("GAME", "reports/games.csv"),
        ("strasse", "Hauptstraße.txt"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("é", "cafe\u0301.txt"),
        ("e\u0301", "caf\u00e9.txt"),
        ("CAFE\u0301", "caf\u00e9.txt"),
        ("\u1e9b\u0323", "x\u1e69"),  # canonically equal only after both steps of D145
        ("日本", "x/日本語.txt"),
        ("a+b c%", "A+B C%20.txt"),
    ],
)
def test_names_that_contain_the_text(text: str, name: str) -> None:
    """Case and normalisation do not matter (The Unicode Standard, section 3.13, D145)."""
    assert Search("", text).matches(name)


@pytest.mark.parametrize(
    ("prefix", "text", "name"),
    [
        ("", "game", "gam/e"),
        ("", "cafe", "caf\u00e9"),
        ("", "cafe", "cafe\u0301"),
        ("reports/", "report", "reports/a.csv"),
        ("reports/", "/", "reports/a.csv"),
        ("report/", "/", "report/a.csv"),
    ],
)
def test_names_that_do_not_contain_the_text(prefix: str, text: str, name: str) -> None:
    """An accent matters, in both spellings. The folder that is searched is not compared."""
    assert not Search(prefix, text).matches(name)


@pytest.mark.parametrize("prefix", ["reports/", "reports/ga"])
def test_the_rest_of_a_prefix_is_compared(prefix: str) -> None:
    """Of the prefix `reports/ga`, only the folder is left out."""
    assert Search(prefix, "game").matches("reports/games.csv")


@pytest.mark.parametrize(("names", "expected"), [(32, 1), (33, 2), (64, 2), (65, 3)])
def test_a_search_lets_other_requests_run(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, names: int, expected: int
) -> None:
    """Names of many combining marks take long. So a search gives way before every 32 names."""
    for number in range(names):
        put(store, f"{number}")
    page = store.list_page("", "", 1000, None)
    pauses: list[float] = []
    monkeypatch.setattr("s3api.searching.time", SimpleNamespace(sleep=pauses.append))
    Search("", "x").of(page)

    assert pauses == [0] * expected


def test_lines_of_a_search(client: FlaskClient, store: MemoryStore) -> None:
    """The lines have the files of every page of the listing, and the progress after each page."""
    for number in range(2100):
        put(store, f"a/{number:04}.txt", b"")
    put(store, "b/0007.txt")
    answer = client.get("/list_files?prefix=a/&contains=007.TXT", headers=LINES)
    lines = [json.loads(line) for line in answer.text.splitlines()]

    assert answer.mimetype == "application/x-ndjson"
    assert [line["name"] for line in lines if "name" in line] == [
        "a/0007.txt",
        "a/1007.txt",
        "a/2007.txt",
    ]
    assert set(lines[0]) == {"name", "size", "last_modified", "etag"}
    assert [line for line in lines if "name" not in line] == [
        {"searched": 1000},
        {"searched": 2000},
        {"searched": 2100},
    ]
    assert lines[-1] == {"searched": 2100}


def test_pages_of_a_search(client: FlaskClient, store: MemoryStore) -> None:
    """A page compares `limit` names, so it can be empty. Its cursor continues this search only."""
    for name in ("a1", "a2", "b1", "b2", "c1/x", "c2/x"):
        put(store, name)
    first = client.get("/list_files?contains=B1&limit=2")
    second = client.get(f"/list_files{first.headers['Link'].partition('>')[0][1:]}")

    assert first.get_json()["content"] == []
    assert second.get_json()["content"] == ["b1"]
    cursor = first.get_json()["next"]
    for query in ("", "contains=b2&"):
        refused = client.get(f"/list_files?{query}limit=2&cursor={cursor}")
        assert (refused.status_code, refused.get_json()["code"]) == (400, "invalid_cursor")
    folders = client.get("/list_files?delimiter=/&contains=2").get_json()
    assert (folders["content"], folders["prefixes"]) == (["a2", "b2"], ["c2/"])


@pytest.mark.parametrize("headers", [{}, LINES], ids=["page", "lines"])
def test_a_search_obeys_the_token(make_client: Callable[..., FlaskClient], headers: dict[str, str]) -> None:
    """A token for `a/` cannot search outside of it."""
    token, entry = new_token("a", frozenset({"list"}), "a/")
    client = make_client(api_tokens=[entry], allow_anonymous=False)
    headers = {**headers, "Authorization": f"Bearer {token}"}

    assert client.get("/list_files?contains=x", headers=headers).status_code == 403
    assert client.get("/list_files?prefix=a/&contains=x", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [{}, LINES], ids=["page", "lines"])
@pytest.mark.parametrize("text", ["%00", "x" * 1025])
def test_a_text_that_no_name_contains_is_refused(
    client: FlaskClient, text: str, headers: dict[str, str]
) -> None:
    """A text with a control character, or longer than a name, is 400."""
    answer = client.get(f"/list_files?contains={text}", headers=headers)

    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_file_name")
    assert "contains" in answer.get_json()["message"]


class _Endless(BaseHTTPRequestHandler):
    """An S3 whose listing has no end, and no name with an `x`."""

    protocol_version = "HTTP/1.1"
    #: The pages that were asked for. Each test has a list of its own.
    asked: list[int]

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        page = len(self.asked) + 1
        self.asked.append(page)
        name = f"{page:09}"
        assert query["max-keys"] == ["1000"]
        self._answer(
            b"<ListBucketResult><Name>day02-endless</Name><IsTruncated>true</IsTruncated><KeyCount>1</KeyCount>"
            b"<NextContinuationToken>%d</NextContinuationToken><Contents><Key>%s</Key><Size>1</Size>"
            b'<LastModified>2026-11-26T12:00:00Z</LastModified><ETag>"0123456789abcdef0123456789abcdef"</ETag>'
            b"</Contents></ListBucketResult>" % (page, name.encode())
        )

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("x-amz-request-id", "4442587FB7D0A2F9")
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_search_ends_with_its_client(make_service: Callable[..., Service]) -> None:
    """While nothing matches, the client receives the progress. When it has gone, S3 gets no request."""
    asked: list[int] = []
    endless: Any = type("Endless", (_Endless,), {"asked": asked})
    with serving(endless) as port:
        s3 = S3(
            "endless",
            f"http://127.0.0.1:{port}",
            {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"},
        )
        service = make_service(s3, "day02-endless")
        headers = {**LINES, "X-Request-Id": "gone"}
        with requests.get(
            service.at("/list_files?contains=x"), headers=headers, stream=True, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            first = [json.loads(next(lines)) for _ in range(3)]

        def logged() -> list[dict[str, Any]]:
            return [line for line in service.log_lines() if line.get("request_id") == "gone"]

        assert [line["event"] for line in until(logged, "the search ends", 60)] == ["request"]
        before = len(asked)
        for _ in range(20):  # a search that went on would ask S3 at the same time
            requests.get(service.at("/list_files"), timeout=60).raise_for_status()

        assert len(asked) == before + 20
    assert [line["searched"] for line in first] == [1, 2, 3]
