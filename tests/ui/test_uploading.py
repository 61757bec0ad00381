"""Uploads from the page: direct to S3 or through the service, cancelled, resumed, of any size."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from support.faulty_s3 import REQUEST_ID, Asked, Damage, FaultyS3, Instead, running_faulty_s3
from support.servers import S3, Service, running_service, until
from ui.conftest import allow_origin
from ui.window import MakeWindow, MiB, Window

# Six parts of 8 MiB, the last one shorter. At this pace they take five seconds.
LARGE = 43 * MiB
LAST = 6
PARTS = set(range(1, LAST + 1))
SLOWLY = 8 * MiB


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(LARGE))
    return path


def text(tmp_path: Path, name: str, data: str) -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)
    return path


def part_numbers(window: Window) -> list[int]:
    """The parts that the page has sent to S3, in the order in which it began."""
    return [int(parse_qs(urlsplit(url).query)["partNumber"][0]) for url in window.sent_to_s3("PUT")]


def same(window: Window, path: Path) -> bool:
    return hashlib.sha256(window.data(path.name)).digest() == hashlib.sha256(path.read_bytes()).digest()


# --- the ways in


def test_button(window: Window, tmp_path: Path) -> None:
    """Chosen files go directly to S3 by the service's plan, and are then listed."""
    window.open()
    with window.page.expect_file_chooser() as chooser:
        window.button("Upload files").click()
    chooser.value.set_files([text(tmp_path, "a é.txt", "first"), text(tmp_path, "empty.txt", "")])
    window.uploaded("a é.txt", "empty.txt")

    expect(window.row("a é.txt")).to_be_visible()
    assert (window.data("a é.txt"), window.data("empty.txt")) == (b"first", b"")
    assert len(window.sent_to_s3("POST")) == 2
    assert window.asked("PUT") == []
    window.button("Clear finished").click()
    expect(window.page.locator("#uploads")).to_be_hidden()


def test_drag_and_drop(window: Window, tmp_path: Path) -> None:
    """Dropped files and folders, with their contents, go into the folder that is shown."""
    window.open(f"{window.folder}inner/")
    one = text(tmp_path, "one.txt", "1")
    text(tmp_path, "tree/two.txt", "2")
    text(tmp_path, "tree/deep/three.txt", "3")
    window.drop(one, tmp_path / "tree")
    window.uploaded("inner/one.txt", "inner/tree/two.txt", "inner/tree/deep/three.txt")

    expect(window.page.locator("#drop")).to_be_hidden()
    expect(window.row("tree/")).to_be_visible()
    assert window.stored() == {"inner/one.txt", "inner/tree/two.txt", "inner/tree/deep/three.txt"}


def test_folder_by_button(window: Window, tmp_path: Path) -> None:
    """A chosen folder keeps its structure."""
    text(tmp_path, "tree/two.txt", "2")
    text(tmp_path, "tree/deep/three.txt", "3")
    window.open()
    with window.page.expect_file_chooser() as chooser:
        window.button("Upload folder").click()
    chooser.value.set_files(tmp_path / "tree")
    window.uploaded("tree/two.txt", "tree/deep/three.txt")

    assert window.stored() == {"tree/two.txt", "tree/deep/three.txt"}


def test_hostile_name(window: Window, tmp_path: Path) -> None:
    """The name of a file that is uploaded is text; one that the API refuses is refused in its words."""
    window.forgiven = ["400"]
    window.open()
    refused = f"{window.folder}back\\slash"
    name = "<img src=x onerror=window.__pwned=1>.txt"
    window.choose(text(tmp_path, "back\\slash", "x"), text(tmp_path, name, "x"))
    window.uploaded(name)

    expect(window.upload(refused)).to_contain_text(
        "a control character, a backslash, U+FFFE or U+FFFF · request id "
    )
    assert window.stored() == {name}
    assert window.page.evaluate("window.__pwned") is None


def test_many_files(window: Window, tmp_path: Path) -> None:
    """Of many chosen files, a few are sent at once, and all arrive."""
    window.open()
    paths = [text(tmp_path, f"{number}.txt", str(number)) for number in range(20)]
    window.choose(*paths)
    window.uploaded(*(path.name for path in paths))

    assert window.stored() == {path.name for path in paths}


# --- names that are taken


