"""The smoke test: a file goes up, is listed, comes back by its presigned URL, and goes."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from typing import Any

from deploy.steps import Failed, Reporter

ANSWERS_WITHIN = 60


def smoke(url: str, token: str | None, report: Reporter) -> None:
    """Raise unless all four work. A balancer's new name may take a minute to be known."""
    folder = f"smoke-{secrets.token_hex(6)}"
    name = f"{folder}/file.bin"
    content = secrets.token_bytes(100_000)
    _wait(url)
    _call("PUT", f"{url}/upload/{name}", token, content)
    listed = _call("GET", f"{url}/list_files?prefix={folder}/", token)["content"]
    if listed != [name]:
        raise Failed(f"what was uploaded is not listed: {listed}", "Look at what the API says: make logs")
    presigned = _call("GET", f"{url}/download/{name}", token)["content"]
    with urllib.request.urlopen(presigned, timeout=30) as answer:
        if answer.read() != content:
            raise Failed("what came down is not what went up", "Look at what the API says: make logs")
    _call("DELETE", f"{url}/delete/{name}", token)
    if listed := _call("GET", f"{url}/list_files?prefix={folder}/", token)["content"]:
        raise Failed(f"what was deleted is still listed: {listed}", "Look at what the API says: make logs")
    report.say("uploaded, listed, downloaded by presigned URL, deleted")


def _wait(url: str) -> None:
    deadline = time.monotonic() + ANSWERS_WITHIN
    while True:
        try:
            with urllib.request.urlopen(f"{url}/livez", timeout=5):
                return
        except urllib.error.HTTPError as error:
            problem: Exception = error
        except OSError as error:
            problem = error
        if time.monotonic() > deadline:
            raise Failed(
                f"{url} does not answer: {problem}", "Look at what the API says: make logs"
            ) from None
        time.sleep(0.5)


def _call(method: str, url: str, token: str | None, body: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(url, method=method, data=body)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace")
        then = "Look at what the API says: make logs"
        if error.code == 401:
            then = "Give a token that may list, read, write and delete: S3API_TOKEN=…"
        raise Failed(
            f"{method} {url.split('?', maxsplit=1)[0]} answered {error.code}: {said}", then
        ) from None
    except OSError as error:
        raise Failed(
            f"{method} {url.split('?', maxsplit=1)[0]}: {error}", "Look at what the API says: make logs"
        ) from None
