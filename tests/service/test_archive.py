"""Archives: one ZIP of many files, complete or recognizably incomplete."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from flask.testing import FlaskClient

from s3api import archive, failures
from s3api.archive import Archive, entry_names, folder_of
from s3api.auth import hash_token
from s3api.file_store import Conditions, OpenFile, Page, StoredFile
from support.memory_store import MemoryStore
from support.servers import S3, Service, need
from support.stores import put

MakeClient = Callable[..., FlaskClient]
MiB = 1024 * 1024
GiB = 1024 * MiB


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The pauses between attempts, which take no time. At the end, every place is free again."""
    made: list[float] = []
    monkeypatch.setattr("s3api.archive.time", SimpleNamespace(sleep=made.append))
    yield made
    assert archive._places._value == archive.MAX_AT_ONCE


def read(data: bytes) -> dict[str, bytes]:
    """The content of each entry. `testzip` compares the checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        names = [info.filename for info in opened.infolist()]
        assert len(set(names)) == len(names)
        return {name: opened.read(name) for name in names}


class BrokenStore(MemoryStore):
    """`failing` says what happens when a file is opened, by its name and how often that was tried."""

    def __init__(self, failing: Callable[[str, int], Any]) -> None:
        super().__init__()
        self.failing = failing
        self.tries: dict[str, int] = {}
        self.ranges: list[str | None] = []

    def open(self, name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
        self.tries[name] = self.tries.get(name, 0) + 1
        self.ranges.append(conditions.byte_range)
        outcome = self.failing(name, self.tries[name])
        if isinstance(outcome, Exception):
            raise outcome
        opened = super().open(name, conditions, with_body=with_body)
        return outcome(opened) if outcome else opened


def broken_after(size: int) -> Callable[[OpenFile], OpenFile]:
    """The connection to the store ends after `size` bytes."""

    def break_off(opened: OpenFile) -> OpenFile:
        def chunks() -> Iterator[bytes]:
            yield b"".join(opened.chunks)[:size]
            raise failures.StoreUnavailable("The connection to S3 ended in the middle of the file")

        return replace(opened, chunks=chunks())

    return break_off


def bytes_of(made: Archive) -> tuple[bytes, Exception | None]:
    """What was sent, and what broke the connection."""
    sent = b""
    try:
        for piece in made:
            sent += piece
    except Exception as error:
        return sent, error
    finally:
        made.close()
    return sent, None


# --- what is in it


def test_a_folder(client: FlaskClient, store: MemoryStore) -> None:
    """All files below the prefix, by their paths below its folder; also names beyond ASCII."""
    files = {"é ü/日本 🎉.txt": b"1", "empty": b"", "sub/a+b #1.csv": b"a,b\n" * 50_000}
    for name, data in files.items():
        put(store, f"photos/2026/{name}", data)
    put(store, "photos/2025/other")
    put(store, "photos/2026/marker/", b"")
    answer = client.get("/archive", query_string={"prefix": "photos/2026/"}, buffered=True)

    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="2026.zip"'
    assert read(answer.data) == files
    opened = zipfile.ZipFile(io.BytesIO(answer.data))
    assert {info.compress_type for info in opened.infolist()} == {zipfile.ZIP_STORED}
    # The owner may change an extracted file, and everyone may read it (the upper half is that of `st_mode`).
    assert {info.external_attr >> 16 for info in opened.infolist()} == {0o644}
    modified = store.objects["photos/2026/empty"].file.last_modified.astimezone(UTC)
    found = datetime(*opened.getinfo("empty").date_time, tzinfo=UTC)
    assert abs((found - modified).total_seconds()) <= 2


@pytest.mark.parametrize(
    ("query", "entries", "name"),
    [
        ({}, {"a/x", "a/y/z", "b"}, "day02-memory.zip"),
        ({"prefix": "a"}, {"a/x", "a/y/z"}, "day02-memory.zip"),
        ({"prefix": "a/"}, {"x", "y/z"}, "a.zip"),
        ({"prefix": "a/y/z"}, {"z"}, "y.zip"),
        ({"name": ["a/x"]}, {"x"}, "a.zip"),
        ({"name": ["a/x", "a/y/z", "a/x"]}, {"x", "y/z"}, "a.zip"),
        ({"name": ["b", "a/x"]}, {"a/x", "b"}, "day02-memory.zip"),
    ],
)
def test_which_files(
    client: FlaskClient, store: MemoryStore, query: dict[str, Any], entries: set[str], name: str
) -> None:
    """A prefix, a selection of names, or everything; the paths begin below the deepest common folder."""
    for one in ("a/x", "a/y/z", "b"):
        put(store, one, one.encode())
    answer = client.get(f"/archive?{urlencode(query, doseq=True)}", buffered=True)

    assert read(answer.data).keys() == entries
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'


@pytest.mark.parametrize(
    ("names", "entries"),
    [
        (["a//b", "a/b"], {"a//b": "a/%2Fb", "a/b": "a/b"}),
        (["f//b"], {"f//b": "%2Fb"}),
        (["f/"], {"f/": "%2F"}),
        (["a/", "a/b"], {"a/": "a%2F", "a/b": "a/b"}),
        (["a", "a/b", "a/b/c"], {"a": "a", "a/b": "a%2Fb", "a/b/c": "a%2Fb%2Fc"}),
        (["a//b", "a/%2Fb"], {"a//b": "a/%2Fb~2", "a/%2Fb": "a/%2Fb"}),
        (["f//b", "f/%2Fb/c"], {"f//b": "%2Fb~2", "f/%2Fb/c": "%2Fb/c"}),
        (["a///b"], {"a///b": "a/%2F%2Fb"}),
        (["C:/x", "...", "~"], {"C:/x": "C:/x", "...": "...", "~": "~"}),
    ],
)
def test_paths_are_relative_and_different(names: list[str], entries: dict[str, str]) -> None:
    """No path is absolute, has an empty step, or needs a folder where a file is; no two are the same."""
    folder = "f/" if all(name.startswith("f/") for name in names) else ""
    found = dict(entry_names(names, folder))

    assert found == entries


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["a/b/c"], "a/b/"),
        (["a/b/c", "a/bd"], "a/"),
        (["a", "b"], ""),
        (["a/", "a/b"], "a/"),
        (["ab/"], "ab/"),
    ],
)
def test_the_common_folder(names: list[str], folder: str) -> None:
    """The common folder ends at a slash: `a/b/c` and `a/bd` have `a/` in common."""
    assert folder_of(names) == folder


def test_the_times_that_zip_knows() -> None:
    """APPNOTE.TXT 6.3.10, section 4.4.6: the years 1980 to 2107."""
    for sent, known in (
        ((1970, 5, 1, 0, 0, 0), (1980, 1, 1, 0, 0, 0)),
        ((2026, 5, 1, 12, 34, 56), (2026, 5, 1, 12, 34, 56)),
        ((2200, 5, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)),
    ):
        assert archive._info("a", datetime(*sent, tzinfo=UTC)).date_time == known


# --- refusals, before the first byte


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("prefix=none/", 404, "file_not_found"),
        ("name=a&name=none", 404, "file_not_found"),
        ("name=a&prefix=a", 400, "bad_request"),
        ("name=../a", 400, "invalid_file_name"),
        ("name=", 400, "invalid_file_name"),
        ("prefix=a%00", 400, "invalid_file_name"),
        ("prefix=a&prefix=b", 400, "bad_request"),
        ("format=tar", 400, "bad_request"),
    ],
)
def test_refusals(client: FlaskClient, store: MemoryStore, query: str, status: int, code: str) -> None:
    """A wrong request is answered in the envelope, and not with an archive."""
    put(store, "a")
    answer = client.get(f"/archive?{query}")

    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


def test_too_many_files(client: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than the memory has room for are refused, not left out."""
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    for number in range(4):
        put(store, f"many/{number}")

    answer = client.get("/archive?prefix=many/")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "too_many_files")
    assert "at most 3 files" in answer.get_json()["message"]
    store.delete("many/3")
    assert len(read(client.get("/archive?prefix=many/", buffered=True).data)) == 3


