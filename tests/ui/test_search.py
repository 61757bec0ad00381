"""The search of the page: below a folder, beyond what is loaded."""

from __future__ import annotations

import json
import zipfile
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Route, expect

from support.servers import S3, Service
from ui.window import MakeWindow, Window


def search(window: Window, text: str) -> None:
    window.page.locator("#filter").fill(text)
    window.page.locator("#filter").press("Enter")


def test_search_below_a_folder(window: Window) -> None:
    """A search finds files in all folders below, which are used as in the listing; a link leads back."""
    for name in ("a.txt", "reports/Invoice 1.txt", "reports/2026/invoice é.txt", "reports/2026/other.txt"):
        window.put(name, name.encode())
    window.open()
    page, text = window.page, window.page.locator("#search-text")
    page.locator("#filter").fill("INVOICE")
    window.button("Search all folders below").click()
    expect(text).to_have_text("2 files found in 4 names.")
    expect(page.locator("#listing-title")).to_be_focused()
    expect(page.locator("#said")).to_have_text("2 files found in 4 names.")

    assert window.names() == ["reports/2026/invoice é.txt", "reports/Invoice 1.txt"]
    assert window.violations() == []
    with page.expect_download() as saved:
        window.button("Download reports/2026/invoice é.txt").click()
    assert saved.value.path().read_bytes() == "reports/2026/invoice é.txt".encode()
    page.locator("#pick-all").check()
    with page.expect_download() as saved:
        page.locator("#zip-selected").click()
    assert len(zipfile.ZipFile(saved.value.path()).namelist()) == 2

    window.button("Delete reports/Invoice 1.txt").click()
    page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(window.row("reports/Invoice 1.txt")).to_be_hidden()
    assert window.names() == ["reports/2026/invoice é.txt"]
    window.button("Undo").click()
    expect(window.row("reports/Invoice 1.txt")).to_be_visible()
    assert "reports/Invoice 1.txt" in window.stored()

    # The location names the search, so a reload and the browser's own way back work.
    page.reload()
    expect(text).to_have_text("2 files found in 4 names.")
    search(window, "nothing like it")
    expect(page.locator("#empty")).to_have_text("No file found.")
    assert window.violations() == []
    page.go_back()
    expect(text).to_have_text("2 files found in 4 names.")
    page.get_by_role("link", name="Back to the folder").click()
    expect(window.row("a.txt")).to_be_visible()
    assert window.names() == ["reports/", "a.txt"]
    expect(page.locator("#search")).to_be_hidden()


def test_search_can_be_stopped(make_window: MakeWindow, versioned: tuple[Service, S3, str]) -> None:
    """Files appear while the search goes on. Stop ends the request and keeps what was found."""
    window = make_window(*versioned, color_scheme="dark")
    window.put("a.txt")
    window.open()
    page = window.page
    # The answer begins and never ends, as that of a very large bucket does.
    page.evaluate(
        """(name) => {
          const answered = window.fetch;
          window.fetch = async (path, options) => {
            if (!path.includes("contains=")) return answered(path, options);
            const file = { name, size: 1, last_modified: "2026-11-26T12:00:00Z", etag: "0" };
            const lines = [file, { searched: 1000 }].map((line) => JSON.stringify(line) + "\\n").join("");
            const body = new ReadableStream({
              start(controller) {
                controller.enqueue(new TextEncoder().encode(lines));
                options.signal.addEventListener("abort", () => {
                  window.stopped = true;
                  controller.error(options.signal.reason);
                });
              },
            });
            return new Response(body);
          };
        }""",
        f"{window.folder}found.txt",
    )
    search(window, "found")
    expect(page.locator("#search-text")).to_have_text("1 file found in 1,000 names; searching…")
    expect(window.row("found.txt")).to_be_visible()
    assert window.violations() == []
    window.button("Stop").click()
    expect(page.locator("#search-text")).to_have_text("1 file found in 1,000 names. The search was stopped.")
    expect(page.locator("#search-back")).to_be_focused()
    assert page.evaluate("window.stopped") is True
    assert window.names() == ["found.txt"]
    expect(page.locator("#problem")).to_be_hidden()


def test_search_that_finds_too_much_or_fails(window: Window) -> None:
    """The page shows 5,000 files and says that it ended there. After a failure, a button searches again."""
    window.forgiven = ["503"]
    window.put("a.txt")
    window.open()
    refusal = {"status": 503, "message": "S3 cannot be reached; try again", "code": "x", "request_id": "r1"}
    window.page.route("**/list_files*contains=*", lambda route: route.fulfill(status=503, json=refusal))
    search(window, "a")
    problem = window.page.locator("#problem")
    expect(problem).to_contain_text("S3 cannot be reached; try again")

    def many(route: Route) -> None:
        [prefix] = parse_qs(urlsplit(route.request.url).query)["prefix"]
        file = {"size": 1, "last_modified": "2026-11-26T12:00:00Z", "etag": "0"}
        lines = [json.dumps({**file, "name": f"{prefix}a{number:05}"}) for number in range(6000)]
        route.fulfill(status=200, body="\n".join([*lines, json.dumps({"searched": 6000}), ""]))

    window.page.unroute("**/list_files*contains=*")
    window.page.route("**/list_files*contains=*", many)
    window.button("Search again").click()
    text = window.page.locator("#search-text")
    expect(text).to_have_text("5,000 files found. The search ended there: search for more of the name.")
    expect(problem).to_be_hidden()
    expect(window.page.locator("#files tr")).to_have_count(5000)
