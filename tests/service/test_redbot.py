"""The main resources under REDbot, which knows what RFC 9110 and RFC 9111 ask of an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from s3api import manage
from s3api.auth import ALL_VERBS, new_token
from support.servers import S3, Service

PROTECTED = ["/list_files", "/files/red.txt", "/download/red.txt", "/files/none.txt"]
RESOURCES = ["/", *PROTECTED[:3], "/ui", "/docs", "/openapi.json"]


#: REDbot's own command, which has no option for the headers of its requests.
PROGRAM = """
import sys
from redbot import cli
set_request = cli.HttpResource.set_request
value = sys.argv.pop()
headers = [("Authorization", value)] if value else []
cli.HttpResource.set_request = lambda resource, url: set_request(resource, url, headers=headers)
cli.main()
"""


def entries_on(url: str, authorization: str = "") -> list[dict[str, Any]]:
    """The requests that REDbot makes, such as those that try ranges and conditions, with what it finds."""
    command = [sys.executable, "-c", PROGRAM, "--output-format", "har", url, authorization]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    entries: list[dict[str, Any]] = json.loads(done.stdout)["log"]["entries"]
    return entries


def notes_in(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [note for entry in entries for note in entry["_red_messages"]]


@pytest.mark.parametrize("path", RESOURCES)
def test_redbot_finds_nothing_bad(ministack_service: Service, path: str) -> None:
    """REDbot 2.7 has no note of the level BAD, and some of another level, so that it did look."""
    stored = requests.put(ministack_service.at("/upload/", "red.txt"), b"text " * 400, timeout=30)
    assert stored.status_code == 200
    notes = notes_in(entries_on(ministack_service.url + path))

    assert notes
    assert [note for note in notes if note["level"] == "BAD"] == []


@pytest.fixture(scope="module")
def guarded(ministack_s3: S3, make_service: Callable[..., Service]) -> tuple[Service, str]:
    """A service that asks for a token, and the Authorization header that has it."""
    token, entry = new_token("redbot", ALL_VERBS, "")
    entries = f"[{manage.entry_json(entry)}]"
    bucket = ministack_s3.make_bucket("day02-redbot")
    service = make_service(ministack_s3, bucket, api_tokens=entries, allow_anonymous=False)
    header = f"Bearer {token}"
    stored = requests.put(
        service.at("/upload/", "red.txt"), b"text " * 400, headers={"Authorization": header}, timeout=30
    )
    assert stored.status_code == 200
    return service, header


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("with_token", [True, False])
def test_redbot_finds_nothing_bad_with_a_token(
    guarded: tuple[Service, str], path: str, with_token: bool
) -> None:
    """The answers to the bearer of a token, and the refusals without one (RFC 9110, section 15.5.2)."""
    service, header = guarded
    entries = entries_on(service.url + path, header if with_token else "")
    notes = notes_in(entries)
    status = entries[0]["response"]["status"]

    assert status == (401 if not with_token else 404 if "none" in path else 200)
    assert notes
    assert [note for note in notes if note["level"] == "BAD"] == []
