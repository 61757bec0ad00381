"""Tokens on the page: the form, storage in the tab, forgetting, and missing permissions."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect

from support.servers import S3, Service
from ui.window import MakeWindow, Window

Tokens = dict[str, tuple[str, str]]


@pytest.fixture
def window(make_window: MakeWindow, guarded: tuple[Service, S3, str]) -> Window:
    window = make_window(*guarded)
    window.forgiven = ["401", "403"]
    return window


def enter(window: Window, token: str) -> None:
    window.page.get_by_label("API token").fill(token)
    window.button("Continue").click()


def test_token(window: Window, tokens: Tokens, tmp_path: Path) -> None:
    """The page asks for a token, says when it is wrong, and with a right one does all that a token allows."""
    window.put("a.txt")
    window.open()
    why = window.page.locator("#token-why")
    expect(why).to_have_text("This service needs a token.")
    expect(window.page.get_by_label("API token")).to_be_focused()
    expect(window.page.locator("#browser")).to_be_hidden()
    enter(window, "wrong")
    expect(why).to_have_text("The token is not valid")
    enter(window, tokens["everything"][0])
    expect(window.row("a.txt")).to_be_visible()

    (tmp_path / "b.txt").write_text("b")
    window.choose(tmp_path / "b.txt")
    window.uploaded("b.txt")
    with window.page.expect_download() as download:
        window.button("Download b.txt").click()
    assert download.value.path().read_text() == "b"


def test_token_is_kept_for_the_tab(window: Window, tokens: Tokens) -> None:
    """A reload keeps the token, another tab has none, and the browser stores it nowhere for longer."""
    window.put("a.txt")
    window.open()
    enter(window, tokens["everything"][0])
    expect(window.row("a.txt")).to_be_visible()
    window.page.reload()
    expect(window.row("a.txt")).to_be_visible()

    kept = window.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert tokens["everything"][0] not in kept
    assert all(tokens["everything"][0] not in request.url for request in window.requests)
    window.new_tab()
    window.open()
    expect(window.page.get_by_label("API token")).to_be_visible()


def test_token_is_forgotten(window: Window, tokens: Tokens) -> None:
    """A button forgets the token and clears the page."""
    window.put("a.txt")
    window.open()
    expect(window.page.get_by_role("heading", name="Sign in with your API token")).to_be_visible()
    enter(window, tokens["everything"][0])
    expect(window.row("a.txt")).to_be_visible()
    window.button("Sign out").click()

    expect(window.page.locator("#said")).to_have_text("You are signed out.")
    expect(window.page.get_by_label("API token")).to_be_visible()
    assert window.page.evaluate("sessionStorage.length") == 0
    expect(window.button("Sign out")).to_be_hidden()
    assert "a.txt" not in window.page.content()
    assert window.bucket not in window.page.content()


def test_what_a_reader_may_not(window: Window, tokens: Tokens, tmp_path: Path) -> None:
    """Forbidden actions are refused in the API's words, and allowed ones work.

    The page shows the forbidden actions if the token had more verbs when the page was loaded.
    """
    everything = {"name": "reader", "verbs": ["delete", "list", "read", "write"], "prefix": ""}
    body = {"status": 200, "message": "", "content": everything}
    window.page.route("**/whoami", lambda route: route.fulfill(status=200, json=body))
    window.put("a.txt")
    window.open()
    enter(window, tokens["reader"][0])
    window.button("Delete a.txt").click()
    window.page.locator("#ask").get_by_role("button", name="Delete").click()
    problem = window.page.locator("#problem")

    expect(problem).to_contain_text("The token 'reader' may not delete files")
    expect(problem.locator("code")).not_to_be_empty()
    window.button("Dismiss").click()
    (tmp_path / "b.txt").write_text("b")
    window.choose(tmp_path / "b.txt")
    line = window.upload(f"{window.folder}b.txt")
    expect(line).to_contain_text("The token 'reader' may not write files")
    with window.page.expect_download():
        window.button("Download a.txt").click()
    assert window.stored() == {"a.txt"}


def test_actions_that_the_token_may_not_use_are_hidden(window: Window, tokens: Tokens) -> None:
    """The page shows only what the verbs of the token allow. axe finds no fault without the rest."""
    window.put("a.txt")
    window.put("folder/b.txt")
    window.open()
    enter(window, tokens["reader"][0])
    expect(window.row("a.txt")).to_be_visible()

    expect(window.button("Download a.txt")).to_be_visible()
    expect(window.button("Copy link to a.txt")).to_be_visible()
    expect(window.page.get_by_role("link", name="Deleted files")).to_be_visible()
    for hidden in ("Delete a.txt", "Upload files", "Upload folder", "More actions for folder/"):
        expect(window.button(hidden)).to_be_hidden()
    window.button("More actions for a.txt").click()
    expect(window.page.get_by_role("menuitem", name="Versions…")).to_be_focused()
    expect(window.page.get_by_role("menuitem", name="Rename or move…")).to_be_hidden()
    window.page.keyboard.press("Escape")
    window.page.get_by_label("Select a.txt").check()
    expect(window.button("Download 1 file as ZIP")).to_be_visible()
    expect(window.button("Delete 1 file")).to_be_hidden()
    assert window.violations() == []
    window.open(f"{window.folder}empty/")
    expect(window.page.locator("#empty")).to_have_text("No files here yet.")
    window.page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["x"], "dropped.txt"));
          window.dispatchEvent(new DragEvent("dragenter", { dataTransfer }));
          window.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        }"""
    )
    expect(window.page.locator("#drop")).to_be_hidden()
    expect(window.page.locator("#uploads")).to_be_hidden()

    window.button("Sign out").click()
    window.open()
    enter(window, tokens["everything"][0])
    expect(window.button("Delete a.txt")).to_be_visible()
    expect(window.button("Upload files")).to_be_visible()


