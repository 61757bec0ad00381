"""The page's listing, and its actions on files."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import Locator, Page, Route, expect

from support.servers import S3, Service
from ui.window import MakeWindow, Window

# The number of entries that the page loads first.
PAGE_SIZE = 200

HOSTILE = [
    "<img src=x onerror=window.__pwned=1>.txt",
    '"><svg onload=window.__pwned=1>',
    "' onmouseover='window.__pwned=1",
    "javascript:window.__pwned=1",
    "#pick-all",
    "${filename} {{7*7}} %2e%2e%2f",
    "__proto__",
    "constructor",
    "photo\u202egpj.exe",
    "zero\u200bwidth",
    "👩‍👩‍👧‍👦 日本語 é.txt",
    "two  spaces ",
    "long " + "x" * 900,
]


def shown(name: str) -> str:
    return re.sub("[\u202e\u200b]", lambda mark: f"⟨U+{ord(mark[0]):04X}⟩", name)


# --- the listing


def test_listing(window: Window) -> None:
    """A folder's files are listed with readable sizes and dates, and the exact values as tooltips."""
    window.put("notes.txt", b"x" * 1_234_567)
    window.put("empty.bin", b"")
    window.open()
    size, date = window.row("notes.txt").locator(".size span"), window.row("notes.txt").locator("time")

    assert window.names() == ["empty.bin", "notes.txt"]
    expect(window.page.locator("#bucket")).to_have_text(window.bucket)
    expect(window.page.locator("#count")).to_have_text("2 files")
    expect(size).to_have_text("1.2 MB")
    expect(size).to_have_attribute("title", "1,234,567 bytes")
    changed = datetime.fromisoformat(str(date.get_attribute("datetime")))
    assert abs((datetime.now(UTC) - changed).total_seconds()) < 60
    expect(date).to_have_text(f"{changed:%-d %b %Y, %H:%M}")
    assert f"{changed:%H:%M:%S}" in str(date.get_attribute("title"))
    expect(window.row("empty.bin").locator(".size")).to_have_text("0 B")


def test_folders(window: Window) -> None:
    """Folders open, breadcrumbs lead back, and the browser's own back, forward and links work."""
    for name in ("a.txt", "reports/2026/q1.csv", "reports/all.csv"):
        window.put(name)
    window.open()
    here = window.page.locator("#crumbs [aria-current]")

    assert window.names() == ["reports/", "a.txt"]
    window.page.get_by_role("link", name="reports/").click()
    expect(here).to_have_text("reports")
    assert window.names() == ["2026/", "all.csv"]
    window.page.get_by_role("link", name="2026/").click()
    expect(here).to_have_text("2026")
    assert window.names() == ["q1.csv"]
    expect(window.page.locator("#said")).to_have_text(f"{window.folder}reports/2026/: 1 file.")
    window.page.go_back()
    expect(here).to_have_text("reports")
    window.page.go_forward()
    expect(here).to_have_text("2026")
    window.page.locator("#crumbs").get_by_role("link", name="reports").click()
    expect(here).to_have_text("reports")
    assert window.names() == ["2026/", "all.csv"]
    window.page.reload()
    window.settled()
    assert window.names() == ["2026/", "all.csv"]


def test_double_slash(window: Window) -> None:
    """A folder without a name is a folder like any other."""
    window.put("a//b.txt")
    window.open()
    window.page.get_by_role("link", name="a/").click()
    # The list of before has one folder too.
    expect(window.page.locator("#crumbs [aria-current]")).to_have_text("a")
    expect(window.page.locator("#folders tr")).to_have_count(1)
    window.page.locator("#folders a").click()
    expect(window.row("b.txt")).to_be_visible()

    assert window.names() == ["b.txt"]
    with window.page.expect_download() as download:
        window.button("Download b.txt").click()
    assert download.value.path().read_bytes() == b"data"


def test_empty(window: Window) -> None:
    """An empty folder says how to add files."""
    window.open()

    expect(window.page.locator("#empty")).to_contain_text("No files here yet")
    expect(window.page.get_by_role("table")).to_be_hidden()
    expect(window.page.locator("#filter")).to_be_hidden()