def test_replace(window: Window, tmp_path: Path) -> None:
    """An existing file is shown, and replaced only after a confirmation."""
    window.put("a.txt", b"old text")
    window.open()
    ask = window.page.locator("#ask")
    window.choose(text(tmp_path, "a.txt", "new"))
    expect(ask).to_contain_text("Replace a.txt?")
    expect(ask).to_contain_text("Already in this folder:")
    expect(ask).to_contain_text("8 B, ")
    window.page.keyboard.press("Escape")
    expect(ask).to_be_hidden()

    expect(window.page.locator("#said")).to_have_text("Nothing is uploaded.")
    assert window.data("a.txt") == b"old text"
    window.choose(text(tmp_path, "a.txt", "new"))
    ask.get_by_role("button", name="Replace").click()
    window.uploaded("a.txt")
    assert window.data("a.txt") == b"new"


def test_skip_what_is_there(window: Window, tmp_path: Path) -> None:
    """Of several files those whose names are taken can be left out; a longer name is another name."""
    for name in ("a.txt", "b.txt", "c.txt.bak"):
        window.put(name, b"old")
    window.open()
    window.choose(*(text(tmp_path, name, "new") for name in ("a.txt", "b.txt", "c.txt")))
    expect(window.page.locator("#ask li")).to_have_count(2)
    window.button("Skip these").click()
    window.uploaded("c.txt")

    assert (window.data("a.txt"), window.data("b.txt"), window.data("c.txt")) == (b"old", b"old", b"new")


# --- large files


# Records what the line of the upload shows, so that the test misses nothing on a fast or a slow machine.
RECORD = """
  () => {
    window.told = [];
    const uploads = document.getElementById("uploads");
    new MutationObserver(() => {
      const bar = uploads.querySelector("li progress");
      const shown = bar.checkVisibility() && { name: bar.ariaLabel, part: bar.value / bar.max };
      window.told.push([uploads.querySelector("li .quiet").textContent, shown]);
    }).observe(uploads, { childList: true, subtree: true });
  }
"""


def test_large_file(large_window: Window, large: Path) -> None:
    """A large file goes up in parts, with its progress, rate and remaining time told meanwhile."""
    window = large_window
    window.open()
    window.page.evaluate(RECORD)
    with window.slow_network(SLOWLY):
        window.choose(large)
        window.uploaded(large.name)

    told = re.compile(r"\d+ MB of 45 MB · [\d.]+ [kM]B/s · (\d+ s|\d+ min|\d+ h \d+ min) left")
    bars = [bar for text, bar in window.page.evaluate("window.told") if told.fullmatch(text)]
    assert bars
    assert all(bar["name"] == f"Upload of {window.folder}{large.name}" for bar in bars)
    assert any(0 < bar["part"] < 1 for bar in bars)
    assert sorted(part_numbers(window)) == sorted(PARTS)
    assert same(window, large)
    assert window.open_uploads() == []
    assert window.page.evaluate("localStorage.length") == 0


def test_cancel(large_window: Window, large: Path) -> None:
    """A cancelled upload leaves no file, no parts at S3, and no entry in the browser's storage."""
    window = large_window
    window.open()
    with window.slow_network(SLOWLY), window.holding_parts(LAST):
        window.choose(large)
        window.until_parts(1)
        window.button(f"Cancel: {window.folder}{large.name}").click()
        expect(window.page.locator("#uploads")).to_be_hidden()
        until(lambda: not window.open_uploads(), "S3 has dropped the parts")

    assert window.stored() == set()
    assert window.page.evaluate("localStorage.length") == 0


def interrupt(window: Window, large: Path) -> set[int]:
    """Begin an upload, and reload the page in the middle of it; the parts that S3 has then."""
    window.open()
    with window.holding_parts(*PARTS - {1, 2}) as held:
        window.choose(large)
        window.until_parts(2)
        window.page.reload()
        while held:
            held.pop().abort()  # Chromium would send them, although their page is gone
    window.settled()
    window.requests.clear()
    return window.parts()


