"""Other users cannot read, lock or replace the client's files on this machine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cli.command import Command
from s3api.client.journal import Journal, Unfinished
from support.http_server import serving
from support.servers import until

OTHER = 65534
SIZE = 1024 * 1024
UNFINISHED = Unfinished("http://127.0.0.1:1", "name", 10, "0" * 64, "id", 5)


@contextmanager
def slow_server(go_on: threading.Event) -> Iterator[str]:
    """A service that sends half a file, and the rest when the test allows it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(SIZE))
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(bytes(SIZE // 2))
            go_on.wait(30)
            self.wfile.write(bytes(SIZE // 2))

    with serving(Handler) as port:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            go_on.set()


def key(name: str, etag: str) -> str:
    """What `Facts.part_beside` puts into the name of a .part file."""
    return hashlib.sha256(f'{name}\0"{etag}"'.encode()).hexdigest()[:16]


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


@pytest.mark.parametrize(("umask", "finished"), [(0o000, "0o666"), (0o022, "0o644"), (0o077, "0o600")])
def test_a_download_is_private_until_it_is_whole(tmp_path: Path, umask: int, finished: str) -> None:
    """The .part file is 0600, whatever the umask; the file then has the mode that the umask gives it."""
    go_on = threading.Event()
    before = os.umask(umask)
    try:
        with slow_server(go_on) as url:
            s3api = Command(url, tmp_path)
            with s3api.running("download", "x", "--via", "service") as process:
                part: Path = until(lambda: next(tmp_path.glob("x.*.part"), None), "the download begins")
                until(lambda: part.stat().st_size, "bytes have come")
                under_way = mode(part)
                go_on.set()
                err = process.communicate(timeout=30)[1]
    finally:
        os.umask(before)

    assert process.returncode == 0, err
    assert under_way == "0o600"
    assert mode(tmp_path / "x") == finished


@pytest.mark.parametrize("attack", ["file", "link", "pipe"])
def test_a_part_that_another_user_prepared_is_refused(tmp_path: Path, attack: str) -> None:
    """The client does not write to a file that another user has put at the .part file's name."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of another user")
    go_on = threading.Event()
    go_on.set()
    with slow_server(go_on) as url:
        s3api = Command(url, tmp_path)
        part = tmp_path / f"x.{key('x', '1')}.part"
        precious = tmp_path / "precious"
        precious.write_bytes(b"precious")
        if attack == "file":
            part.write_bytes(b"evil")
            os.chown(part, OTHER, OTHER)
        elif attack == "link":
            part.symlink_to(precious)
        else:
            os.mkfifo(part)
        ran = s3api("download", "x", "--via", "service", "--retries", "0")

    assert ran.status == 1
    assert {"file": "belongs to another user", "link": "is a symbolic link", "pipe": "is not a regular file"}[
        attack
    ] in ran.err
    assert not (tmp_path / "x").exists()
    assert precious.read_bytes() == b"precious"


def test_the_journal_is_private(tmp_path: Path) -> None:
    """The journal's entries are 0600 in a folder of 0700, whatever the umask and the maker of the folder."""
    new, old = tmp_path / "state" / "s3api" / "uploads", tmp_path / "old"
    old.mkdir()
    old.chmod(0o755)
    before = os.umask(0)
    try:
        for folder in (new, old):
            Journal(folder).write(UNFINISHED, tmp_path)
    finally:
        os.umask(before)

    for folder in (new, old):
        assert mode(folder) == "0o700"
        assert [mode(path) for path in folder.iterdir()] == ["0o600"]
        assert Journal(folder).read(UNFINISHED.url, UNFINISHED.name, tmp_path) == UNFINISHED
    assert mode(new.parent) == mode(new.parent.parent) == "0o700"


def test_a_journal_of_another_user_is_left_alone(tmp_path: Path) -> None:
    """A journal in another user's folder is neither written nor read."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of another user")
    folder = tmp_path / "uploads"
    Journal(folder).write(UNFINISHED, tmp_path)
    (entry,) = folder.iterdir()
    os.chown(entry, OTHER, OTHER)
    believed = Journal(folder).read(UNFINISHED.url, UNFINISHED.name, tmp_path)
    entry.unlink()
    os.chown(folder, OTHER, OTHER)
    Journal(folder).write(UNFINISHED, tmp_path)

    assert believed is None
    assert list(folder.iterdir()) == []