def test_paging_and_search(window: Window) -> None:
    """A filter loads the rest of the folder. If that fails, the page says so, and a button tries again."""
    window.forgiven = ["503"]
    body = {"status": 503, "message": "S3 cannot be reached; try again", "code": "x", "request_id": "abc123"}
    window.page.route("**/list_files*cursor=*", lambda route: route.fulfill(status=503, json=body))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(window.put, [f"{number:03}.txt" for number in range(PAGE_SIZE + 5)]))
    window.open()
    search, count = window.page.locator("#filter"), window.page.locator("#count")
    empty = window.page.locator("#empty")

    expect(count).to_have_text("200 files loaded, there are more")
    search.fill("204")
    expect(empty).to_have_text("No match in the 200 files loaded. There is more to load.")
    expect(window.page.locator("#problem")).to_contain_text("S3 cannot be reached; try again")
    window.page.unroute("**/list_files*cursor=*")
    window.button("Load more").click()
    expect(count).to_have_text("1 of 205 files")
    assert window.names() == ["204.txt"]
    expect(window.button("Load more")).to_be_hidden()
    search.fill("nothing like it")
    expect(empty).to_have_text("No match in the 205 files loaded.")
    search.fill("")
    expect(count).to_have_text("205 files")
    assert len(window.names()) == PAGE_SIZE + 5


