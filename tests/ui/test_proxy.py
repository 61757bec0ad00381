"""The pages behind nginx, below a prefix: what they load and ask for stays below it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from support.nginx import BLOCKS, running_nginx
from support.servers import S3, Service


@pytest.mark.parametrize("prefix", BLOCKS)
def test_try_it_out_reaches_the_service(
    prefix: str, browser: Browser, ministack_s3: S3, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """The button of /docs sends its request to where the document is, and shows the answer."""
    bucket = ministack_s3.make_bucket(f"day02-tried{len(prefix)}")
    service = make_service(ministack_s3, bucket, trusted_proxy_hops=1)
    with running_nginx(BLOCKS[prefix], service, tmp_path) as port:
        base = f"http://127.0.0.1:{port}{prefix}"
        page = browser.new_page()
        try:
            page.goto(f"{base}docs#/Files/list_files")
            page.get_by_role("button", name="Try it out").click()
            with page.expect_request(lambda request: "list_files" in request.url) as asked:
                page.get_by_role("button", name="Execute").click()
            expect(page.get_by_text("Successfully listed files").first).to_be_visible()
        finally:
            page.close()

    assert asked.value.url.startswith(f"{base}list_files?")


def test_the_page_lists_files_below_a_prefix(
    browser: Browser, ministack_s3: S3, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """/ui finds its scripts and the API below a prefix."""
    bucket = ministack_s3.make_bucket("day02-below")
    ministack_s3.client().put_object(Bucket=bucket, Key="below.txt", Body=b"x")
    service = make_service(ministack_s3, bucket, trusted_proxy_hops=1)
    with running_nginx(BLOCKS["/files-api/"], service, tmp_path) as port:
        page = browser.new_page()
        try:
            page.goto(f"http://127.0.0.1:{port}/files-api/ui")
            expect(page.get_by_text("below.txt").first).to_be_visible()
        finally:
            page.close()
