"""Names and messages of others cannot control the terminal.

The sequences are those of ECMA-48 (CSI, in 7 and in 8 bits), xterm's control sequences (OSC 8 is a link, OSC
52 writes the clipboard), and the bidirectional controls of CVE-2021-42574.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.command import PROGRAM, Command
from cli.hostile_server import hostile_server
from s3api.safe_text import json_line, shown, shown_lines
from support.terminal import read_until, running_on_terminal

HOSTILE = (
    "a\x1b[2J\x1b[5;8m\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil.test\x1b\\link\x9b31m\x9d0;title\x9c\x7f\x00\x08"
    "\u202egpj\u2066x\u2069\u2028\u2029\r\nforged line [red]red[/red] :smile:"
)
NAME = HOSTILE.replace("\x00", "").replace("/", "|")  # as a file of this machine can be called
SAFE = "[red]red"
# As bytes of UTF-8. A carriage return before a line feed and the sequences of the bars are allowed.
FORBIDDEN = re.compile(
    rb"[\x00-\x08\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f]|\r(?![\n\x1b\r]|$)|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]"
    rb"|\xe2\x81[\xa6-\xa9]|\x1b[^\[]|\x1b\[5;8m|\x1b\[2J"
)


def lie(_method: str, path: str) -> tuple[int, object]:
    """Hostile text wherever an answer has text."""
    if path == "/list_files":
        file = {"name": HOSTILE, "size": 1, "last_modified": HOSTILE}
        return 200, {"message": HOSTILE, "content": [file]}
    if path == "/delete":
        failed = [{"name": HOSTILE}, {"name": HOSTILE, "code": HOSTILE}]
        return 200, {"message": HOSTILE, "content": failed}
    if path.startswith("/download/"):
        return 200, {"message": HOSTILE, "content": HOSTILE, "expires_at": HOSTILE}
    if path == "/upload_links":
        return 201, {"message": HOSTILE, "content": {"path": HOSTILE, "expires_at": HOSTILE}}
    if path in ("/", "/readyz"):
        return 200, {"message": HOSTILE}
    return 400, {"message": HOSTILE, "code": HOSTILE, "request_id": HOSTILE}


def on_terminal(
    s3api: Command,
    *arguments: str | Path,
    see: bytes | None = None,
    then: Callable[[int], object] = lambda _terminal: None,
) -> bytes:
    """All that the command shows on a terminal; `then` is called with it once `see` is there."""
    program = [*PROGRAM, *map(str, arguments)]
    with running_on_terminal(program, s3api.folder, s3api.environment, columns=1000) as (process, screen, _):
        shows = read_until(process, screen, re.compile(see) if see else None)
        if see and re.search(see, shows):
            then(screen)
            shows += read_until(process, screen)
    assert b"Traceback" not in shows, shows[-2000:]
    return shows


@pytest.mark.parametrize(
    "line",
    [
        "ping",
        "list",
        "list --long",
        "list --json",
        "delete x",
        "delete x --json",
        "delete --prefix x --yes",
        "restore x",
        "restore x --json",
        "presign x",
        "presign x --json",
        "upload-link x",
        "upload-link x --json",
        "download x/ --to .",
        "download x --via service",
    ],
)
def test_answers_of_a_hostile_server(tmp_path: Path, line: str) -> None:
    """Names, URLs, times, messages, codes and request ids of a server cannot control the terminal."""
    with hostile_server(lie) as url:
        screen = on_terminal(Command(url, tmp_path), *line.split(), "--retries", "0")

    assert not FORBIDDEN.search(screen), screen
    assert SAFE.encode() in screen
    assert b":smile:" in screen or b"--json" in line.encode()
    assert b"\nforged" not in screen


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload", NAME],
        ["upload", f"missing{NAME}"],
        ["upload", f"--{NAME}"],
        ["upload", "--jobs", NAME],
        ["list", NAME, NAME],
        ["list", "--url", NAME],
        ["list", "--ip", "127.0.0.1:1", "--url", NAME],
        ["list", "--token-file", NAME],
        ["download", NAME, "--to", NAME],
        ["delete", NAME],
        ["delete", "--prefix", NAME],
        [NAME],
    ],
    ids=lambda arguments: " ".join(arguments).split("a\x1b")[0].strip() or "command",
)
def test_names_of_files_of_this_machine(tmp_path: Path, arguments: list[str]) -> None:
    """A name from a shell's wildcard cannot control the terminal, even if it becomes an option."""
    with hostile_server(lie) as url:
        s3api = Command(url, tmp_path)
        s3api.file(NAME, b"x")
        screen = on_terminal(
            s3api, *arguments, see=rb"\[y/N\]", then=lambda terminal: os.write(terminal, b"n\n")
        )

    assert not FORBIDDEN.search(screen), screen
    assert b"\nforged" not in screen


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_names_beside_the_bars(tmp_path: Path, direction: str) -> None:
    """The bars show a name as text: no control, no markup and no emoji of rich's."""
    seen = threading.Event()

    def wait(method: str, path: str) -> tuple[int, object]:
        if path == "/list_files":
            return lie(method, path)
        assert seen.wait(30), "the name was not shown"
        return 400, {"message": HOSTILE, "code": "bad_request"}

    with hostile_server(wait) as url:
        s3api = Command(url, tmp_path)
        s3api.file(NAME, b"x" * 1000)
        if direction == "upload":
            bar = rb"reading a.*:smile:"
            screen = on_terminal(s3api, "upload", NAME, see=bar, then=lambda _terminal: seen.set())
            assert re.search(bar, screen)
            assert b"[red]red[|red]" in screen
        else:
            seen.set()
            screen = on_terminal(s3api, "download", "x", "--recursive")

    assert not FORBIDDEN.search(screen), screen


def test_a_pipe_gets_names_as_they_are(tmp_path: Path) -> None:
    """As GNU ls does, `list` escapes for a terminal alone: a script gets the name itself."""
    with hostile_server(lie) as url:
        listed = Command(url, tmp_path)("list")

    assert listed.raw == f"{HOSTILE}\n".encode()


def test_json_is_escaped_and_means_the_same(tmp_path: Path) -> None:
    """With --json a script reads the same name, and a terminal sees none of its controls."""
    with hostile_server(lie) as url:
        listed = Command(url, tmp_path)("list", "--json")

    assert listed.objects()[0]["name"] == HOSTILE
    assert len(listed.out.splitlines()) == 1
    assert not FORBIDDEN.search(listed.raw)


def test_what_is_escaped() -> None:
    """Controls, what turns writing around and separators of lines become escapes; writing stays as it is."""
    assert (
        shown("a\x1b[2Jb\u202egpj.\u200b\n\x85\x7f é😀 日")
        == "a\\x1b[2Jb\\u202egpj.\\u200b\\n\\x85\\x7f é😀 日"
    )
    assert shown_lines("one\r\ntwo\tx\n\x1b[31m\u2028three") == "one\ntwo     x\n\\x1b[31m\\u2028three"
    assert json.loads(json_line({"a": "é\U000e0001\x9b\u2028"})) == {"a": "é\U000e0001\x9b\u2028"}
    assert json_line("é\U000e0001\x9b\u2028") == '"é\\udb40\\udc01\\u009b\\u2028"'