def many_files(window: Window, many: int) -> None:
    """The service lists this many files in the folder. Each is larger and older than the next."""

    def answer(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        start, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
        stop = min(many, start + limit)
        files = [
            {
                "name": f"{window.folder}{number:05}.txt",
                "size": many - number,
                "last_modified": datetime.fromtimestamp(1_700_000_000 + number, UTC).isoformat(),
                "etag": "0",
            }
            for number in range(start, stop)
        ]
        body = {"status": 200, "message": "Listed", "content": files, "prefixes": []}
        route.fulfill(status=200, json={**body, "next": str(stop)} if stop < many else body)

    window.page.route("**/list_files*", answer)


def test_thousands_of_files(window: Window) -> None:
    """One click loads 5,000 files, with few requests. The filter and the order then need no request."""
    many_files(window, 5000)
    window.open()
    count, first = window.page.locator("#count"), window.page.locator("#files .name").first
    # By their ids: a search by role asks for the accessible names of all 25,000 buttons.
    load_all, by_name = window.page.locator("#all"), window.page.locator("th[data-by=name] button")
    expect(count).to_have_text("200 files loaded, there are more")
    load_all.click()
    expect(count).to_have_text("5,000 files", timeout=60_000)
    expect(load_all).to_be_hidden()
    expect(window.page.locator("#files tr")).to_have_count(5000)
    # Rows out of view cost no layout.
    last = window.page.locator("#files .name").last
    assert not last.evaluate("(name) => name.checkVisibility({ contentVisibilityAuto: true })")
    window.page.locator("#filter").fill("04321")
    expect(count).to_have_text("1 of 5,000 files")
    window.page.locator("#filter").fill("")
    by_name.click()
    expect(first).to_have_text("04999.txt")

    assert len(window.asked("GET", "/list_files")) == 6


def test_a_filter_or_an_order_loads_the_folder(window: Window) -> None:
    """What the user filters or sorts is the whole folder, also if only the first page was loaded."""
    many_files(window, 1500)
    window.open()
    count, first = window.page.locator("#count"), window.page.locator("#files .name").first
    window.page.locator("#filter").fill("00149")
    expect(count).to_have_text("1 of 1,500 files")
    window.page.reload()
    expect(count).to_have_text("200 files loaded, there are more")
    window.page.locator("th[data-by=date] button").click()
    expect(count).to_have_text("1,500 files")
    expect(first).to_have_text("01499.txt")
    # The order stays from folder to folder.
    window.page.evaluate("location.hash += 'inner/'")
    expect(window.page.locator("#crumbs [aria-current]")).to_have_text("inner")
    expect(count).to_have_text("1,500 files")


def test_stop_loading(window: Window) -> None:
    """Loading a large folder can be stopped, and goes on from there."""
    many_files(window, 2500)
    window.open()
    # By their ids, as above.
    load_all, load_more = window.page.locator("#all"), window.page.locator("#more")
    held: list[Route] = []
    window.page.route("**/list_files*cursor=1200*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright sets an attribute
    load_all.click()
    expect(window.page.locator("#count")).to_have_text("1,200 files loaded, there are more")
    expect(load_all).to_have_text("Stop loading")
    load_all.click()
    expect(load_more).to_be_enabled()
    expect(window.page.locator("#problem")).to_be_hidden()
    window.page.unroute("**/list_files*cursor=1200*")
    expect(load_all).to_have_text("Load all")
    load_all.click()
    expect(window.page.locator("#count")).to_have_text("2,500 files")


def test_order(window: Window) -> None:
    """The head of a column sorts by it, a second click turns the order around, and the table says so."""
    for name, size in (("b.txt", 1), ("a.txt", 30), ("c.txt", 200), ("x/1", 1), ("y/1", 1)):
        window.put(name, b"x" * size)
    window.open()
    heads = {name: window.page.get_by_role("columnheader", name=name) for name in ("Name", "Size", "Changed")}

    def expect_order(names: list[str], by: str, direction: str) -> None:
        assert window.names() == names
        for name, head in heads.items():
            expected = direction if name == by else None
            assert head.get_attribute("aria-sort") == expected, name

    expect_order(["x/", "y/", "a.txt", "b.txt", "c.txt"], "Name", "ascending")
    window.button("Name").click()
    expect_order(["y/", "x/", "c.txt", "b.txt", "a.txt"], "Name", "descending")
    window.button("Size").click()
    expect_order(["x/", "y/", "c.txt", "a.txt", "b.txt"], "Size", "descending")
    window.button("Size").click()
    expect_order(["x/", "y/", "b.txt", "a.txt", "c.txt"], "Size", "ascending")
    assert window.violations() == []
    window.page.get_by_label("Select a.txt").check()
    delete(window, "Delete 1 file")
    expect(window.page.locator("#notice")).to_be_visible()
    expect_order(["x/", "y/", "b.txt", "c.txt"], "Size", "ascending")


def test_failure(window: Window) -> None:
    """A refusal is shown in the API's words with the request id, and a button tries again."""
    window.forgiven = ["503"]
    window.put("a.txt")
    listing = "**/list_files**"
    body = {"status": 503, "message": "S3 cannot be reached; try again", "code": "x", "request_id": "abc123"}
    window.page.route(listing, lambda route: route.fulfill(status=503, json=body))
    window.open()
    problem = window.page.locator("#problem")

    expect(problem).to_contain_text("S3 cannot be reached; try again")
    expect(problem).to_contain_text("abc123")
    window.page.unroute(listing)
    window.button("Try again").click()
    expect(problem).to_be_hidden()
    assert window.names() == ["a.txt"]


# --- downloading, linking


def test_download(window: Window) -> None:
    """Download saves the file under its own name, also where the browser could show it."""
    window.put("notes é.txt", b"some text", ContentType="text/plain")
    window.open()
    with window.page.expect_download() as download:
        window.button("Download notes é.txt").click()

    assert download.value.suggested_filename == "notes é.txt"
    assert download.value.path().read_bytes() == b"some text"
    assert window.page.url.startswith(window.service.url)


def test_open(window: Window) -> None:
    """A click on the name shows types that are safe to show, in a tab without access to the page."""
    window.put("notes.txt", b"some text", ContentType="text/plain")
    window.open()
    with window.context.expect_page() as opened:
        window.row("notes.txt").get_by_role("button", name="notes.txt", exact=True).click()
    tab: Page = opened.value
    tab.wait_for_load_state()

    assert tab.url.startswith(window.s3.url)
    assert tab.inner_text("body") == "some text"
    assert tab.evaluate("window.opener") is None
    assert tab.evaluate("document.referrer") == ""


def link_to_notes(window: Window) -> Locator:
    """Copy the link of a new file `notes.txt`; return the dialog that shows it."""
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    window.put("notes.txt", b"some text")
    window.open()
    window.button("Copy link to notes.txt").click()
    dialog = window.page.locator("#link")
    expect(dialog.get_by_text("Copied to the clipboard.")).to_be_visible()
    return dialog


def assert_made_since(before: datetime, made: datetime) -> None:
    """The time in a link has no fraction of a second."""
    assert before - timedelta(seconds=1) < made <= datetime.now(UTC)


def test_copy_link(window: Window) -> None:
    """The link is copied with its expiry; it works without a request to the service."""
    before = datetime.now(UTC)
    dialog = link_to_notes(window)
    url = window.page.evaluate("navigator.clipboard.readText()")
    ends = datetime.fromisoformat(str(dialog.locator("time").get_attribute("datetime")))

    assert url == dialog.locator("input").input_value()
    assert url.startswith(window.s3.url)
    assert requests.get(url, timeout=10).content == b"some text"
    assert_made_since(before, ends - timedelta(seconds=120))
    expect(dialog).to_contain_text(f"until {ends:%H:%M:%S} (2 min)")
    window.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(window.button("Copy link to notes.txt")).to_be_focused()


def test_a_folder_as_a_zip(
    window: Window,
    make_window: MakeWindow,
    guarded: tuple[Service, S3, str],
    tokens: dict[str, tuple[str, str]],
) -> None:
    """A folder is saved as one ZIP, also by a page with a token. If it breaks off, nothing is saved."""
    signed_in = make_window(*guarded)
    signed_in.forgiven.append("401")
    for one in (window, signed_in):
        one.put("photos/é.txt", b"some text")
        one.open()
        if one is signed_in:
            one.page.get_by_label("API token").fill(tokens["reader"][0])
            one.button("Continue").click()
        with one.page.expect_download() as saved:
            one.button("Download as ZIP photos/").click()
        assert saved.value.suggested_filename == "photos.zip"
        with zipfile.ZipFile(saved.value.path()) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == {"é.txt": b"some text"}
        assert one.violations() == []

    signed_in.client.put_object(Bucket=signed_in.bucket, Key=f"{signed_in.folder}photos/a\\b", Body=b"x")
    signed_in.forgiven.append("ERR_INCOMPLETE_CHUNKED_ENCODING")
    signed_in.button("Download as ZIP photos/").click()
    expect(signed_in.page.locator("#problem-text")).to_contain_text("The download broke off")


def test_the_life_of_a_link(window: Window) -> None:
    """The user chooses how long the link is valid. The new link is copied, and its end has a date."""
    before = datetime.now(UTC)
    dialog = link_to_notes(window)
    dialog.get_by_label("Valid for").select_option("7 days")
    expect(dialog).to_contain_text("(7 days)")
    expect(dialog.get_by_text("Copied to the clipboard.")).to_be_visible()
    expect(dialog.get_by_label("Valid for")).to_be_focused()
    url = window.page.evaluate("navigator.clipboard.readText()")
    ends = datetime.fromisoformat(str(dialog.locator("time").get_attribute("datetime")))

    assert window.violations() == []
    assert "X-Amz-Expires=604800&" in url
    assert requests.get(url, timeout=10).content == b"some text"
    assert_made_since(before, ends - timedelta(days=7))
    expect(dialog).to_contain_text(f"until {ends.day} {ends:%b %Y}")


def test_a_life_that_the_service_refuses(window: Window) -> None:
    """The dialog shows why there is no link, and another life can be chosen."""
    window.put("notes.txt", b"some text")
    window.forgiven.append("status of 400|status 400")
    refusal = {"status": 400, "message": "The parameter expires must be from 60 to 3600 seconds"}
    window.page.route("**/download/*expires=604800", lambda route: route.fulfill(status=400, json=refusal))
    window.open()
    window.button("Copy link to notes.txt").click()
    dialog = window.page.locator("#link")
    dialog.get_by_label("Valid for").select_option("7 days")
    expect(dialog).to_contain_text("must be from 60 to 3600 seconds")
    expect(dialog.get_by_role("button", name="Copy")).to_be_disabled()
    assert dialog.locator("input").input_value() == ""

    dialog.get_by_label("Valid for").select_option("1 hour")
    expect(dialog).to_contain_text("(1 h 0 min)")
    expect(dialog.get_by_role("button", name="Copy")).to_be_enabled()


def test_link_without_a_clipboard(window: Window) -> None:
    """If the page has no clipboard, the link is selected so that the user can copy it."""
    window.page.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })"
    )
    window.put("notes.txt")
    window.open()
    window.button("Copy link to notes.txt").click()

    expect(window.page.locator("#link-copied")).to_contain_text("copy the selected text")
    selected = window.page.evaluate("getSelection().toString()")
    assert requests.get(selected, timeout=10).content == b"data"