def test_resume_after_reload(large_window: Window, large: Path) -> None:
    """After a reload, choosing the same file sends only the parts that S3 does not have."""
    window = large_window
    window.forgiven = ["dialog beforeunload"]
    received = interrupt(window, large)
    expect(window.upload(window.folder + large.name)).to_contain_text("interrupted")
    with window.page.expect_file_chooser() as chooser:
        window.button(f"Choose file: {window.folder}{large.name}").click()
    with window.holding_parts(LAST):
        chooser.value.set_files(large)
        percent = 100 * sum(min(8 * MiB, LARGE - 8 * MiB * (number - 1)) for number in received) // LARGE
        line = window.upload(window.folder + large.name)
        expect(line).to_contain_text(f"resumed at {percent} %")
    window.uploaded(large.name)

    assert any("beforeunload" in one for one in window.complaints)  # it was warned of
    assert received == {1, 2}
    assert sorted(part_numbers(window)) == sorted(PARTS - received)
    assert window.asked("POST", "/uploads")
    assert not [url for url in window.asked("POST", "/uploads") if url.endswith("/uploads")]
    assert same(window, large)
    assert window.open_uploads() == []


def test_resume_in_another_tab(large_window: Window, large: Path) -> None:
    """A tab that was killed is no loss: another one goes on when the file is dropped into the same folder."""
    window = large_window
    window.open()
    with window.holding_parts(*PARTS - {1, 2}):
        window.choose(large)
        window.until_parts(2)
        window.page.close()
    window.new_tab()
    window.open()
    received = window.parts()
    window.requests.clear()
    window.drop(large)
    window.uploaded(large.name)

    assert sorted(part_numbers(window)) == sorted(PARTS - received)
    assert same(window, large)


def test_interrupted_upload_and_another_file(large_window: Window, large: Path, tmp_path: Path) -> None:
    """Another file is not mistaken for the interrupted one, which can be discarded, parts and all."""
    window = large_window
    window.forgiven = ["dialog beforeunload"]
    interrupt(window, large)
    with window.page.expect_file_chooser() as chooser:
        window.button(f"Choose file: {window.folder}{large.name}").click()
    chooser.value.set_files(text(tmp_path, "other.bin", "other"))

    expect(window.page.locator("#problem")).to_contain_text("is not the file")
    window.button(f"Discard: {window.folder}{large.name}").click()
    until(lambda: not window.open_uploads(), "S3 has dropped the parts")
    expect(window.page.locator("#uploads")).to_be_hidden()
    assert window.page.evaluate("localStorage.length") == 0


def test_one_tab_uploads_at_a_time(large_window: Window, large: Path) -> None:
    """What one tab is uploading is no interrupted upload to another, which leaves it alone."""
    window = large_window
    window.open()
    first = window.page
    with window.holding_parts(LAST):
        window.choose(large)
        window.until_parts(1)
        window.new_tab()
        window.open()
        expect(window.page.locator("#uploads")).to_be_hidden()
        window.choose(large)
        line = window.upload(window.folder + large.name)
        expect(line).to_contain_text("Another tab is uploading this file")
        window.page = first
    window.uploaded(large.name)

    assert same(window, large)


# --- the network, and S3's own


def test_network_lost(large_window: Window, large: Path) -> None:
    """After a network failure the page resends the interrupted parts without a click."""
    window = large_window
    window.forgiven = ["ERR_INTERNET_DISCONNECTED"]
    window.open()
    with window.page.expect_event("requestfailed", timeout=120_000), window.holding_parts(LAST):
        with window.slow_network(SLOWLY):
            window.choose(large)
            window.until_parts(1)
        window.context.set_offline(True)
    window.context.set_offline(False)
    window.uploaded(large.name)

    assert len(part_numbers(window)) <= len(PARTS) + 3  # as many are under way at once
    assert same(window, large)
    assert window.asked("PUT") == []


@contextmanager
def refusing(window: Window, **answer: Any) -> Iterator[None]:
    """S3 answers so to every part."""
    window.page.route("**partNumber=**", lambda route: route.fulfill(**answer))
    yield
    window.page.unroute("**partNumber=**")


def test_refused_by_s3(large_window: Window, large: Path) -> None:
    """S3's refusals are shown in its words, and trying again resumes the upload."""
    window = large_window
    window.forgiven = ["403"]
    window.open()
    body = "<Error><Code>AccessDenied</Code><Message>No &amp; no</Message><RequestId>s3id</RequestId></Error>"
    allowed = {"Access-Control-Allow-Origin": "*"}
    line = window.upload(window.folder + large.name)
    with refusing(window, status=403, body=body, headers=allowed):
        window.choose(large)
        expect(line).to_contain_text("S3 refused the upload: No & no")
        expect(line).to_contain_text("request id s3id")
        assert len(window.open_uploads()) == 1
    window.button(f"Try again: {window.folder}{large.name}").click()
    window.uploaded(large.name)

    assert same(window, large)
    assert len([url for url in window.asked("POST", "/uploads") if url.endswith("/uploads")]) == 1


