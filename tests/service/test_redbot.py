"""The main resources under REDbot, which knows what RFC 9110 and RFC 9111 ask of an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import requests

from support.servers import Service

RESOURCES = ["/", "/list_files", "/files/red.txt", "/download/red.txt", "/ui", "/docs", "/openapi.json"]


def notes_on(url: str) -> list[dict[str, Any]]:
    """What REDbot says of the answer, and of those to requests that it makes to try ranges and conditions."""
    command = [sys.executable, "-m", "redbot.cli", "--output-format", "har", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    entries = json.loads(done.stdout)["log"]["entries"]
    return [note for entry in entries for note in entry["_red_messages"]]


@pytest.mark.parametrize("path", RESOURCES)
def test_redbot_finds_nothing_bad(ministack_service: Service, path: str) -> None:
    """REDbot 2.7 has no note of the level BAD, and some of another level, so that it did look."""
    stored = requests.put(ministack_service.at("/upload/", "red.txt"), b"text " * 400, timeout=30)
    assert stored.status_code == 200
    notes = notes_on(ministack_service.url + path)

    assert notes
    assert [note for note in notes if note["level"] == "BAD"] == []