# --- deleting


def delete(window: Window, button: str) -> None:
    window.button(button).click()
    window.page.locator("#ask").get_by_role("button", name="Delete").click()


def test_delete_and_undo(window: Window) -> None:
    """A deletion needs a confirmation, and Undo reverses it if the bucket keeps versions."""
    window.put("a.txt", b"first")
    window.put("b.txt")
    window.open()
    window.button("Delete a.txt").click()
    window.page.keyboard.press("Escape")
    assert window.stored() == {"a.txt", "b.txt"}
    delete(window, "Delete a.txt")
    expect(window.page.locator("#notice")).to_contain_text("Deleted a.txt.")

    assert window.names() == ["b.txt"]
    assert window.stored() == {"b.txt"}
    window.button("Undo").click()
    expect(window.page.locator("#notice")).to_contain_text("Restored a.txt.")
    assert window.names() == ["a.txt", "b.txt"]
    assert window.data("a.txt") == b"first"
    window.button("Dismiss").click()
    expect(window.page.locator("#notice")).to_be_hidden()


def test_delete_several_and_undo(window: Window) -> None:
    """Selected files are deleted and restored together; folders cannot be selected."""
    for name in ("a.txt", "b.txt", "c.csv", "folder/d.txt"):
        window.put(name, name.encode())
    window.open()
    window.page.get_by_label("Select c.csv").check()
    window.page.locator("#filter").fill(".txt")
    window.page.get_by_label("Select all files shown").check()
    expect(window.button("Delete 3 files")).to_be_visible()
    window.page.get_by_label("Select all files shown").uncheck()
    window.page.get_by_label("Select a.txt").check()
    delete(window, "Delete 2 files")
    expect(window.page.locator("#notice")).to_contain_text("Deleted 2 files.")

    assert window.stored() == {"b.txt", "folder/d.txt"}
    window.button("Undo").click()
    expect(window.page.locator("#notice")).to_contain_text("Restored 2 files.")
    assert window.stored() == {"a.txt", "b.txt", "c.csv", "folder/d.txt"}
    assert window.data("c.csv") == b"c.csv"