def test_slow_down(large_window: Window, large: Path) -> None:
    """When S3 asks to slow down the page waits, and sends the part again."""
    window = large_window
    window.forgiven = ["503"]
    window.open()
    allowed = {"Access-Control-Allow-Origin": "*"}
    with refusing(window, status=503, body="<Error><Code>SlowDown</Code></Error>", headers=allowed):
        window.choose(large)
        while len(part_numbers(window)) <= 3:  # three at once, so the fourth is one of them again
            window.page.wait_for_timeout(50)
    window.uploaded(large.name)

    assert same(window, large)


def test_file_that_changes(large_window: Window, large: Path) -> None:
    """A file that changes during its upload is not stored; the page asks to choose it again."""
    window = large_window
    window.forgiven = ["ERR_UPLOAD_FILE_CHANGED", "ERR_FILE_NOT_FOUND", "ERR_ACCESS_DENIED", "Failed to load"]
    window.open()
    with window.slow_network(SLOWLY):
        with window.holding_parts(LAST):
            window.choose(large)
            window.until_parts(1)
            large.unlink()

        expect(window.upload(window.folder + large.name)).to_contain_text("choose it again")
    assert window.stored() == set()
    window.button(f"Dismiss: {window.folder}{large.name}").click()
    expect(window.page.locator("#uploads")).to_be_hidden()


# --- an S3 that stores other bytes


@dataclass
class FaultyWindow:
    """A window whose S3 fails when told to: `far` as the page reaches it, `near` as the service does."""

    window: Window
    far: FaultyS3
    near: FaultyS3

    def parts_sent(self) -> list[int]:
        return [int(asked.query["partNumber"][0]) for asked in self.far.asked if asked.method == "PUT"]


@pytest.fixture
def faulty(
    make_window: MakeWindow, page_s3: S3, pages: list[int], bucket_name: str, tmp_path: Path
) -> Iterator[FaultyWindow]:
    # SeaweedFS lists a part that came twice twice.
    bucket = allow_origin(page_s3, page_s3.make_bucket(bucket_name), f"http://127.0.0.1:{pages[2]}")
    with running_faulty_s3(page_s3) as far, running_faulty_s3(page_s3) as near:
        settings = {"s3_public_endpoint_url": far.s3.url, "multipart_threshold_bytes": 5 * MiB}
        with running_service(near.s3, bucket, tmp_path / "service", port=pages[2], **settings) as service:
            yield FaultyWindow(make_window(service, page_s3, bucket), far, near)


@pytest.fixture
def three_parts(tmp_path: Path) -> Path:
    path = tmp_path / "parts.bin"
    path.write_bytes(os.urandom(17 * MiB))
    return path


def is_part(asked: Asked, number: int) -> bool:
    return asked.method == "PUT" and asked.query.get("partNumber") == [str(number)]


def test_damaged_part(faulty: FaultyWindow, three_parts: Path) -> None:
    """A part that S3 stored with other bytes is found before the parts are joined, and sent again."""
    window = faulty.window
    window.open()
    seen: list[Asked] = []

    def once(asked: Asked) -> bool:
        if is_part(asked, 2):
            seen.append(asked)
        return is_part(asked, 2) and len(seen) == 1

    with faulty.far.failing(Damage(), once):
        window.choose(three_parts)
        window.uploaded(three_parts.name)

    assert sorted(faulty.parts_sent()) == [1, 2, 2, 3]
    assert same(window, three_parts)


def test_part_that_is_damaged_every_time(faulty: FaultyWindow, three_parts: Path) -> None:
    """If S3 stores other bytes, the upload fails, the page says so, and trying again resumes it."""
    window = faulty.window
    window.open()
    line = window.upload(window.folder + three_parts.name)
    with faulty.far.failing(Damage(), lambda asked: is_part(asked, 2)):
        window.choose(three_parts)
        expect(line).to_contain_text("S3 does not hold the bytes that were sent; nothing was stored")
    assert window.stored() == set()
    faulty.far.asked.clear()
    window.button(f"Try again: {window.folder}{three_parts.name}").click()
    window.uploaded(three_parts.name)

    assert faulty.parts_sent() == [2]
    assert same(window, three_parts)


