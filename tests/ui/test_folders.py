"""Folders and selections on the page: deleted, restored, shared, downloaded."""

from __future__ import annotations

import zipfile

import requests
from playwright.sync_api import expect

from ui.window import Window


def test_delete_a_folder_and_undo(window: Window) -> None:
    """The page says how much a folder holds, deletes all of it, and restores all of it."""
    for name in ("photos/a.txt", "photos/inner/b.txt", "photos.txt"):
        window.put(name, name.encode())
    window.open()
    window.button("Delete folder photos/").click()
    ask = window.page.locator("#ask")
    expect(ask).to_contain_text("Delete the folder photos/?")
    expect(ask).to_contain_text("It has 2 files, 30 B in all.")
    assert window.violations() == []
    ask.get_by_role("button", name="Delete").click()
    expect(window.page.locator("#notice")).to_contain_text("Deleted 2 files.")

    assert window.stored() == {"photos.txt"}
    window.button("Undo").click()
    expect(window.page.locator("#notice")).to_contain_text("Restored 2 files.")
    assert window.stored() == {"photos/a.txt", "photos/inner/b.txt", "photos.txt"}
    expect(window.row("photos/")).to_be_visible()


def test_undo_stays_until_it_is_used_or_dismissed(window: Window) -> None:
    """A second deletion adds to Undo, which other folders do not end. After Dismiss it begins again."""
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", "folder/e.txt"):
        window.put(name)
    window.open()
    notice = window.page.locator("#notice")

    def delete(name: str) -> None:
        window.button(f"Delete {name}").click()
        window.page.locator("#ask").get_by_role("button", name="Delete").click()
        expect(window.row(name)).to_be_hidden()

    delete("a.txt")
    expect(notice).to_contain_text("Deleted a.txt.")
    window.button("Dismiss").click()
    delete("b.txt")
    expect(notice).to_contain_text("Deleted b.txt.")
    delete("c.txt")
    expect(notice).to_contain_text("Deleted 2 files.")
    window.page.get_by_role("link", name="folder/").click()
    expect(window.row("e.txt")).to_be_visible()
    window.button("Undo").click()
    expect(notice).to_contain_text("Restored 2 files.")

    assert window.stored() == {"b.txt", "c.txt", "d.txt", "folder/e.txt"}


def test_links_to_the_files_of_a_folder(window: Window) -> None:
    """A folder is shared as one link for each file, with a life that the user chooses."""
    for name in ("photos/a.txt", "photos/inner/b.txt"):
        window.put(name, name.encode())
    window.open()
    window.button("Copy links to the files in photos/").click()
    dialog = window.page.locator("#link")
    expect(dialog).to_contain_text("Links to the files in photos/")
    expect(dialog).to_contain_text("Anyone with these 2 links can download the files until")
    assert window.violations() == []
    dialog.get_by_label("Valid for").select_option("1 hour")
    expect(dialog).to_contain_text("(1 h 0 min)")
    links = dialog.get_by_label("Links").input_value().split("\n")

    assert [requests.get(link, timeout=10).content for link in links] == [
        b"photos/a.txt",
        b"photos/inner/b.txt",
    ]
    assert all("X-Amz-Expires=3600&" in link for link in links)


def test_a_selection_as_a_zip(window: Window) -> None:
    """The selected files are saved as one ZIP."""
    for name in ("a.txt", "b.txt", "c.txt"):
        window.put(name, name.encode())
    window.open()
    for name in ("a.txt", "c.txt"):
        window.page.get_by_label(f"Select {name}").check()
    with window.page.expect_download() as saved:
        window.button("Download 2 files as ZIP").click()

    with zipfile.ZipFile(saved.value.path()) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a.txt": b"a.txt",
            "c.txt": b"c.txt",
        }
