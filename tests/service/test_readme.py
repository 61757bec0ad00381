"""The README's promises: its tour of curl lines, run as they stand, and its links."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from s3api.settings import Settings
from service import generated
from support.servers import ROOT, S3, Service, need

README = (ROOT / "README.md").read_text(encoding="utf-8")
LIFE = 6  # seconds: curl must have begun to download by then, on a busy machine too


def test_the_tour(
    ministack_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Every line of the tour does what it says: uploaded, listed, downloaded the same, expired, deleted."""
    need(shutil.which("curl"), "the tour needs curl")
    service = make_service(ministack_s3, ministack_s3.make_bucket(bucket_name), download_url_seconds=LIFE)
    found = re.search(r"<!-- tour -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert found
    script = found[1].replace("http://127.0.0.1:5000", service.url).replace("sleep 121", f"sleep {LIFE + 1}")
    assert script.startswith("FILE=README.md\n")
    script = script.replace("README.md", "appstore_games.csv", 1)
    course_file = os.environ.get("S3API_COURSE_FILE")
    data = Path(course_file).read_bytes() if course_file else b"ID,Name\n1,Sudoku\n" * 100_000
    (tmp_path / "appstore_games.csv").write_bytes(data)
    done = subprocess.run(
        ["sh", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert f"Successfully uploaded 'appstore_games.csv' to the bucket '{bucket_name}'" in out
    assert '"content":["appstore_games.csv"]' in out
    assert "\nthe same bytes\n" in out
    assert "<Code>AccessDenied</Code>" in out
    assert f"Successfully deleted file 'appstore_games.csv' on s3 bucket '{bucket_name}'" in out
    assert (tmp_path / "copy").read_bytes() == data


def test_the_api_by_example(
    ministack_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Every line of the examples runs, and what they store, read and delete is as they say."""
    need(shutil.which("curl") and shutil.which("openssl"), "the examples need curl and openssl")
    service = make_service(ministack_s3, ministack_s3.make_bucket(bucket_name, versioned=True))
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"<!-- run -->\n```sh\n(.*?)```", page, re.DOTALL))
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "URL": service.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert page.count("```sh") == page.count("<!-- run -->")
    statuses = [int(found) for found in re.findall(r'^\{"status":(\d+)', done.stdout, re.MULTILINE)]
    assert [status for status in statuses if status != 200] == [412, 412, 201, 412, 201, 404]
    assert len(statuses) >= 17
    assert ministack_s3.keys(bucket_name) == {
        "archive/games.csv",
        "big.bin",
        "checked.csv",
        "course.csv",
        "direct.csv",
        "from-a-pipe.txt",
        "games.csv",
        "inbox/games.csv",
        "moved.csv",
        "once.csv",
        "raw/games.csv",
        "reports/games.csv",
        "seven.bin",
        "small.csv",
        "tus.csv",
    }
    big = ministack_s3.client().get_object(Bucket=bucket_name, Key="big.bin")["Body"].read()
    assert big == (tmp_path / "big.bin").read_bytes()


def test_the_tokens_by_example(
    ministack_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """The lines of docs/configuration.md make a token, and the service accepts it with its verbs."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- tokens -->\n```sh\n(.*?)```", page, re.DOTALL)
    assert found
    make, serve, ask = found[1].splitlines()
    assert serve.endswith(" make run")
    entries = serve.removesuffix(" make run") + '; printf %s "$API_TOKENS"'
    (tmp_path / ".data").mkdir()

    def run(line: str, **more: str) -> str:
        script = line.replace(".venv/bin/s3api", f"'{sys.executable}' -m s3api")
        done = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "services"), **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(make)
    bucket = ministack_s3.make_bucket(bucket_name)
    service = make_service(ministack_s3, bucket, api_tokens=run(entries), allow_anonymous="false")
    said = run(ask, S3API_URL=service.url)

    assert "web" in said
    assert all(verb in said for verb in ("list", "read", "write"))


PAGES = [path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file that is there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not urlsplit(link).scheme]
    missing = [
        target
        for target in targets
        if not target.startswith("#") and not (ROOT / page.parent / target.partition("#")[0]).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_titles(page: Path) -> None:
    """The fragment of a link to a page names a title of that page, as GitHub writes it."""
    links = re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [
        f"{target}#{fragment}"
        for target, fragment in links
        if not urlsplit(target).scheme
        and fragment not in _titles(ROOT / page.parent / target if target else ROOT / page)
    ]

    assert missing == []


def _titles(page: Path) -> set[str]:
    """The fragments of a page's titles: lower case, without punctuation, and with hyphens for spaces."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_variable_is_documented() -> None:
    """The table of settings names every variable of every setting, and no other."""
    table = generated.CONFIGURATION.read_text(encoding="utf-8")
    table = table.partition(generated.BEGIN)[2].partition(generated.END)[0]
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    named = re.findall(r"`([A-Z0-9_]+)`", rows)
    settings = {name.upper() for name in Settings.model_fields} | {
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
    }

    assert len(named) == len(set(named))
    assert set(named) ^ settings == set(), "make docs writes the table from Settings"


def test_every_decision_is_numbered_dated_and_listed() -> None:
    """Decisions have the numbers 1, 2, 3 …, a date, and a row in the index that repeats date and title."""
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    rows = []
    for path in pages:
        title, _, date = (path.read_text(encoding="utf-8").splitlines() + [""] * 3)[:3]
        assert title.startswith("# "), f"{path.name}: line 1 is '# Title', not {title!r}"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date), (
            f"{path.name}: line 3 is the bare date, such as 2026-11-27, not {date!r}"
        )
        rows.append(f"| [{path.name[:4]}]({path.name}) | {date} | {title.removeprefix('# ')} |")
    index = (folder / "README.md").read_text(encoding="utf-8").splitlines()

    assert [path.name[:5] for path in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    listed = [line for line in index if line.startswith("| [")]
    assert set(listed) ^ set(rows) == set(), "a row of the index repeats the date and the title of its page"
    assert listed == rows