class ManyFiles(MemoryStore):
    """A store with `count` files. It records how many files each page is asked for."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.limits: list[int] = []

    def list_page(self, prefix: str, delimiter: str, limit: int, token: str | None) -> Page:
        assert (prefix, delimiter) == ("f/", "")
        self.limits.append(limit)
        start = int(token or 0)
        end = min(start + limit, self.count)
        files = [StoredFile(f"f/{n}", 1, datetime.now(UTC), "e") for n in range(start, end)]
        return Page(files, [], str(end) if end < self.count else None)


def test_the_most_files() -> None:
    """10,000 files are the most. They are listed in pages of 1,000, the largest of S3."""
    store = ManyFiles(10_000)
    Archive(store, "f/", []).close()
    assert store.limits == [1000] * 10

    with pytest.raises(failures.TooManyFiles, match="at most 10,000 files"):
        Archive(ManyFiles(10_001), "f/", [])


def test_the_places(client: FlaskClient, store: MemoryStore) -> None:
    """The ninth archive at a time is answered 503. A place is free when its answer is closed, also unread."""
    put(store, "a")
    held = [Archive(store, "", []) for _ in range(8)]
    busy = client.get("/archive")
    held.pop().close()
    served = client.get("/archive", buffered=True)
    head = client.head("/archive", buffered=True)
    for one in held:
        one.close()

    assert (busy.status_code, busy.get_json()["code"], busy.headers["Retry-After"]) == (503, "too_busy", "5")
    assert "8 other archives" in busy.get_json()["message"]
    assert read(served.data) == {"a": b"data"}
    assert (head.status_code, head.data) == (200, b"")


@pytest.mark.parametrize(
    ("granted", "query", "status"),
    [
        ((["list", "read"], ""), "", 200),
        ((["list", "read"], "team/"), "prefix=team/", 200),
        ((["list", "read"], "team/"), "", 403),
        ((["list", "read"], "team/"), "prefix=tea", 403),
        ((["list", "read"], "team/"), "name=team/a&name=other/b", 403),
        ((["read"], "team/"), "name=team/a", 200),
        ((["read"], "team/"), "prefix=team/", 403),
        ((["list"], ""), "prefix=team/", 403),
        ((["write", "delete"], ""), "", 403),
    ],
)
def test_what_a_token_may_archive(
    make_client: MakeClient, store: MemoryStore, granted: tuple[list[str], str], query: str, status: int
) -> None:
    """A prefix needs `list` and `read` for it, and each name needs `read`."""
    verbs, prefix = granted
    entry = {"name": "t", "verbs": verbs, "prefix": prefix, "sha256": hash_token("secret")}
    client = make_client(allow_anonymous=False, api_tokens=[entry])
    put(store, "team/a")
    put(store, "other/b")

    assert client.get(f"/archive?{query}").status_code == 401
    answer = client.get(f"/archive?{query}", headers={"Authorization": "Bearer secret"}, buffered=True)
    assert answer.status_code == status


# --- what cannot be read


def test_files_that_cannot_be_read_are_named() -> None:
    """A file that was deleted or is denied, and a name that the service does not take: the answer breaks off.

    The ZIP itself is complete: it has the other files, and `_errors.txt` with the reasons.
    """
    reasons = {
        "f/gone": failures.FileNotFound("The file 'f/gone' was not found"),
        "f/secret": failures.StoreDenied("The role may not read it", "get_object"),
    }
    store = BrokenStore(lambda name, _tries: reasons.get(name))
    for name in (*reasons, "f/good", "f/_errors.txt", "f/../up", "f/lïne\nbreak"):
        put(store, name)
    sent, broken = bytes_of(Archive(store, "f/", []))
    found = read(sent)
    lines = found.pop("__errors.txt").decode().splitlines()

    assert isinstance(broken, failures.StoreFailed)
    assert found == {"good": b"data", "_errors.txt": b"data"}
    assert [json.loads(line.partition(": ")[0]) for line in lines] == [
        "f/../up",
        "f/lïne\nbreak",
        "f/gone",
        "f/secret",
    ]
    assert lines[2].endswith("was not found (file_not_found)")
    assert "(invalid_file_name)" in lines[0]
    assert lines[1].startswith('"f/lïne\\nbreak": ')
    assert "f/../up" not in store.tries


def test_a_broken_connection_is_continued() -> None:
    """After a failure in the middle of a file, the rest of the same file is read: none of it twice."""
    store = BrokenStore(lambda name, tries: broken_after(4) if name == "a" and tries <= 2 else None)
    put(store, "a", b"0123456789")
    put(store, "b")
    sent, broken = bytes_of(Archive(store, "", []))

    assert (read(sent), broken) == ({"a": b"0123456789", "b": b"data"}, None)
    assert store.ranges == [None, "bytes=4-", "bytes=8-", None]


@pytest.mark.parametrize(
    "failing",
    [
        lambda name, _tries: broken_after(4) if name == "b" else None,
        lambda name, _tries: failures.StoreUnavailable("S3 is down") if name == "b" else None,
        lambda name, tries: (
            None
            if name != "b"
            else broken_after(4)
            if tries == 1
            else failures.FileChanged("It was replaced")
        ),
    ],
    ids=["breaks again and again", "cannot be reached", "was replaced meanwhile"],
)
def test_an_archive_that_cannot_be_finished_cannot_be_opened(failing: Callable[[str, int], Any]) -> None:
    """If a file ends too early or S3 is down, the connection breaks, and no program opens what was sent."""
    store = BrokenStore(failing)
    for name in ("a", "b", "c"):
        put(store, name, b"0123456789" * 10_000)
    sent, broken = bytes_of(Archive(store, "", []))

    assert isinstance(broken, failures.FileError)
    assert sent.startswith(b"PK")
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(sent))
    assert store.tries["a"] == 1
    assert store.tries["b"] <= 3
    assert "c" not in store.tries


@pytest.mark.parametrize("failing", [failures.StoreThrottled("Slow down"), broken_after(4)])
@pytest.mark.parametrize(("failed", "found"), [(2, True), (3, False)])
def test_a_file_is_asked_for_three_times(pauses: list[float], failing: Any, failed: int, found: bool) -> None:
    """S3 asks to slow down, or its connection breaks: with the third attempt, nothing is missing."""
    store = BrokenStore(lambda _name, tries: failing if tries <= failed else None)
    put(store, "a", b"0123456789")
    sent, broken = bytes_of(Archive(store, "", []))

    assert store.tries == {"a": 3}
    assert pauses == ([0.5, 0.5] if isinstance(failing, Exception) else [])
    if found:
        assert (read(sent), broken) == ({"a": b"0123456789"}, None)
    else:
        assert isinstance(broken, failures.StoreUnavailable)


def test_small_files_are_sent_together() -> None:
    """A piece is sent when it has 64 KiB: neither thousands of small ones, nor one that memory must hold."""
    store = MemoryStore()
    for number in range(10, 99):
        # Before a file there are 30 bytes and its name, and after it 16 bytes, which the next piece gets.
        put(store, str(number), bytes(64 * 1024 // 8 - 30 - 2 - (16 if number > 10 else 0)))
    pieces = [len(piece) for piece in Archive(store, "", [])]

    assert pieces[:-1] == [64 * 1024] * 11

    store = MemoryStore()
    put(store, "one byte less", bytes(64 * 1024 - 1 - 30 - len("one byte less")))
    put(store, "then more", b"x")
    first, *_ = Archive(store, "", [])
    assert len(first) > 64 * 1024


# --- size and memory


def large(size: int) -> Callable[[OpenFile], OpenFile]:
    """A file of this size, whose bytes are made as they are read."""
    block = bytes(MiB)

    def grow(opened: OpenFile) -> OpenFile:
        return replace(opened, length=size, chunks=(block for _ in range(size // MiB)))

    return grow


@pytest.mark.parametrize(("size", "zip64"), [(1 * GiB, False), (5 * GiB, True)])
def test_a_file_above_4_gib_uses_zip64(size: int, zip64: bool) -> None:
    """APPNOTE.TXT 6.3.10, section 4.5.3: the local header has the extra field 0x0001, whose size is 16.

    Section 4.4.3.2: it needs version 4.5 to be extracted.
    """
    store = BrokenStore(lambda _name, _tries: large(size))
    put(store, "a")
    made = Archive(store, "", [])
    head = next(iter(made))
    made.close()

    assert head[:4] == b"PK\x03\x04"
    assert head[4] == (45 if zip64 else 20)
    assert (head[31:35] == b"\x01\x00\x10\x00") is zip64
    assert head[6] & 0x08, "the sizes and the checksum follow the data (section 4.3.9)"


def test_the_memory_does_not_depend_on_the_size() -> None:
    """Sending 1 GiB takes less than 4 MiB of memory."""
    store = BrokenStore(lambda _name, _tries: large(128 * MiB))
    for number in range(8):
        put(store, str(number))
    made = Archive(store, "", [])
    tracemalloc.start()
    total = sum(map(len, made))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    made.close()

    assert total > GiB
    assert peak < 4 * MiB


# --- with real programs


@pytest.fixture(scope="module")
def service(seaweedfs_s3: S3, make_service: Callable[..., Service]) -> Service:
    return make_service(seaweedfs_s3, seaweedfs_s3.make_bucket("day02-archive"))


@pytest.fixture(scope="module")
def files(service: Service) -> dict[str, bytes]:
    made = {
        f"folder/sub/{number}.bin": hashlib.sha256(b"%d" % number).digest() * 1000 for number in range(20)
    }
    made |= {"folder/é ü.txt": "ä".encode(), "folder/日本 🎉/empty": b""}
    for name, data in made.items():
        assert requests.put(service.at("/upload/", name), data=data, timeout=30).ok
    return {name.removeprefix("folder/"): data for name, data in made.items()}


def test_python_reads_it(service: Service, files: dict[str, bytes]) -> None:
    """Over HTTP the answer is chunked, and `zipfile` finds every file unchanged."""
    answer = requests.get(service.at("/archive"), params={"prefix": "folder/"}, timeout=30)

    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Cache-Control"] == "no-store"
    assert read(answer.content) == files


def test_unzip_reads_it(service: Service, files: dict[str, bytes], tmp_path: Path) -> None:
    """Info-ZIP's unzip finds no fault, and extracts every file unchanged under its own name."""
    need(shutil.which("unzip"), "unzip is not on the PATH")
    path, target = tmp_path / "folder.zip", tmp_path / "target"
    path.write_bytes(requests.get(service.at("/archive"), params={"prefix": "folder/"}, timeout=30).content)
    for command in (["unzip", "-tqq", str(path)], ["unzip", "-q", str(path), "-d", str(target)]):
        subprocess.run(command, check=True, capture_output=True, env={"LANG": "C.UTF-8"})

    found = {str(one.relative_to(target)): one.read_bytes() for one in target.rglob("*") if one.is_file()}
    assert found == files


def test_clients_see_that_an_archive_is_incomplete(service: Service, seaweedfs_s3: S3) -> None:
    """A name that another S3 client stored cannot be read: requests and curl report an incomplete answer."""
    seaweedfs_s3.client().put_object(Bucket="day02-archive", Key="odd/\x7f", Body=b"x")
    assert "odd/\x7f" in seaweedfs_s3.keys("day02-archive")
    requests.put(service.at("/upload/", "odd/good"), data=b"good", timeout=30)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(service.at("/archive"), params={"prefix": "odd/"}, timeout=30)
    curl = subprocess.run(
        ["curl", "-s", service.at("/archive?prefix=odd/")], capture_output=True, check=False
    )
    found = read(curl.stdout)

    assert curl.returncode == 18, "curl(1): a partial file, only a part of it was transferred"
    assert found["good"] == b"good"
    assert b"invalid_file_name" in found["_errors.txt"]
