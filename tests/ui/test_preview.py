"""The preview of text, tables and pictures."""

from __future__ import annotations

import struct
import zlib

import pytest
from playwright.sync_api import expect

from ui.window import Window


def png(width: int, height: int) -> bytes:
    """A red picture (PNG specification, section 5)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = (b"\0" + b"\xff\0\0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def test_text(window: Window) -> None:
    """Text is shown as it is, never as HTML; of a large file only the beginning is read."""
    window.put("page.html", "<img src=x onerror=window.__pwned=1>\r\n\tphoto\u202egpj é".encode())
    window.put("large.log", b"line of the log\n" * 20_000)
    window.put("empty.txt", b"")
    window.put("program.bin")
    window.open()
    body, note = window.page.locator("#preview-body"), window.page.locator("#preview-note")
    window.button("Preview page.html").click()
    expect(body).to_have_text("<img src=x onerror=window.__pwned=1>\n\tphoto⟨U+202E⟩gpj é")
    expect(body.locator("img")).to_have_count(0)
    assert window.violations() == []
    with window.page.expect_download() as download:
        window.page.locator("#preview").get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "page.html"
    window.button("Close").click()
    expect(window.button("Preview page.html")).to_be_focused()
    window.button("Preview large.log").click()
    expect(note).to_have_text("The first 66 kB of 320 kB.")
    assert len(body.inner_text()) <= 65_536
    window.page.keyboard.press("Escape")
    window.button("Preview empty.txt").click()
    expect(note).to_have_text("The file is empty.")
    window.page.keyboard.press("Escape")

    expect(window.button("Preview program.bin")).to_have_count(0)
    assert window.page.evaluate("window.__pwned") is None


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_table(window: Window, separator: str) -> None:
    """A CSV file is shown as a table (RFC 4180: quotes, doubled quotes, line breaks in quotes)."""
    rows = [["name", "note"], ["a", f'"one{separator} ""two""\nthree"'], ["<b>", ""]]
    window.put("data.csv", "\r\n".join(separator.join(row) for row in rows).encode())
    window.open()
    window.button("Preview data.csv").click()
    table = window.page.get_by_role("table", name="data.csv")
    expect(table.get_by_role("columnheader")).to_have_text(["name", "note"])
    cells = table.get_by_role("cell").all_text_contents()

    assert cells == ["a", f'one{separator} "two"\nthree', "<b>", ""]
    assert window.violations() == []


def test_picture(window: Window) -> None:
    """A picture is drawn with the policy as it is. A file that only has the name of one is refused."""
    window.put("photo.png", png(3, 2))
    window.put("no.png", b"<svg onload=window.__pwned=1>")
    window.open()
    window.button("Preview photo.png").click()
    expect(window.page.get_by_role("img", name="photo.png, 3 × 2 pixels")).to_be_visible()
    pixel = window.page.evaluate(
        "[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 1, 1).data]"
    )
    assert pixel == [255, 0, 0, 255]
    assert window.violations() == []
    window.page.keyboard.press("Escape")
    window.button("Preview no.png").click()
    expect(window.page.locator("#problem")).to_contain_text("The browser cannot show this picture")
