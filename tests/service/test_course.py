"""docs/course.md: its commands for the API and its bucket, with the real AWS command line."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from support import course
from support.servers import S3, Service, need


def test_the_commands_for_the_api(
    ministack_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Each prints what the page says: exercise 01 with awscli 1 from PyPI, exercises 03 to 05 with curl."""
    need(shutil.which("curl"), "curl is not installed; the commands of the course do not run")
    service = make_service(ministack_s3, ministack_s3.make_bucket(bucket_name))
    given = os.environ.get("S3API_COURSE_FILE")
    data = Path(given).read_bytes() if given else b"ID,Name\n1,Sudoku\n" * 100_000
    (tmp_path / "appstore_games.csv").write_bytes(data)
    variables = {
        **ministack_s3.credentials,
        "AWS_ENDPOINT_URL": ministack_s3.url,
        "BUCKET": bucket_name,
        "URL": service.url,
    }
    blocks = course.blocks("service")
    for commands, wanted in blocks:
        printed = course.run(commands, tmp_path, variables)
        assert course.matches(wanted, printed), f"{commands}\n{printed}"

    assert len(blocks) >= 5
    assert ministack_s3.keys(bucket_name) == set()


def test_every_command_of_the_page_is_run() -> None:
    """Each block of commands says where it runs, and each exercise from 00 to 11 has one.

    The blocks before them only set variables, for AWS and for the local stack. The tests set them too.
    """
    text = course.PAGE.read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]

    variables = re.findall(r"```sh\n((?:export .*\n)+)```", text)
    marked = len(course.blocks("service")) + len(course.blocks("stack"))
    assert text.count("```sh") == marked + len(variables)
    assert len(variables) == 2
    assert [section[:2] for section in sections] == [f"{number:02}" for number in range(12)]
    assert all("<!-- run: " in section for section in sections)
