"""The page of an upload link, for people without a token, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, expect

from support.servers import S3, Service
from ui.window import LOOKS, MakeWindow, Window

Tokens = dict[str, tuple[str, str]]


@pytest.fixture
def window(make_window: MakeWindow, guarded: tuple[Service, S3, str]) -> Window:
    window = make_window(*guarded)
    window.forgiven = ["41[0-2]", "dialog beforeunload"]
    return window


@pytest.fixture
def link(window: Window, tokens: Tokens) -> Callable[..., str]:
    """Create a link, as the owner of a token that may only write does."""

    def create(**terms: Any) -> str:
        authorized = {"Authorization": f"Bearer {tokens['uploader'][0]}"}
        answer = requests.post(
            f"{window.service.url}/upload_links", json=terms, headers=authorized, timeout=60
        )
        url: str = answer.json()["content"]["url"]
        return url

    return create


def line(window: Window, name: str) -> Locator:
    return window.page.locator("#uploads li").filter(has=window.page.get_by_text(name, exact=True))


@pytest.mark.parametrize("look", LOOKS)
def test_files_into_a_folder(
    make_window: MakeWindow,
    guarded: tuple[Service, S3, str],
    link: Callable[..., str],
    tmp_path: Path,
    look: str,
) -> None:
    """The holder of a link sends files. In every state axe finds no fault, and the page is not too wide."""
    window = make_window(*guarded, **LOOKS[look])
    window.forgiven = ["41[0-2]", "404"]
    window.put("a.txt", b"old")
    for name, size in {"a.txt": 3, "b (1).txt": 5, "large.bin": 2000, "x" * 120: 1}.items():
        (tmp_path / name).write_bytes(b"n" * size)
    page = window.page
    wrong: dict[str, list[str]] = {}

    def look_at(state: str) -> None:
        if found := window.faults():
            wrong[state] = found

    url = link(prefix=window.folder, max_bytes=1000)
    page.goto(url)
    expect(page.locator("#send-terms")).to_contain_text("up to 1.0 kB")
    expect(page.locator("#send-terms")).to_contain_text("No existing file is replaced")
    look_at("terms")
    page.set_input_files(
        "#pick", [tmp_path / name for name in ("b (1).txt", "a.txt", "large.bin", "x" * 120)]
    )
    expect(line(window, "b (1).txt")).to_contain_text("sent, 5 B")
    expect(line(window, "x" * 120)).to_contain_text("sent, 1 B")
    expect(line(window, "large.bin")).to_contain_text("this link takes up to 1.0 kB")
    expect(line(window, "a.txt")).to_contain_text("was sent before")
    look_at("sent and refused")
    page.get_by_role("button", name="Send as a (2).txt: a.txt").click()
    expect(line(window, "a (2).txt")).to_contain_text("sent, 3 B")
    expect(page.locator("#said")).to_have_text("a (2).txt was sent.")

    assert window.stored() == {"a.txt", "a (2).txt", "b (1).txt", "x" * 120}
    assert (window.data("a.txt"), window.data("a (2).txt")) == (b"old", b"nnn")
    page.goto(url.replace("upload_links/", "upload_links/x"))
    expect(page.locator("#problem-text")).to_contain_text("no upload link of this service")
    look_at("no link")
    assert wrong == {}


def test_one_file(window: Window, link: Callable[..., str], tmp_path: Path) -> None:
    """The file gets the name of the link, whatever its own. The link without a slash leads to the page."""
    (tmp_path / "mine.txt").write_text("mine")
    window.page.goto(link(name=f"{window.folder}report.csv"))
    expect(window.page.locator("#send-title")).to_contain_text("report.csv")
    with window.page.expect_file_chooser() as chooser:
        window.button("Choose a file").click()
    assert not chooser.value.is_multiple()
    chooser.value.set_files(tmp_path / "mine.txt")
    expect(line(window, "mine.txt")).to_contain_text("sent, 4 B")

    assert window.data("report.csv") == b"mine"


def test_progress_and_cancel(window: Window, link: Callable[..., str], tmp_path: Path) -> None:
    """An upload shows how far it is. A cancelled one stores nothing, and can be tried again."""
    (tmp_path / "large.bin").write_bytes(bytes(3_000_000))
    window.page.goto(link(prefix=window.folder))
    expect(window.page.locator("#send")).to_be_visible()
    with window.slow_network(20_000):  # the upload would take minutes
        window.page.set_input_files("#pick", tmp_path / "large.bin")
        expect(line(window, "large.bin")).to_contain_text("of 3.0 MB")
        assert window.violations() == []
        window.button("Cancel: large.bin").click()
        expect(line(window, "large.bin")).to_contain_text("cancelled")
    assert window.stored() == set()
    window.button("Try again: large.bin").click()
    expect(line(window, "large.bin")).to_contain_text("sent, 3.0 MB")

    assert window.stored() == {"large.bin"}


@pytest.mark.parametrize("look", LOOKS)
def test_request_files(
    make_window: MakeWindow, guarded: tuple[Service, S3, str], tokens: Tokens, look: str
) -> None:
    """The page makes a link for the folder that it shows, and shows it only while its dialog is open."""
    window = make_window(*guarded, **LOOKS[look])
    window.forgiven = ["401", "403"]
    page = window.page
    # An uploader may not list, and can still request files.
    window.open()
    page.get_by_label("API token").fill(tokens["uploader"][0])
    window.button("Continue").click()
    window.button("Request files…").click()
    dialog = page.get_by_role("dialog", name="Request files")
    expect(dialog).to_contain_text(f"upload into {window.folder}, and can do nothing else")
    page.get_by_label("Largest file").select_option("10 MB")
    window.button("Create link").click()
    field = page.get_by_label("Upload link")
    expect(field).to_be_visible()
    wrong = window.faults()
    url = field.input_value()
    told = requests.get(url, timeout=60).json()["content"]
    sent = requests.put(f"{url}a.txt", data=b"sent", timeout=60)
    page.get_by_label("Ends after").select_option("1 hour")
    expect(field).to_be_hidden()
    dialog.get_by_role("button", name="Close").click()
    page.goto(f"{window.service.url}/ui#")
    window.settled()

    assert wrong == []
    assert (told["prefix"], told["max_bytes"], told["overwrite"]) == (window.folder, 10_000_000, False)
    assert sent.status_code == 200
    assert window.data("a.txt") == b"sent"
    expect(window.button("Request files…")).to_be_hidden()  # a folder is needed
    assert url not in page.content()


def test_the_page_is_strict(window: Window, link: Callable[..., str]) -> None:
    """The page talks to its own service only, is never cached, and sends no Referer."""
    url = link(prefix=window.folder)
    page = requests.get(url, headers={"Accept": "text/html,*/*;q=0.8"}, timeout=60)
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))

    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == (
        "'none'",
        "'self'",
        "'self'",
    )
    assert policy["require-trusted-types-for"] == "'script'"
    assert (page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert page.headers["Vary"] == "Accept"
    assert url not in page.text
    window.page.goto(url)
    expect(window.page.locator("#send")).to_be_visible()
    referers = [one.headers.get("referer", "") for one in window.requests if "/ui/" in one.url]
    assert len(referers) >= 5
    assert set(referers) == {""}