def test_undo_without_versions(large_window: Window) -> None:
    """If the bucket keeps no versions, the page warns before a deletion and explains after it."""
    window = large_window
    window.forgiven = ["409"]
    window.put("a.txt")
    window.open()
    window.button("Delete a.txt").click()
    expect(window.page.locator("#ask")).to_contain_text("If it keeps none, it is gone for good.")
    window.page.locator("#ask").get_by_role("button", name="Delete").click()
    window.button("Undo").click()

    expect(window.page.locator("#problem")).to_contain_text("keeps no versions")
    expect(window.page.locator("#problem code")).not_to_be_empty()
    assert window.stored() == set()


def test_delete_what_is_gone(window: Window) -> None:
    """A file that was deleted by another client is reported as missing."""
    window.put("a.txt")
    window.open()
    window.client.delete_object(Bucket=window.bucket, Key=window.folder + "a.txt")
    delete(window, "Delete a.txt")

    expect(window.page.locator("#problem")).to_contain_text("(file_not_found)")
    expect(window.page.locator("#empty")).to_be_visible()


# --- names


def test_hostile_names(window: Window) -> None:
    """A name is text wherever it appears: listed, searched, linked, downloaded, deleted, restored."""
    for name in HOSTILE:
        window.put(name, name.encode())
    window.open()

    assert sorted(window.names()) == sorted(shown(name) for name in HOSTILE)
    for name in HOSTILE:
        window.page.locator("#filter").fill(name)
        row = window.page.locator("#files tr:visible").filter(has_text=shown(name).strip())
        expect(row).to_have_count(1)
        with window.page.expect_download() as download:
            row.get_by_role("button", name="Download").click()
        assert download.value.path().read_bytes() == name.encode()
        row.get_by_role("button", name="Copy link").click()
        expect(window.page.locator("#link-title")).to_contain_text(shown(name).strip())
        window.button("Close").click()
        row.get_by_role("button", name="Delete").click()
        expect(window.page.locator("#ask-title")).to_contain_text(shown(name).strip())
        window.button("Cancel").click()
    window.page.locator("#filter").fill("")
    window.page.get_by_label("Select all files shown").check()
    delete(window, f"Delete {len(HOSTILE)} files")
    expect(window.page.locator("#empty")).to_be_visible()
    assert window.stored() == set()
    window.button("Undo").click()
    expect(window.page.locator("#notice")).to_contain_text(f"Restored {len(HOSTILE)} files.")
    assert window.stored() == set(HOSTILE)
    assert window.page.evaluate("window.__pwned") is None


def test_hostile_folders(window: Window) -> None:
    """So is the name of a folder: in the listing, in the breadcrumbs, in the location."""
    for name in HOSTILE[:-1]:
        window.put(f"{name}/inside.txt")
    window.open()

    for name in HOSTILE[:-1]:
        window.page.locator("#folders a").filter(has_text=shown(name).strip()).click()
        expect(window.page.locator("#crumbs [aria-current]")).to_have_text(shown(name).strip())
        expect(window.row("inside.txt")).to_be_visible()
        window.page.go_back()
    assert window.page.evaluate("window.__pwned") is None


