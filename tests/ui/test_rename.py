"""Renaming and moving files and folders on the page."""

from __future__ import annotations

from playwright.sync_api import expect

from support.servers import S3, Service
from ui.window import MakeWindow, Window


def begin(window: Window, name: str) -> None:
    window.button(f"More actions for {name}").click()
    window.page.get_by_role("menuitem", name="Rename or move…").click()


def test_rename_a_file(make_window: MakeWindow, versioned: tuple[Service, S3, str]) -> None:
    """By keyboard alone: a taken name is refused and nothing changes; a free one renames; a folder moves."""
    window = make_window(*versioned, color_scheme="dark")
    window.forgiven = ["412"]
    window.put("a.txt", b"a")
    window.put("taken.txt", b"taken")
    window.open()
    page, keyboard, field = window.page, window.page.keyboard, window.page.locator("#rename-name")

    more = window.button("More actions for a.txt")
    more.focus()
    keyboard.press("Enter")
    expect(more).to_have_attribute("aria-expanded", "true")
    assert window.violations() == []
    keyboard.press("Escape")
    expect(page.locator("#menu")).to_be_hidden()
    expect(more).to_be_focused()
    expect(more).to_have_attribute("aria-expanded", "false")
    keyboard.press("Enter")
    keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Versions…")).to_be_focused()
    keyboard.press("ArrowDown")  # begins again at the first
    expect(page.get_by_role("menuitem", name="Rename or move…")).to_be_focused()
    keyboard.press("Enter")
    expect(field).to_be_focused()
    assert page.evaluate("getSelection().toString()") == "a"  # without the folder and the extension
    keyboard.type("taken")
    keyboard.press("Enter")
    result = page.locator("#rename-result")
    expect(result).to_contain_text("already exists")
    assert window.violations() == []
    assert (window.data("a.txt"), window.data("taken.txt")) == (b"a", b"taken")

    field.fill(f"{window.folder}new.txt")
    keyboard.press("Enter")
    expect(page.locator("#rename")).to_be_hidden()
    expect(page.locator("#files .open").first).to_be_focused()
    assert window.names() == ["new.txt", "taken.txt"]
    begin(window, "new.txt")
    field.fill(f"{window.folder}folder/new.txt")
    keyboard.press("Enter")
    expect(window.row("folder/")).to_be_visible()
    assert window.stored() == {"folder/new.txt", "taken.txt"}
    assert window.data("folder/new.txt") == b"a"


def test_a_folder_as_the_new_name_moves_a_file(window: Window) -> None:
    """A new name that ends with a slash is a folder: the file keeps its own name in it."""
    window.put("a.txt", b"a")
    window.open()
    begin(window, "a.txt")
    window.page.locator("#rename-name").fill(f"{window.folder}archive/")
    window.page.locator("#rename-go").click()
    expect(window.page.locator("#rename")).to_be_hidden()
    expect(window.row("archive/")).to_be_visible()
    assert window.stored() == {"archive/a.txt"}
    assert window.data("archive/a.txt") == b"a"


def test_rename_only_the_file_that_the_user_sees(window: Window) -> None:
    """A file that was replaced meanwhile is not renamed."""
    window.forgiven = ["412"]
    window.put("a.txt", b"seen")
    window.open()
    window.put("a.txt", b"newer")
    begin(window, "a.txt")
    window.page.locator("#rename-name").fill(f"{window.folder}b.txt")
    window.page.locator("#rename-go").click()
    expect(window.page.locator("#rename-result")).to_contain_text("a.txt")
    assert window.stored() == {"a.txt"}
    window.page.locator("#rename-cancel").click()
    expect(window.page.locator("#rename")).to_be_hidden()


def test_rename_a_folder(window: Window) -> None:
    """Every file moves. One whose new name is taken stays, and the page says which one and why."""
    for name in ("old/a.txt", "old/inner/b.txt", "old/c.txt", "new/c.txt"):
        window.put(name, name.encode())
    window.open()
    begin(window, "old/")
    field, result = window.page.locator("#rename-name"), window.page.locator("#rename-result")
    assert window.page.evaluate("getSelection().toString()") == "old"
    field.fill(f"{window.folder}new")  # the slash at the end is added
    window.page.locator("#rename-go").click()
    expect(result).to_contain_text("Renamed 2 files. 1 file keeps its name.")
    expect(result.locator("li")).to_contain_text("old/c.txt: ")
    expect(result.locator("li")).to_contain_text("already exists")
    assert window.violations() == []
    assert window.stored() == {"new/a.txt", "new/inner/b.txt", "new/c.txt", "old/c.txt"}
    assert window.data("new/c.txt") == b"new/c.txt"

    field.fill(f"{window.folder}other/")
    window.page.locator("#rename-go").click()
    expect(window.page.locator("#rename")).to_be_hidden()
    expect(window.row("other/").get_by_role("link")).to_be_focused()
    assert window.names() == ["new/", "other/"]
