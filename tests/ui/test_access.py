"""Access to the page: keyboard, screen reader, phone, dark mode; and its pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from support.servers import ROOT, S3, Service
from ui.window import LOOKS, MakeWindow, MiB, Window

PICTURES = ROOT / "docs" / "pictures"
PICTURE_BYTES = 150_000


# --- by keyboard alone


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with this name has the focus, which must be visible."""
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
              const at = document.activeElement;
              const ring = getComputedStyle(at).outlineStyle;
              return [at.ariaLabel ?? at.placeholder ?? at.textContent.trim(), at.textContent.trim(), ring];
            }"""
        )
        if name in found[:2]:
            assert found[2] != "none", f"nothing shows that '{name}' has the focus"
            return
    raise AssertionError(f"Tab does not lead to '{name}'")


def test_keyboard(window: Window, tmp_path: Path) -> None:
    """A whole visit without a mouse: upload, search, folders, a link, delete, undo; no focus is lost."""
    window.put("folder/inside.txt")
    window.open()
    page, keyboard = window.page, window.page.keyboard
    (tmp_path / "new.txt").write_text("new")

    tab_to(page, "Upload files")
    with page.expect_file_chooser() as chooser:
        keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "new.txt")
    window.uploaded("new.txt")
    expect(window.row("new.txt")).to_be_visible()

    tab_to(page, "Filter this folder")
    keyboard.type("fold")
    expect(window.row("new.txt")).to_be_hidden()
    tab_to(page, "folder/")
    keyboard.press("Enter")
    expect(page.locator("#listing-title")).to_be_focused()
    tab_to(page, "Copy link to inside.txt")
    keyboard.press("Enter")
    expect(page.locator("#link")).to_be_visible()
    keyboard.press("Escape")
    expect(window.button("Copy link to inside.txt")).to_be_focused()

    tab_to(page, "Delete inside.txt")
    keyboard.press("Enter")
    expect(window.button("Cancel")).to_be_focused()
    tab_to(page, "Delete")
    keyboard.press("Enter")
    expect(window.button("Undo")).to_be_focused()
    assert window.stored() == {"new.txt"}
    keyboard.press("Enter")
    expect(page.locator("#files .open")).to_be_focused()
    assert window.stored() == {"folder/inside.txt", "new.txt"}
    keyboard.press("Shift+Tab")
    expect(page.get_by_label("Select inside.txt")).to_be_focused()
    keyboard.press("Space")
    expect(window.button("Delete 1 file")).to_be_visible()


def test_what_a_screen_reader_hears(window: Window, tmp_path: Path) -> None:
    """The table is one, its buttons say what they act on, and what happens is told in a live region."""
    window.put("a.txt", b"x" * 1500)
    window.open()
    table, said = window.page.get_by_role("table", name=window.folder), window.page.locator("#said")

    assert said.get_attribute("role") == "status"
    assert table.get_by_role("columnheader").all_inner_texts() == ["", "Name", "Size", "Changed", "Actions"]
    row = table.get_by_role("row").nth(1)
    assert row.get_by_role("cell").nth(2).inner_text() == "1.5 kB"
    buttons = [one.get_attribute("aria-label") for one in row.locator(".actions button").all()]
    assert buttons == ["Download a.txt", "Copy link to a.txt", "Delete a.txt", "More actions for a.txt"]
    (tmp_path / "b.txt").write_text("b")
    window.choose(tmp_path / "b.txt")
    expect(said).to_have_text(f"Uploaded {window.folder}b.txt.")
    window.button("Delete b.txt").click()
    window.page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(said).to_have_text("Deleted b.txt. The button Undo brings it back.")
    window.page.locator("#filter").fill("nothing")
    expect(said).to_have_text("0 of 1 file")


# --- every state, every look


@pytest.mark.parametrize("look", LOOKS)
def test_axe_and_width(
    make_window: MakeWindow, unversioned: tuple[Service, S3, str], tmp_path: Path, look: str
) -> None:
    """In every state, axe finds no fault, and the page is not wider than the screen."""
    window = make_window(*unversioned, **LOOKS[look])
    window.forgiven = ["409", "403", "dialog beforeunload"]
    page = window.page
    wrong: dict[str, list[str]] = {}

    def look_at(state: str) -> None:
        if found := window.faults():
            wrong[state] = found

    window.open()
    look_at("empty")
    window.put("a.txt")
    window.put("<b>" + "long " * 10 + "x" * 150)
    window.put("folder/" + "y" * 150 + "/b.txt")
    window.open()
    page.get_by_label("Select a.txt").check()
    look_at("listing")
    window.button("Copy link to a.txt").click()
    expect(page.locator("#link")).to_be_visible()
    look_at("link")
    window.button("Close").click()
    window.button("Delete a.txt").click()
    look_at("question")
    page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(page.locator("#notice")).to_be_visible()
    look_at("notice")
    window.button("Undo").click()
    expect(page.locator("#problem")).to_be_visible()
    look_at("problem")

    large, refused = tmp_path / "large.bin", tmp_path / "refused.txt"
    large.write_bytes(bytes(20 * MiB))
    refused.write_text("refused")
    page.route("**/uploads", refuse_some)
    with window.slow_network(64 * 1024):  # the upload would take minutes
        window.choose(large, refused)
        expect(window.upload(f"{window.folder}refused.txt")).to_contain_text("not allowed")
        expect(window.upload(f"{window.folder}large.bin")).to_contain_text("left")
        look_at("uploading, failed")
        page.reload()
    window.settled()
    expect(page.locator("#uploads")).to_contain_text("interrupted")
    look_at("interrupted")
    window.button(f"Discard: {window.folder}large.bin").click()
    page.route("**/list_files**", refuse)
    page.reload()
    window.settled()
    look_at("may not list")

    assert wrong == {}


def refuse(route: Route) -> None:
    told = {
        "status": 403,
        "message": "This is not allowed",
        "code": "forbidden",
        "request_id": "0123456789",
    }
    route.fulfill(status=403, json=told)


def refuse_some(route: Route) -> None:
    if "refused" in str(route.request.post_data):
        refuse(route)
    else:
        route.continue_()


@pytest.mark.parametrize("look", LOOKS)
def test_axe_of_the_token_form(make_window: MakeWindow, guarded: tuple[Service, S3, str], look: str) -> None:
    """The form for a token is as fit as the rest, also when the token is wrong."""
    window = make_window(*guarded, **LOOKS[look])
    window.forgiven = ["401"]
    window.open()
    window.page.get_by_label("API token").fill("wrong")
    window.button("Continue").click()
    expect(window.page.locator("#token-why")).to_have_text("The token is not valid")

    assert window.violations() == []
    assert not window.is_wide()


def test_reduced_motion(make_window: MakeWindow, versioned: tuple[Service, S3, str]) -> None:
    """A user who prefers reduced motion sees no motion."""
    window = make_window(*versioned, reduced_motion="reduce")
    window.put("a.txt")
    window.open()
    moving = window.page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((one) => {
          const style = getComputedStyle(one);
          return style.animationName !== "none" || style.transitionProperty !== "none";
        }).length"""
    )

    assert moving == 0