def test_a_token_for_a_folder_begins_there(window: Window, tokens: Tokens) -> None:
    """After sign-in the page shows the folder of the token. The folders above it are not links."""
    window.client.put_object(Bucket=window.bucket, Key="team/inner/a.txt", Body=b"team")
    window.open("")
    enter(window, tokens["team"][0])
    expect(window.row("inner/")).to_be_visible()
    expect(window.page.locator("#problem")).to_be_hidden()
    window.page.get_by_role("link", name="inner/").click()
    expect(window.row("a.txt")).to_be_visible()
    window.page.get_by_role("link", name="All files").click()
    expect(window.row("inner/")).to_be_visible()

    window.open("elsewhere/")
    field = window.page.get_by_label("Open a folder")
    expect(field).to_have_value("team/")
    field.fill("team")  # without the slash that the token's prefix has
    window.button("Open").click()
    expect(window.row("inner/")).to_be_visible()


def test_folder_that_the_token_may_list(window: Window, tokens: Tokens) -> None:
    """If a token is limited to a folder, the page names it, and a field opens it."""
    window.client.put_object(Bucket=window.bucket, Key="team/a.txt", Body=b"team")
    window.open("elsewhere/")
    enter(window, tokens["team"][0])
    expect(window.page.locator("#problem")).to_contain_text("files that begin with 'team/'")
    window.page.get_by_label("Open a folder").fill("team/")
    window.button("Open").click()
    expect(window.row("a.txt")).to_be_visible()

    expect(window.page.locator("#problem")).to_be_hidden()
    expect(window.page.locator("#go")).to_be_hidden()


def test_upload_without_leave_to_list(window: Window, tokens: Tokens, tmp_path: Path) -> None:
    """A token that may only write can upload, after a warning that files may be replaced."""
    window.open()
    enter(window, tokens["uploader"][0])
    expect(window.page.locator("#problem")).to_contain_text("The token 'uploader' may not list files")
    (tmp_path / "b.txt").write_text("b")
    window.choose(tmp_path / "b.txt")
    expect(window.page.locator("#ask")).to_contain_text("may not list files here")
    window.page.locator("#ask").get_by_role("button", name="Upload").click()
    window.uploaded("b.txt")

    assert window.data("b.txt") == b"b"


def test_page_needs_no_token(guarded: tuple[Service, S3, str]) -> None:
    """The page itself is public."""
    service, _, _ = guarded

    assert requests.get(f"{service.url}/ui", timeout=10).status_code == 200
    assert requests.get(f"{service.url}/ui/ui.js", timeout=10).status_code == 200