def test_file_of_other_parts(faulty: FaultyWindow, three_parts: Path) -> None:
    """A file that S3 made of other parts than were sent is no success: its ETag is not that of the parts."""
    window = faulty.window
    window.open()
    listings: list[Asked] = []

    def replace_part(asked: Asked) -> bool:
        """The page has looked at the parts, and the service is about to look at what it joins."""
        if asked.method == "GET" and "uploadId" in asked.query:
            listings.append(asked)
            if len(listings) == 2:
                [key] = [upload["Key"] for upload in window.open_uploads()]
                part = {"Bucket": window.bucket, "Key": key, "UploadId": asked.query["uploadId"][0]}
                window.s3.client().upload_part(**part, PartNumber=3, Body=b"x" * MiB)
        return False

    with faulty.near.failing(Damage(), replace_part):
        window.choose(three_parts)
        line = window.upload(window.folder + three_parts.name)
        expect(line).to_contain_text("S3 does not hold the file that was sent")

    assert len(listings) == 2
    assert window.page.evaluate("localStorage.length") == 0


def test_damaged_form(
    make_window: MakeWindow,
    make_service: Callable[..., Service],
    seaweedfs_s3: S3,
    bucket_name: str,
    tmp_path: Path,
) -> None:
    """S3 refuses a form whose file does not have the SHA-256 that the page planned; nothing is stored."""
    # MiniStack does not compare the SHA-256 of a form.
    bucket = allow_origin(seaweedfs_s3, seaweedfs_s3.make_bucket(bucket_name), "*")
    with running_faulty_s3(seaweedfs_s3) as far:
        service = make_service(seaweedfs_s3, bucket, s3_public_endpoint_url=far.s3.url)
        window = make_window(service, seaweedfs_s3, bucket)
        window.forgiven = ["400"]
        window.open()
        with far.failing(Damage(), lambda asked: asked.method == "POST"):
            window.choose(text(tmp_path, "a.txt", "x" * 100_000))
            expect(window.upload(f"{window.folder}a.txt")).to_contain_text("S3 refused the upload")

    assert window.stored() == set()


def test_resumed_part_of_other_bytes(large_window: Window, large: Path) -> None:
    """Only parts at S3 that match the file are reused."""
    window = large_window
    window.forgiven = ["dialog beforeunload"]
    received = interrupt(window, large)
    with large.open("r+b") as file:
        file.write(b"other bytes")
    modified = large.stat().st_mtime  # the page knows a file by its date, too
    window.page.evaluate(
        """([size, date]) => {
          const [key] = Object.keys(localStorage);
          const [name] = JSON.parse(key.slice("s3api upload ".length));
          const now = "s3api upload " + JSON.stringify([name, size, date]);
          localStorage.setItem(now, localStorage.getItem(key));
          localStorage.removeItem(key);
        }""",
        [LARGE, int(modified * 1000)],
    )
    window.choose(large)
    window.uploaded(large.name)

    assert 1 in received
    assert sorted(part_numbers(window)) == sorted(PARTS - (received - {1}))
    assert same(window, large)


def test_cancelled_too_late(faulty: FaultyWindow, three_parts: Path) -> None:
    """A cancellation that finds the file complete says so, and lists the file."""
    window = faulty.window
    window.open()
    name = window.folder + three_parts.name

    def cancel(route: Route) -> None:
        route.fetch()  # S3 has joined the parts; the page never hears of it
        window.button(f"Cancel: {name}").dispatch_event("click")
        route.abort()

    window.forgiven = ["ERR_FAILED", "409"]
    window.page.route("**/complete", cancel)
    window.choose(three_parts)
    window.uploaded(three_parts.name)

    expect(window.page.locator("#said")).to_contain_text("too late to cancel")
    assert same(window, three_parts)


@pytest.mark.parametrize(
    ("text_of", "digest"),
    [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        ("1234567890" * 8, "57edf4a22be3c955ac49da2e2107b67a"),
    ],
)
def test_md5_of_the_rfc(window: Window, text_of: str, digest: str) -> None:
    """The page's MD5 is right for the test suite of RFC 1321, appendix A.5."""
    window.open()

    assert md5_in_the_page(window, f"new Blob([{text_of!r}])") == digest


