"""The smoke test: uploads a file, lists it, downloads it by its presigned URL, and deletes it."""

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
    """Raise unless all four work. The name of a new balancer may take a minute to resolve."""
    folder = f"smoke-{secrets.token_hex(6)}"
    name = f"{folder}/file.bin"
    content = secrets.token_bytes(100_000)
    _wait(url)
    _call("PUT", f"{url}/upload/{name}", token, content)
    listed = _call("GET", f"{url}/list_files?prefix={folder}/", token)["content"]
    if listed != [name]:
        raise Failed(f"the uploaded file is not listed: {listed}", "Read the log of the API: make logs")
    presigned = _call("GET", f"{url}/download/{name}", token)["content"]
    with urllib.request.urlopen(presigned, timeout=30) as answer:
        if answer.read() != content:
            raise Failed(
                "the downloaded bytes differ from the uploaded ones", "Read the log of the API: make logs"
            )
    _call("DELETE", f"{url}/delete/{name}", token)
    if listed := _call("GET", f"{url}/list_files?prefix={folder}/", token)["content"]:
        raise Failed(f"the deleted file is still listed: {listed}", "Read the log of the API: make logs")
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
            raise Failed(f"{url} does not answer: {problem}", "Read the log of the API: make logs") from None
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
        then = "Read the log of the API: make logs"
        if error.code == 401:
            then = "Set S3API_TOKEN to a token that may list, read, write and delete"
        raise Failed(
            f"{method} {url.split('?', maxsplit=1)[0]} answered {error.code}: {said}", then
        ) from None
    except OSError as error:
        raise Failed(
            f"{method} {url.split('?', maxsplit=1)[0]}: {error}", "Read the log of the API: make logs"
        ) from None
