"""Deleted files and older versions on the page."""

from __future__ import annotations

from playwright.sync_api import expect

from support.servers import S3, Service
from ui.window import LOOKS, MakeWindow, Window


def delete(window: Window, *names: str) -> None:
    for name in names:
        window.client.delete_object(Bucket=window.bucket, Key=window.folder + name)


def test_restore_a_deleted_file(make_window: MakeWindow, versioned: tuple[Service, S3, str]) -> None:
    """The view lists what was deleted in the folder and below it. Restore brings one file back."""
    window = make_window(*versioned, **LOOKS["phone"])
    page = window.page
    for name in ("stays.txt", "a.txt", "b.txt", "photos/c.txt", "photos/inner/d.txt"):
        window.put(name, name.encode())
    window.open()
    page.get_by_role("link", name="Deleted files").click()
    expect(page.locator("#deleted-empty")).to_be_visible()
    assert window.violations() == []
    delete(window, "a.txt", "b.txt", "photos/c.txt", "photos/inner/d.txt")
    page.reload()
    expect(page.locator("#deleted-count")).to_have_text("4 deleted files")

    assert window.names() == ["photos/", "a.txt", "b.txt"]
    expect(window.row("photos/")).to_contain_text("2 files")
    expect(window.row("a.txt")).to_contain_text("5 B")
    assert window.violations() == []
    assert not window.is_wide()
    window.button("Restore a.txt").click()
    expect(page.locator("#deleted-result")).to_have_text("Restored a.txt.")
    expect(window.button("Restore b.txt")).to_be_focused()
    assert window.names() == ["photos/", "b.txt"]
    assert window.stored() == {"stays.txt", "a.txt"}
    assert window.data("a.txt") == b"a.txt"
    page.get_by_role("link", name="photos/").click()
    expect(page.locator("#deleted-title")).to_have_text(f"Deleted files in {window.folder}photos/")
    assert window.names() == ["inner/", "c.txt"]
    page.go_back()
    expect(window.row("b.txt")).to_be_visible()
    page.get_by_role("link", name="Back to the folder").click()
    expect(window.row("stays.txt")).to_be_visible()
    assert window.names() == ["a.txt", "stays.txt"]


def test_restore_a_folder(make_window: MakeWindow, versioned: tuple[Service, S3, str]) -> None:
    """All files of a folder are restored. One that cannot be is named. Undo ends with what it offered."""
    window = make_window(*versioned, color_scheme="dark")
    page = window.page
    for name in ("photos/a.txt", "photos/inner/b.txt", "photos/c\\d", "other.txt"):
        window.put(name, name.encode())
    window.open()
    window.button("Delete other.txt").click()
    page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(window.button("Undo")).to_be_visible()
    delete(window, "photos/a.txt", "photos/inner/b.txt", "photos/c\\d")
    page.get_by_role("link", name="Deleted files").click()
    window.button("Restore the folder photos/").click()
    ask, result = page.locator("#ask"), page.locator("#deleted-result")
    expect(ask).to_contain_text("No existing file is replaced.")
    assert window.violations() == []
    ask.get_by_role("button", name="Restore").click()
    expect(result).to_contain_text("Restored 2 files. 1 file stays deleted.")
    expect(result.locator("li")).to_contain_text("photos/c\\d: The file name contains")
    expect(page.locator("#deleted-title")).to_be_focused()
    assert window.violations() == []
    assert window.stored() == {"photos/a.txt", "photos/inner/b.txt"}

    expect(window.button("Undo")).to_be_visible()
    window.button("Restore all").click()
    ask.get_by_role("button", name="Restore").click()
    expect(result).to_contain_text("Restored 1 file. 1 file stays deleted.")
    expect(window.button("Undo")).to_be_hidden()
    assert window.stored() == {"photos/a.txt", "photos/inner/b.txt", "other.txt"}


def test_restore_an_older_version(window: Window) -> None:
    """A version is restored over the file that the dialog shows, and over no newer one."""
    window.forgiven = ["412"]
    page = window.page
    for data in (b"1", b"22", b"333"):
        window.put("a.txt", data)
    window.open()

    def open_versions() -> None:
        window.button("More actions for a.txt").click()
        page.get_by_role("menuitem", name="Versions…").click()
        expect(page.locator("#versions")).to_be_visible()

    lines = page.locator("#versions-list li")
    open_versions()
    expect(lines).to_have_count(3)
    expect(lines.first).to_contain_text("3 B · the file as it is now")
    expect(lines.first.get_by_role("button")).to_have_count(0)
    assert window.violations() == []
    window.put("a.txt", b"4444")
    lines.last.get_by_role("button").click()
    expect(page.locator("#versions-result")).not_to_be_empty()
    assert window.violations() == []
    assert window.data("a.txt") == b"4444"
    page.keyboard.press("Escape")
    expect(window.button("More actions for a.txt")).to_be_focused()

    open_versions()
    expect(lines).to_have_count(4)
    lines.last.get_by_role("button").click()
    expect(page.locator("#versions")).to_be_hidden()
    expect(window.row("a.txt")).to_contain_text("1 B")
    expect(page.locator("#files .open")).to_be_focused()
    assert window.data("a.txt") == b"1"


def test_a_bucket_without_versions(large_window: Window) -> None:
    """The page says that the bucket keeps no versions, and a link leads back."""
    window = large_window
    window.forgiven = ["409"]
    window.put("a.txt")
    window.open()
    window.page.get_by_role("link", name="Deleted files").click()
    expect(window.page.locator("#problem")).to_contain_text("keeps no versions")
    assert window.violations() == []
    window.page.locator("#crumbs").get_by_role("link", name=window.folder.rstrip("/")).click()
    expect(window.row("a.txt")).to_be_visible()
    expect(window.page.locator("#problem")).to_be_hidden()