@pytest.mark.parametrize("size", [55, 56, 63, 64, 65, 65_535, 65_536, 65_537, 1_000_000])
def test_md5_of_any_length(window: Window, size: int) -> None:
    """Wherever a block or a piece ends, the MD5 is that of another implementation."""
    window.open()
    made = f"new Blob([Uint8Array.from({{ length: {size} }}, (_, at) => at % 251)])"
    data = bytes(at % 251 for at in range(size))

    assert md5_in_the_page(window, made) == hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("reader", ["a reader into given memory", "slices"])
def test_md5_of_ranges(window: Window, reader: str) -> None:
    """Ranges may follow each other or not, asked for at once; also in a browser that has no such reader."""
    window.open()
    if reader == "slices":
        window.page.evaluate("void (Blob.prototype.stream = () => { throw new TypeError(); })")
    ranges = [(0, 70_000), (70_000, 200_000), (10, 20), (199_000, 200_000), (0, 0)]
    found = window.page.evaluate(
        """async (ranges) => {
          const { Md5s, hex } = await import(new URL("ui/md5.js", location));
          const digests = new Md5s(new Blob([Uint8Array.from({ length: 200000 }, (_, at) => at % 251)]));
          return Promise.all(ranges.map(async ([start, end]) => hex(await digests.of(start, end))));
        }""",
        ranges,
    )

    data = bytes(at % 251 for at in range(200_000))
    assert found == [hashlib.md5(data[a:b], usedforsecurity=False).hexdigest() for a, b in ranges]


def md5_in_the_page(window: Window, blob: str) -> str:
    digest: str = window.page.evaluate(
        f"import(new URL('ui/md5.js', location)).then(async ({{ md5, hex }}) => hex(await md5({blob})))"
    )
    return digest


# --- through the service


@pytest.mark.parametrize("size", ["small", "large"])
def test_through_the_service(
    make_window: MakeWindow, closed: tuple[Service, S3, str], large: Path, tmp_path: Path, size: str
) -> None:
    """Where S3 does not let the page in the file goes through the service, and no parts are left behind."""
    window = make_window(*closed)
    window.forgiven = ["CORS policy", "Failed to load resource: net::ERR_FAILED"]
    window.open()
    path = large if size == "large" else text(tmp_path, "small.txt", "small")
    window.choose(path)
    line = window.upload(window.folder + path.name)
    expect(line).to_contain_text("uploaded through the service", timeout=120_000)

    assert same(window, path)
    assert window.open_uploads() == []
    assert window.page.evaluate("localStorage.length") == 0
    # From then on it does not try in vain.
    window.requests.clear()
    window.choose(text(tmp_path, "next.txt", "next"))
    window.uploaded("next.txt")
    assert window.sent_to_s3("POST") == []
    assert len(window.asked("PUT", "/upload/")) == 1
    assert window.data("next.txt") == b"next"


def test_never_replaced_unasked(
    make_window: MakeWindow, closed: tuple[Service, S3, str], tmp_path: Path
) -> None:
    """A file that appears between the question and the upload is not replaced by way of the service."""
    window = make_window(*closed)
    window.forgiven = ["CORS policy", "ERR_FAILED", "412"]
    window.open()
    window.choose(text(tmp_path, "first.txt", "first"))
    window.uploaded("first.txt")

    def interfere(route: Route) -> None:
        window.put("a.txt", b"theirs")
        route.continue_()

    window.page.route("**/upload/*", interfere)
    window.choose(text(tmp_path, "a.txt", "ours"))

    expect(window.upload(f"{window.folder}a.txt")).to_contain_text("already exists")
    assert window.data("a.txt") == b"theirs"


# --- memory


def renderers(browser: Browser) -> list[int]:
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return [process["id"] for process in processes if process["type"] == "renderer"]


def memory(process: int, field: str) -> int:
    """VmRSS is what a process holds in memory now, VmHWM the most it held; both in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def test_memory_of_a_large_upload(large_window: Window, browser: Browser, tmp_path: Path) -> None:
    """A file of 1 GiB goes up in less than 64 MiB of the page's memory, at its peak."""
    window = large_window
    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.truncate(1024 * MiB)
    window.open()
    before = {}
    for process in renderers(browser):
        Path(f"/proc/{process}/clear_refs").write_text("5")  # begin its peak anew
        before[process] = memory(process, "VmRSS")
    window.choose(path)
    expect(window.upload(window.folder + path.name)).to_contain_text("uploaded", timeout=120_000)
    growth = {process: memory(process, "VmHWM") - before[process] for process in before}
    print({process: f"{grown / MiB:.1f} MiB" for process, grown in growth.items()})

    found = window.client.head_object(Bucket=window.bucket, Key=window.folder + path.name)
    assert found["ContentLength"] == 1024 * MiB
    assert set(renderers(browser)) & set(before)
    assert max(growth.values()) < 64 * MiB
    window.client.delete_object(Bucket=window.bucket, Key=window.folder + path.name)