def test_policy(versioned: tuple[Service, S3, str]) -> None:
    """The policy allows the page's own files, the service and its S3, and nothing inline."""
    service, s3, _ = versioned
    answer = requests.get(f"{service.url}/ui", timeout=10)
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))

    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": f"'self' {s3.url}",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert not re.search(r"(?i)<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|https?://", answer.text)


def test_policy_holds(window: Window) -> None:
    """The browser refuses to turn text into HTML or script, even if the page tried."""
    window.forgiven = ["."]
    window.open()
    reported = "Content-Security-Policy: require-trusted-types-for"
    with window.page.expect_console_message(lambda message: message.text.startswith(reported)):
        refused = window.page.evaluate(
            """() => [
          () => { document.body.innerHTML = "<b>text</b>"; },
          () => { document.createElement("img").setAttribute("onerror", "window.__pwned = 1"); },
          () => { document.body.append(Object.assign(document.createElement("script"), { text: "1" })); },
          () => { document.createElement("script").src = "https://elsewhere.example/a.js"; },
        ].map((way) => { try { way(); } catch (error) { return error.name; } })"""
        )

    assert refused == ["TypeError"] * 4


def test_through_the_public_endpoint(
    versioned: tuple[Service, S3, str],
    make_service: Callable[..., Service],
    make_window: MakeWindow,
) -> None:
    """If clients reach S3 at another host than the service does, the policy names it."""
    _, s3, bucket = versioned
    elsewhere = s3.url.replace("127.0.0.1", "localhost")
    window = make_window(make_service(s3, bucket, s3_public_endpoint_url=elsewhere), s3, bucket)
    window.put("a.txt")
    window.open()
    answer = requests.get(f"{window.service.url}/ui", timeout=10)

    assert f"connect-src 'self' {elsewhere};" in answer.headers["Content-Security-Policy"]
    with window.page.expect_download() as download:
        window.button("Download a.txt").click()
    assert download.value.url.startswith(elsewhere)


@pytest.mark.parametrize(
    "asset",
    [
        "access.js",
        "api.js",
        "deleted.js",
        "deleting.js",
        "links.js",
        "location.js",
        "md5.js",
        "menu.js",
        "name_conflicts.js",
        "page.js",
        "preview.js",
        "receive.css",
        "receive.js",
        "rename.js",
        "results.js",
        "search.js",
        "selection.js",
        "send.js",
        "sorting.js",
        "total.js",
        "ui.js",
        "upload_link_dialog.js",
        "uploads.js",
        "versions.js",
        "ui.css",
        "ui.svg",
    ],
)
def test_assets(versioned: tuple[Service, S3, str], asset: str) -> None:
    """The page's files are revalidated each time, and sent again only after a change."""
    url = f"{versioned[0].url}/ui/{asset}"
    first = requests.get(url, timeout=10)
    again = requests.get(url, headers={"If-None-Match": first.headers["ETag"]}, timeout=10)

    assert (first.status_code, again.status_code) == (200, 304)
    assert first.headers["Cache-Control"] == "no-cache"
    assert first.headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_else_is_an_asset(versioned: tuple[Service, S3, str]) -> None:
    """Only the page's own files are served there."""
    for name in ("openapi.json", "api.md", "..%2fpage.py", "nothing"):
        assert requests.get(f"{versioned[0].url}/ui/{name}", timeout=10).status_code == 404


@pytest.mark.parametrize("bad", ["line\nbreak.txt", "a\rb", "back\\slash"])
def test_delete_all_with_a_name_of_another_client(window: Window, bad: str) -> None:
    """Select all, and delete: a name that the service refuses stays, is named, and stops no other file."""
    for name in ("a.txt", "z.txt", bad):
        window.put(name)
    window.open()
    window.page.locator("#pick-all").check()
    window.page.locator("#delete-selected").click()
    window.page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(window.page.locator("#problem-text")).to_contain_text("another S3 client must delete this name")
    expect(window.page.locator("#problem-text")).to_contain_text(
        re.sub(r"[\n\r]", lambda mark: f"⟨U+{ord(mark[0]):04X}⟩", bad)
    )
    expect(window.page.locator("#notice")).to_contain_text("Deleted 2 files")

    assert window.stored() == {bad}