# --- pictures

FOLDERS = ["backups/", "photos/", "reports/"]
FILES = [
    ("annual report 2025.pdf", 2_412_000, "2026-02-27T16:04:00Z"),
    ("appstore_games.csv", 2_600_000, "2026-11-20T09:31:00Z"),
    ("floor plan.svg", 48_300, "2026-06-02T11:47:00Z"),
    ("interview.m4a", 31_700_000, "2026-10-14T14:20:00Z"),
    ("notes.txt", 1_830, "2026-11-23T08:55:00Z"),
    ("price list (new).xlsx", 96_500, "2026-09-30T17:12:00Z"),
    ("site-export.tar.gz", 1_284_000_000, "2026-11-22T02:00:00Z"),
]


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """The folder of the pictures: the documentation's if requested, otherwise a temporary one."""
    return PICTURES if os.environ.get("S3API_PICTURES") else tmp_path


VIEWS = {"search": "#?contains=te", "deleted": "#?deleted"}


@pytest.mark.parametrize("view", VIEWS)
def test_picture_of_a_view(
    make_window: MakeWindow, versioned: tuple[Service, S3, str], picture_folder: Path, view: str
) -> None:
    """The search and the deleted files as the documentation shows them."""
    window = make_window(*versioned, **LOOKS["light"])
    page = window.page
    files = [{"name": name, "size": size, "last_modified": at, "etag": "0"} for name, size, at in FILES]
    below = {"site-export.tar.gz": "backups/", "notes.txt": "", "interview.m4a": "press/2026/"}
    by_name = {str(file["name"]): file for file in files}
    found = [{**by_name[name], "name": folder + name} for name, folder in below.items()]
    gone = [
        {**file, "version": "1", "latest": True, "deleted": True}
        for file in [*files[4:6], *({**file, "name": f"photos/{file['name']}"} for file in files[:3])]
    ]
    lines = "".join(json.dumps(line) + "\n" for line in [*found, {"searched": 18_204}])
    page.route("**/list_files*contains=*", lambda route: route.fulfill(status=200, body=lines))
    message = "Successfully listed files on s3 bucket 'day02-files'"
    first = {"status": 200, "message": message, "content": [], "prefixes": []}
    page.route("**/list_files*limit=1&*", lambda route: route.fulfill(status=200, json=first))
    body = {"status": 200, "message": message, "content": gone}
    page.route("**/versions?*", lambda route: route.fulfill(status=200, json=body))
    page.goto(f"{window.service.url}/ui{VIEWS[view]}")
    expect(page.locator("tbody:visible tr:visible").first).to_be_visible()
    expect(page.locator("#search-stop")).to_be_hidden()
    page.mouse.move(0, 0)
    picture = picture_folder / f"ui-{view}.png"
    picture.parent.mkdir(exist_ok=True)
    page.screenshot(path=picture)

    assert window.names() == (
        ["backups/site-export.tar.gz", "notes.txt", "press/2026/interview.m4a"]
        if view == "search"
        else ["photos/", "notes.txt", "price list (new).xlsx"]
    )
    assert picture.stat().st_size < PICTURE_BYTES
    assert (PICTURES / picture.name).exists()


@pytest.mark.parametrize("look", LOOKS)
def test_picture(
    make_window: MakeWindow, versioned: tuple[Service, S3, str], picture_folder: Path, look: str
) -> None:
    """The page as the documentation shows it; `make pictures` takes the pictures anew."""
    window = make_window(*versioned, **LOOKS[look])
    page = window.page

    def the_same_each_time(route: Route) -> None:
        body = {
            "status": 200,
            "message": "Successfully listed files on s3 bucket 'day02-files'",
            "content": [
                {"name": name, "size": size, "last_modified": changed, "etag": "0"}
                for name, size, changed in FILES
            ],
            "prefixes": FOLDERS,
        }
        route.fulfill(status=200, json=body)

    page.route("**/list_files**", the_same_each_time)
    window.open("")
    picture = picture_folder / f"ui-{look}.png"
    picture.parent.mkdir(exist_ok=True)
    page.screenshot(path=picture)

    assert window.names() == [*FOLDERS, *(name for name, _, _ in FILES)]
    assert picture.stat().st_size < PICTURE_BYTES
    assert (PICTURES / picture.name).exists()
