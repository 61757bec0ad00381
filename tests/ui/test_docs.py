"""The reference at /docs: its link back, and its dark theme."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from support.servers import S3, Service


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['target']}: {node['html'][:300]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe(browser: Browser, versioned: tuple[Service, S3, str], scheme: str) -> None:
    """axe finds no fault with the reference: the list of routes, the schemas, and a route that is open."""
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    try:
        page.goto(f"{versioned[0].url}/docs")
        expect(page.locator(".opblock").first).to_be_visible()
        closed = violations(page)
        page.locator(".opblock-summary-control").first.click()
        page.locator(".try-out__btn").click()
        expect(page.locator(".opblock-body .execute").first).to_be_visible()
        assert (closed, violations(page)) == ([], [])
    finally:
        page.close()


def test_dark_theme_and_link_back(browser: Browser, versioned: tuple[Service, S3, str]) -> None:
    """In a dark scheme the reference is dark with light text, and a link leads to the files."""
    url = f"{versioned[0].url}/docs"
    light, dark = (browser.new_page(color_scheme=scheme) for scheme in ("light", "dark"))
    try:
        for page, ground, turned in ((light, "rgb(255, 255, 255)", False), (dark, "rgb(19, 21, 23)", True)):
            page.goto(url)
            expect(page.locator(".opblock").first).to_be_visible()
            assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == ground
            found = page.evaluate("getComputedStyle(document.querySelector('.swagger-ui')).filter")
            assert ("invert" in found) is turned
        dark.get_by_role("navigation", name="Pages").get_by_role("link", name="Files").click()
        expect(dark).to_have_url(f"{versioned[0].url}/ui")
    finally:
        light.close()
        dark.close()
