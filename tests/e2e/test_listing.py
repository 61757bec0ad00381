"""Listing: pages, cursors, prefixes, details, and the stream of all."""

from __future__ import annotations

import json
from datetime import datetime
from urllib.parse import urljoin

import pytest

from e2e.api import Api, good, joined, pages, refused

NAMES = ["a", "a b", "a+b", "b/1", "b/2", "b/é", "c/日本", "d/x/1", "z", "é", "日", "😀"]


@pytest.fixture
def listed(api: Api) -> list[str]:
    """A dozen files in the folder, in the order of their UTF-8 bytes, which is S3's."""
    names = [api.name(name) for name in NAMES]
    parts = [("file", (name.rpartition("/")[2], b"-")) for name in NAMES if "/" not in name]
    good(api.call("POST", "/upload", data={"prefix": api.folder}, files=parts))
    for name in names:
        if "/" in name.removeprefix(api.folder):
            api.put(name, b"-")
    return sorted(names, key=str.encode)


@pytest.mark.parametrize("limit", [1, 5, 11, 12, 13, 1000])
def test_pages_give_every_name_once(api: Api, listed: list[str], limit: int) -> None:
    """For every page length, the pages together are the listing, in order."""
    found = list(pages(api, prefix=api.folder, limit=limit))

    assert joined(found) == listed
    assert all(len(page["content"]) <= limit for page in found)
    assert all("next" in page for page in found[:-1])


def test_link_header_leads_on(api: Api, listed: list[str]) -> None:
    """The Link header is a URL of the next page, with the query of this one."""
    found: list[str] = []
    url = f"{api.target.url}/list_files"
    answer = api.call("GET", "/list_files", params={"prefix": api.folder, "limit": 5, "details": "true"})
    while True:
        found += [entry["name"] for entry in good(answer)["content"]]
        if "Link" not in answer.headers:
            break
        assert 'rel="next"' in answer.headers["Link"]
        url = urljoin(url, answer.links["next"]["url"])
        answer = api.session.get(url, timeout=60)

    assert found == listed


def test_delimiter_rolls_names_up(api: Api, listed: list[str]) -> None:
    """With a delimiter, deeper names appear as one prefix, on any page."""
    found = list(pages(api, prefix=api.folder, delimiter="/", limit=2))

    assert joined(found) == [name for name in listed if "/" not in name.removeprefix(api.folder)]
    assert [prefix for page in found for prefix in page["prefixes"]] == [
        f"{api.folder}{prefix}" for prefix in ("b/", "c/", "d/")
    ]


def test_details(api: Api) -> None:
    """With details a name becomes an object."""
    name = api.name("details.txt")
    stored = api.put(name, b"12345")
    [file] = good(api.call("GET", "/list_files", params={"prefix": name, "details": "true"}))["content"]

    assert (file["name"], file["size"], file["etag"]) == (name, 5, stored["etag"])
    assert datetime.fromisoformat(file["last_modified"]).tzinfo


def test_stream_of_json_lines(api: Api, listed: list[str]) -> None:
    """The stream has one object a line, as in details."""
    answer = api.call(
        "GET", "/list_files", params={"prefix": api.folder}, headers={"Accept": "application/x-ndjson"}
    )
    lines = [json.loads(line) for line in answer.content.splitlines()]

    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    assert [line["name"] for line in lines] == listed
    assert all(set(line) == {"name", "size", "last_modified", "etag"} for line in lines)


def test_nothing_to_list(api: Api) -> None:
    """A prefix that no name has lists nothing, without an error."""
    body = good(api.call("GET", "/list_files", params={"prefix": f"{api.folder}none"}))

    assert body["content"] == []
    assert "next" not in body


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", ""])
def test_bad_limit(api: Api, limit: str) -> None:
    """A limit outside 1 to 1,000 is refused."""
    message = refused(api.call("GET", "/list_files", params={"limit": limit}), 400, "invalid_request")

    assert "limit" in message


def test_cursor_of_another_query(api: Api, listed: list[str]) -> None:
    """A cursor works only for the query that produced it."""
    assert listed
    cursor = good(api.call("GET", "/list_files", params={"prefix": api.folder, "limit": 1}))["next"]

    for query in (
        {"prefix": f"{api.folder}a"},
        {"prefix": api.folder, "delimiter": "/"},
        {},
    ):
        answer = api.call("GET", "/list_files", params={**query, "cursor": cursor})
        refused(answer, 400, "invalid_cursor")
    for broken in (cursor[:-1], f"{cursor}A", cursor.swapcase(), "x"):
        answer = api.call("GET", "/list_files", params={"prefix": api.folder, "cursor": broken})
        refused(answer, 400, "invalid_cursor")
