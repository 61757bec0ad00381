"""Chromium for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from support.servers import need

#: Chromium without a display needs half the CPU time: 36 s against 74 s for test_browsing.py.
PROGRAMS = ["chromium-headless-shell", "chromium"]


@contextmanager
def running_chromium(*args: str) -> Iterator[Browser]:
    """Start Chromium with more command line arguments; skip the test where there is no Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    need(program, "the tests of pages need Chromium: on Debian, apt install chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=args)
        yield browser
        browser.close()