def test_nothing_is_replaced_while_s3_does_not_list(
    make_window: MakeWindow, seaweedfs_s3: S3, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """S3 answers a listing with an error in a 200: the page says so, and replaces no file without asking."""
    bucket = allow_origin(seaweedfs_s3, seaweedfs_s3.make_bucket("day02-page-answers"), "*")
    slow_down = Instead(
        200, (REQUEST_ID, ("Content-Type", "application/xml")), b"<Error><Code>SlowDown</Code></Error>"
    )
    with running_faulty_s3(seaweedfs_s3) as faulty:
        service = make_service(faulty.s3, bucket, s3_public_endpoint_url=seaweedfs_s3.url)
        window = make_window(service, seaweedfs_s3, bucket)
        window.forgiven.append("503")
        window.client.put_object(Bucket=bucket, Key=f"{window.folder}a.txt", Body=b"kept")
        window.open()
        expect(window.row("a.txt")).to_be_visible()
        with faulty.failing(slow_down, lambda asked: "list-type" in asked.query):
            window.choose(text(tmp_path, "a.txt", "new"))
            expect(window.page.locator("#problem-text")).to_contain_text("S3 asks to slow down")

        assert window.sent_to_s3("POST") == window.asked("PUT") == []
        assert window.data("a.txt") == b"kept"


# --- many files


def test_a_thousand_files(window: Window, tmp_path: Path) -> None:
    """A thousand files have one total, one announcement, and few listings; the taken names are found.

    The sending itself is replaced: the test is about what the page shows and asks.
    """
    folder = tmp_path / "tree"
    for number in range(1000):
        text(tmp_path, f"tree/{number % 3}/{number}.txt", "x")
    window.put("tree/0/0.txt", b"old")
    window.open()
    window.page.route("**/uploads", refuse_with_sentence)
    window.forgiven = ["403"]
    window.page.evaluate(
        """() => {
          window.heard = [];
          const said = document.getElementById("said");
          new MutationObserver(() => said.textContent && window.heard.push(said.textContent))
            .observe(said, { childList: true });
        }"""
    )
    window.requests.clear()
    window.page.set_input_files("#pick-folder", folder)
    expect(window.page.locator("#ask")).to_contain_text("Replace tree/0/0.txt?", timeout=60_000)
    assert len(window.asked("GET", "/list_files")) == 3
    window.button("Skip it").click()
    total = window.page.locator("#uploads-text")
    expect(total).to_have_text("Uploaded 0 files; 999 failed.", timeout=120_000)
    expect(window.page.locator("#said")).to_have_text("Uploaded 0 files; 999 failed.")
    expect(window.page.locator("#uploads-total")).to_be_hidden()

    assert len(window.page.evaluate("window.heard")) <= 5


def refuse_with_sentence(route: Route) -> None:
    route.fulfill(status=403, json={"status": 403, "message": "This is not allowed", "code": "forbidden"})


def test_cancel_all(window: Window, tmp_path: Path) -> None:
    """Several uploads have one total and one button that cancels those that have not ended."""
    window.open()
    window.choose(text(tmp_path, "first.txt", "first"))
    window.uploaded("first.txt")
    held: list[Route] = []
    window.page.route("**/uploads", lambda route: held.append(route))  # noqa: PLW0108 - Playwright sets an attribute
    window.choose(*(text(tmp_path, f"{number}.txt", str(number)) for number in range(20)))
    expect(window.page.locator("#uploads-text")).to_have_text("0 of 20 files · 0 B of 30 B")

    def six_are_held() -> bool:
        window.page.wait_for_timeout(50)  # Playwright calls the handler only meanwhile
        return len(held) == 6

    until(six_are_held, "as many uploads are planned as there are connections")
    assert window.violations() == []
    window.button("Cancel all").click()
    for route in held:
        route.continue_()
    expect(window.page.locator("#said")).to_have_text("Cancelled 20 uploads.")
    expect(window.page.locator("#uploads li")).to_have_count(1)
    expect(window.button("Cancel all")).to_be_hidden()

    assert window.stored() == {"first.txt"}
