"""Each command: names, results, failures, exit statuses."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from cli import docs
from cli.command import PROGRAM, Command, Ran
from local_servers import free_port
from s3api import manage
from s3api.__main__ import OPERATOR
from s3api.auth import new_token
from support.http_server import serving
from support.servers import ROOT, S3, Service, need
from support.terminal import read_until, running_on_terminal

BUCKET = "day02-commands"
DATA = b"ID,Name\n1,Sudoku\n" * 100


@pytest.fixture(scope="module")
def service(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    return make_service(ministack_s3, ministack_s3.make_bucket(BUCKET, versioned=True))


def names(listed: Ran) -> list[str]:
    assert listed.status == 0, listed.err
    return listed.out.splitlines()


# --- the everyday


def test_a_file_goes_round(s3api: Command) -> None:
    """A file is uploaded, listed, downloaded, presigned, deleted and restored, with one line for each."""
    s3api.file("a.csv", DATA)
    uploaded = s3api("upload", "a.csv")
    listed = s3api("list")
    downloaded = s3api("download", "a.csv", "--to", "copy.csv")
    presigned = s3api("presign", "a.csv")
    fetched = requests.get(presigned.out.strip(), timeout=10)
    deleted = s3api("delete", "a.csv")
    gone = s3api("list")
    restored = s3api("restore", "a.csv")

    assert uploaded.out == "uploaded a.csv: 1,700 bytes, checked by SHA-256\n"
    assert downloaded.out == "downloaded copy.csv: 1,700 bytes, checked by SHA-256\n"
    assert (deleted.out, restored.out) == ("deleted a.csv\n", "restored a.csv: 1,700 bytes\n")
    assert (names(listed), names(gone)) == (["a.csv"], [])
    assert fetched.content == DATA
    assert "expires at" in presigned.err
    assert (s3api.folder / "copy.csv").read_bytes() == DATA
    assert {run.status for run in (uploaded, downloaded, presigned, deleted, restored)} == {0}
    assert uploaded.err == downloaded.err == ""


def test_the_life_of_a_presigned_url(s3api: Command) -> None:
    """--expires is a number with a unit, up to the limit of S3. The service refuses what is outside."""
    s3api.file("a.csv", DATA)
    s3api("upload", "a.csv")
    for given, seconds in {"90": 90, "90s": 90, "10m": 600, "2h": 7200, "7d": 604_800}.items():
        url = s3api("presign", "--quiet", "--expires", given, "a.csv").out.strip()
        assert f"X-Amz-Expires={seconds}&" in url
        assert requests.get(url, timeout=10).content == DATA
    long, wrong = s3api("presign", "--expires", "8d", "a.csv"), s3api("presign", "--expires", "1w", "a.csv")

    assert (long.status, wrong.status) == (1, 2)
    assert long.err.startswith("s3api: a.csv: --expires must be from 60s to 7d (request ")
    assert "'1w' is not a duration" in wrong.err


def test_an_upload_link(s3api: Command) -> None:
    """The URL takes files without a token: into a folder, or as one name, within the size."""
    folder = s3api("upload-link", "inbox/", "--expires", "2h", "--max-size", "17B")
    name = s3api("upload-link", "named.csv", "--json", "--overwrite").objects()[0]
    url = folder.out.strip()
    sent = [
        requests.put(f"{url}{file}", data=b"x" * size, timeout=60) for file, size in (("a", 17), ("b", 18))
    ]
    twice = [requests.put(name["url"], data=b"x", timeout=60).status_code for _ in range(2)]

    assert url.startswith(f"{s3api.environment['S3API_URL']}/upload_links/")
    assert "the upload link for 'inbox/' expires at" in folder.err
    assert folder.err.endswith("; it uploads into this folder\n")
    assert [answer.status_code for answer in sent] == [200, 413]
    assert twice == [200, 200]
    assert {"ok", "name", "url", "path", "max_bytes", "overwrite", "expires_at"} == set(name)
    assert s3api("list").out.split() == ["inbox/a", "named.csv"]


@pytest.mark.parametrize(
    ("given", "bytes_"), [("5000", 5000), ("1k", 1000), ("2kB", 2000), ("100M", 10**8), ("1g", 10**9)]
)
def test_a_size_of_an_upload_link(s3api: Command, given: str, bytes_: int) -> None:
    """1 MB is 1,000,000 bytes, as everywhere in the command."""
    link = s3api("upload-link", "a", "--max-size", given, "--json").objects()[0]

    assert link["max_bytes"] == bytes_


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("upload-link inbox/ --max-size 1.5M", 2, "'1.5M' is not a size"),
        ("upload-link inbox/ --max-size 0", 2, "'0' is not a size"),
        ("upload-link inbox/ --max-size 9T", 1, "s3api: --max-size must be at most"),
        ("upload-link inbox/ --expires 1w", 2, "'1w' is not a duration"),
        ("upload-link inbox/ --expires 1s", 1, "s3api: --expires must be from 60s to 7d"),
        ("upload-link inbox/../", 1, "dot segment"),
    ],
)
def test_an_upload_link_that_is_refused(s3api: Command, line: str, status: int, message: str) -> None:
    """A limit that is not valid, or above that of the service, is refused and not changed."""
    ran = s3api(*line.split())

    assert (ran.status, ran.out) == (status, "")
    assert message in ran.err


def test_the_course_client(s3api: Command) -> None:
    """The course's client knows only --ip and --filename."""
    s3api.file("a.csv", DATA)
    address = urlsplit(s3api.environment["S3API_URL"]).netloc
    given = ("--ip", address, "--filename", "a.csv")
    pinged = s3api("ping", "--ip", address, S3API_URL="")
    uploaded = s3api("upload", *given, S3API_URL="")
    listed = s3api("list", "--ip", address, S3API_URL="")
    (s3api.folder / "a.csv").unlink()
    downloaded = s3api("download", *given, S3API_URL="")

    assert pinged.out == "Successfully connected to day02 upload/download API\n"
    assert (uploaded.status, downloaded.status, names(listed)) == (0, 0, ["a.csv"])
    assert (s3api.folder / "a.csv").read_bytes() == DATA


@pytest.mark.parametrize(
    ("arguments", "tried"),
    [
        (["--ip", "127.0.0.2"], "127.0.0.2:5000"),
        (["--ip", "127.0.0.2:1"], "127.0.0.2:1"),
        (["--ip", "::1"], "[::1]:5000"),
        (["--ip", "[::1]:1"], "[::1]:1"),
        (["--url", "http://127.0.0.2:1/"], "127.0.0.2:1"),
        ([], "127.0.0.1:5000"),
    ],
)
def test_the_address(tmp_path: Path, arguments: list[str], tried: str) -> None:
    """The port is 5000 where none is given, and IPv6 addresses are understood."""
    closed = f"http://127.0.0.1:{free_port()}"  # as a proxy: so that nothing at these addresses is disturbed
    s3api = Command("", tmp_path, http_proxy=closed, no_proxy="")
    ran = s3api("ping", *arguments)

    assert ran.status == 5
    assert f"{tried} cannot be reached" in ran.err


def test_an_archive(s3api: Command) -> None:
    """A folder or several files become one ZIP, which replaces a file only with --force."""
    for name in ("a.csv", "sub/é.csv"):
        s3api.file("f/" + name, name.encode())
    s3api("upload", "f/a.csv", "--name", "photos/a.csv")
    s3api("upload", "f/sub/é.csv", "--name", "photos/sub/é.csv")
    made = s3api("archive", "photos/")
    again = s3api("archive", "photos/")
    forced = s3api("archive", "photos/", "--force", "--json")
    piped = s3api("archive", "photos/a.csv", "photos/sub/é.csv", "--output", "-")
    missing = s3api("archive", "none/", "-o", "none.zip")
    mixed = s3api("archive", "photos/", "a.csv")
    expected = {"a.csv": b"a.csv", "sub/é.csv": "sub/é.csv".encode()}

    def entries(data: bytes) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    data = (s3api.folder / "photos.zip").read_bytes()
    assert made.out == f"archived photos.zip: {len(data):,} bytes\n"
    assert entries(data) == entries(piped.raw) == expected
    assert (again.status, again.err.strip()) == (7, "s3api: photos.zip exists already; --force replaces it")
    assert forced.objects()[0]["outcome"] == "archived"
    assert (missing.status, mixed.status) == (3, 2)
    assert {path.name for path in s3api.folder.iterdir() if path.is_file()} == {"photos.zip"}


def test_an_incomplete_archive(s3api: Command, ministack_s3: S3) -> None:
    """A file that the service cannot read is named, and no ZIP is left."""
    s3api.file("a", b"x")
    s3api("upload", "a", "--name", "odd/a")
    ministack_s3.client().put_object(Bucket=BUCKET, Key="odd/b\\c", Body=b"x")
    ran = s3api("archive", "odd/")

    assert ran.status == 1
    assert "could not read all of the files" in ran.err
    assert '"odd/b\\\\c"' in ran.err
    assert not list(s3api.folder.glob("*.zip"))
    assert not list(s3api.folder.glob(".*.part"))


def test_whoami(s3api: Command) -> None:
    """Without a token on a service that allows it, everything is allowed."""
    ran = s3api("whoami")

    assert (ran.status, ran.out, ran.err) == (0, "anonymous: delete, list, read, write; all files\n", "")
    assert s3api("whoami", "--quiet").out == ran.out
    assert s3api("whoami", "--json").objects() == [
        {"ok": True, "name": "anonymous", "verbs": ["delete", "list", "read", "write"], "prefix": ""}
    ]


def test_json_of_every_command(s3api: Command) -> None:
    """With --json each result is an object on a line, and nothing else is printed."""
    s3api.file("a.csv", DATA)
    digest = hashlib.sha256(DATA).hexdigest()
    runs = [
        s3api(*line.split(), "--json")
        for line in (
            "ping",
            "upload a.csv",
            "list",
            "presign a.csv",
            "download a.csv --to b.csv",
            "delete a.csv",
            "restore a.csv",
            "delete none.csv",
        )
    ]
    pinged, uploaded, listed, presigned, downloaded, deleted, restored, missing = (
        run.objects() for run in runs
    )

    assert [run.err for run in runs] == [""] * 8
    assert pinged[0]["ok"]
    expected = {
        "ok": True,
        "name": "a.csv",
        "size": 1700,
        "sha256": digest,
        "via": "s3",
        "verified": "sha256",
    }
    assert expected.items() <= uploaded[0].items()
    assert (downloaded[0]["outcome"], downloaded[0]["path"]) == ("downloaded", "b.csv")
    assert expected.items() <= downloaded[0].items()
    assert set(listed[0]) == {"name", "size", "last_modified", "etag"}
    assert set(presigned[0]) == {"ok", "name", "url", "expires_at"}
    assert (deleted[0]["outcome"], restored[0]["outcome"]) == ("deleted", "restored")
    assert (missing[0]["ok"], missing[0]["code"], missing[0]["name"]) == (False, "file_not_found", "none.csv")


def test_json_goes_beside_a_file_on_standard_output(s3api: Command) -> None:
    """A download to standard output is the file alone; its result goes to standard error."""
    s3api("upload", "-", "--name", "a.csv", stdin=DATA)
    ran = s3api("download", "a.csv", "--to", "-", "--json")

    assert ran.raw == DATA
    assert json.loads(ran.err)["outcome"] == "downloaded"


def test_quiet(s3api: Command) -> None:
    """--quiet prints only failures and requested data."""
    s3api.file("a.csv", DATA)
    runs = [
        s3api(*line.split(), "-q")
        for line in ("upload a.csv", "download a.csv --to b", "presign a.csv", "ping")
    ]

    assert [run.err for run in runs] == [""] * 4
    assert [bool(run.out) for run in runs] == [False, False, True, False]


# --- what is uploaded


@pytest.fixture
def tree(s3api: Command) -> Command:
    for name in (
        "photos/b.jpg",
        "photos/2024/a.jpg",
        "photos/2024/.hidden",
        "logs/x/1.gz",
        "logs/2.gz",
        "logs/3.txt",
    ):
        s3api.file(name, name.encode())
    return s3api


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        (["photos"], ["photos/2024/.hidden", "photos/2024/a.jpg", "photos/b.jpg"]),
        (["photos/"], ["photos/2024/.hidden", "photos/2024/a.jpg", "photos/b.jpg"]),
        (["photos/2024/"], ["2024/.hidden", "2024/a.jpg"]),
        (["photos", "--prefix", "p/"], ["p/photos/2024/.hidden", "p/photos/2024/a.jpg", "p/photos/b.jpg"]),
        (["logs/*.gz"], ["2.gz"]),
        (["logs/**/*.gz"], ["2.gz", "x/1.gz"]),
        (["logs/x/1.gz", "logs/3.txt", "logs/3.txt"], ["1.gz", "3.txt"]),
        (["ph*/2024"], ["photos/2024/.hidden", "photos/2024/a.jpg"]),
        (["logs/2.gz", "--name", "ü b/+.gz"], ["ü b/+.gz"]),
        (["--filename", "logs/2.gz", "--prefix", "p-"], ["p-2.gz"]),
    ],
    ids=" ".join,
)
def test_names_of_what_is_uploaded(tree: Command, arguments: list[str], stored: list[str]) -> None:
    """A file has its own name, a folder and a glob keep the paths below them."""
    ran = tree("upload", *arguments)

    assert ran.status == 0, ran.err
    assert names(tree("list")) == stored


def test_the_folder_one_is_in(tree: Command) -> None:
    """Of `.` the names are the paths below it."""
    shutil.copytree(tree.folder / "photos", tree.folder / "inner" / "photos")
    inner = Command(tree.environment["S3API_URL"], tree.folder / "inner")
    ran = inner("upload", ".")

    assert ran.status == 0, ran.err
    assert names(tree("list", "photos/2024/")) == ["photos/2024/.hidden", "photos/2024/a.jpg"]


def test_links_and_what_is_no_file(tree: Command) -> None:
    """A named link is followed; links and pipes in a folder are skipped, reported, and an error."""
    tree.file("secret", b"not of this folder")
    (tree.folder / "photos/link").symlink_to(tree.folder / "secret")
    (tree.folder / "photos/folder").symlink_to(tree.folder / "logs")
    os.mkfifo(tree.folder / "photos/pipe")
    whole = tree("upload", "photos", "photos/*")
    named = tree("upload", "photos/link")
    pipe = tree("upload", "photos/pipe")

    assert (whole.status, named.status, pipe.status) == (1, 0, 1)
    assert "skipped photos/link: a symbolic link" in whole.err
    assert "skipped photos/folder: a symbolic link" in whole.err
    assert "skipped photos/pipe: not a regular file" in whole.err
    assert "skipped photos/pipe: not a regular file; pipe it to" in pipe.err
    assert "link" in names(tree("list"))
    assert not [name for name in names(tree("list", "photos/")) if "link" in name or "folder" in name]


def test_two_files_for_one_name(tree: Command) -> None:
    """Of two different files that would have the same name one is stored, and the other is a failure."""
    tree.file("other/2.gz", b"other")
    ran = tree("upload", "logs/2.gz", "other/2.gz")

    assert ran.status == 1
    assert "would be stored as '2.gz'" in ran.err
    assert tree("download", "2.gz", "--to", "-").raw == b"logs/2.gz"


def test_some_fail(tree: Command) -> None:
    """One failing file does not stop the others; each kind of failure has its own status."""
    missing = tree("upload", "logs/2.gz", "nothing*", "nowhere")
    mixed = tree("upload", "logs/3.txt", "nowhere", "/dev/null")

    assert (missing.status, mixed.status) == (3, 1)
    assert names(tree("list")) == ["2.gz", "3.txt"]


def test_a_name_that_is_not_utf8(s3api: Command) -> None:
    """A file whose name is not UTF-8 is refused with a message, and accepted under another name."""
    path = s3api.folder.joinpath(os.fsdecode(b"bad\xff"))
    path.write_bytes(b"x")
    refused = s3api("upload", str(path))
    renamed = s3api("upload", str(path), "--name", "good")

    assert (refused.status, renamed.status) == (1, 0)
    assert "UTF-8" in refused.err


def test_standard_input_and_output(s3api: Command) -> None:
    """What is piped in, of unknown length, comes out the same."""
    data = os.urandom(3_000_000)
    uploaded = s3api("upload", "-", "--name", "stream", stdin=data)
    downloaded = s3api("download", "stream", "--to", "-")

    assert (uploaded.status, downloaded.status) == (0, 0)
    assert "through the service" in uploaded.out
    assert downloaded.raw == data


def test_if_absent(s3api: Command) -> None:
    """--if-absent stores only what is not there, from a file or standard input; its status is its own."""
    s3api.file("a.csv", DATA)
    runs = [s3api("upload", "a.csv", "--if-absent") for _ in range(2)]
    piped = s3api("upload", "-", "--name", "a.csv", "--if-absent", stdin=b"other")

    assert [runs[0].status, runs[1].status, piped.status] == [0, 7, 7]
    assert s3api("download", "a.csv", "--to", "-").raw == DATA


# --- what is downloaded


def test_a_prefix_into_a_folder(tree: Command) -> None:
    """What follows the prefix's last slash is the path below the folder; again nothing is transferred."""
    tree("upload", "photos")
    slash = tree("download", "photos/", "--to", "one")
    recursive = tree("download", "--recursive", "pho", "--to", "two")
    again = tree("download", "photos/", "--to", "one")

    def found(folder: str) -> list[str]:
        root = tree.folder / folder
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    assert (slash.status, recursive.status, again.status) == (0, 0, 0)
    assert found("one") == ["2024/.hidden", "2024/a.jpg", "b.jpg"]
    assert found("two") == ["photos/2024/.hidden", "photos/2024/a.jpg", "photos/b.jpg"]
    assert {line.partition(" ")[0] for line in again.out.splitlines()} == {"unchanged"}


def test_other_contents_are_not_replaced(s3api: Command) -> None:
    """A file with other contents is kept, except with --force."""
    s3api("upload", "-", "--name", "a.csv", stdin=DATA)
    s3api.file("a.csv", b"mine")
    refused = s3api("download", "a.csv")
    kept = (s3api.folder / "a.csv").read_bytes()
    forced = s3api("download", "a.csv", "--force")

    assert (refused.status, kept, forced.status) == (7, b"mine", 0)
    assert (s3api.folder / "a.csv").read_bytes() == DATA


def test_delete_by_prefix_survives_names_that_the_service_does_not_take(
    s3api: Command, ministack_s3: S3
) -> None:
    """A key with a line break, from another S3 client, is reported as skipped, and all others are deleted."""
    client = ministack_s3.client()
    for name in ("odd/a", "odd/line\nbreak", "odd/z"):
        client.put_object(Bucket=BUCKET, Key=name, Body=b"x")
    ran = s3api("delete", "--prefix", "odd/", "--yes")

    assert ran.status == 1
    assert ran.out == "deleted odd/a\ndeleted odd/z\n"
    assert "another client of S3" in ran.err
    assert ministack_s3.keys(BUCKET) == {"odd/line\nbreak"}
    client.delete_object(Bucket=BUCKET, Key="odd/line\nbreak")


def test_hostile_names(s3api: Command, ministack_s3: S3) -> None:
    """Hostile names are not written outside the folder, and the other files are downloaded."""
    client = ministack_s3.client()
    outside = s3api.folder / "outside"
    outside.mkdir()
    into = s3api.folder / "into"
    into.mkdir()
    (into / "link").symlink_to(outside)
    (into / "file-link").symlink_to(outside / "file")
    hostile = ("x/link/a", "x/file-link", "x//etc/b", "x/a//b", "x/dir/", "x/c\x07d", "x/" + "n" * 300)
    for name in ("x/link/", "x/link/dir/", "x/a//"):
        client.put_object(Bucket=BUCKET, Key=name, Body=b"")
    for name in (*hostile, "x/good", "x/"):
        client.put_object(Bucket=BUCKET, Key=name, Body=b"hostile")
    ran = s3api("download", "x/", "--to", "into", "--json")
    by_name = {one["name"]: one for one in ran.objects()}

    assert ran.status == 1
    assert {name for name, one in by_name.items() if one["ok"]} == {"x/good"}
    unsafe = ("x/link/a", "x//etc/b", "x/a//b", "x/dir/", "x/link/", "x/link/dir/", "x/a//")
    assert {by_name[name]["code"] for name in unsafe} == {"unsafe_name"}
    assert by_name["x/file-link"]["code"] == "target_exists"
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in into.iterdir()) == ["file-link", "good", "link"]


@pytest.mark.parametrize("name", ["../up", "..", "a/../../b", "./a"])
def test_dot_segments_never_leave_the_route(s3api: Command, name: str) -> None:
    """A name with dot segments is refused, and is not taken for another URL of the service."""
    ran = s3api("download", name, "--to", "x", "--json")

    assert ran.status == 1
    assert ran.objects()[0]["code"] in ("invalid_file_name", "unsafe_name")


def test_a_pipe_as_target(s3api: Command) -> None:
    """A pipe that is there is written to, not replaced."""
    s3api("upload", "-", "--name", "a.csv", stdin=DATA)
    pipe = s3api.folder / "pipe"
    os.mkfifo(pipe)
    with s3api.running("download", "a.csv", "--to", "pipe"):
        data = pipe.read_bytes()

    assert data == DATA
    assert pipe.is_fifo()


def test_targets_that_cannot_be(s3api: Command) -> None:
    """Two files never get the same path, neither by --to nor because their names end alike."""
    for name in ("x/a", "y/a"):
        s3api("upload", "-", "--name", name, stdin=name.encode())
    s3api.file("file", b"")
    one_file = s3api("download", "x/a", "y/a", "--to", "file")
    alike = s3api("download", "x/a", "y/a", "--to", "folder/")

    assert (one_file.status, alike.status) == (2, 1)
    assert (s3api.folder / "folder/a").read_bytes() == b"x/a"


# --- listing and deleting


def test_a_long_listing(s3api: Command, ministack_s3: S3) -> None:
    """Names beyond one page are listed and deleted too; --long puts size and date first."""
    client = ministack_s3.client()
    for number in range(1005):
        client.put_object(Bucket=BUCKET, Key=f"many/{number:04}", Body=b"x" * 1234)
    listed = names(s3api("list", "many/"))
    line = names(s3api("list", "--long", "--prefix", "many/0000"))[0]
    deleted = s3api("delete", "--prefix", "many/", "--yes", "--quiet")

    assert listed == [f"many/{number:04}" for number in range(1005)]
    size, day, clock, name = line.split()
    assert (size, name, len(day), len(clock)) == ("1,234", "many/0000", 10, 8)
    assert deleted.status == 0, deleted.err
    assert names(s3api("list")) == []


def test_deleting_by_prefix_asks(s3api: Command) -> None:
    """Without a terminal to ask at, nothing is deleted by prefix unless --yes is given."""
    s3api("upload", "-", "--name", "tmp/a", stdin=b"x")
    refused = s3api("delete", "--prefix", "tmp/")
    left = names(s3api("list"))
    nothing = s3api("delete", "--prefix", "none/", "--yes")

    assert (refused.status, left, nothing.status) == (2, ["tmp/a"], 3)
    assert "Not a terminal: add --yes" in refused.err


def test_deleting_some(s3api: Command) -> None:
    """A missing file is reported, and the others are deleted."""
    for name in ("a", "b"):
        s3api("upload", "-", "--name", name, stdin=b"x")
    ran = s3api("delete", "a", "none", "b")

    assert ran.status == 3
    assert ran.out == "deleted a\ndeleted b\n"
    assert "'none' was not found" in ran.err
    assert names(s3api("list")) == []


# --- exit statuses, tokens


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("download none", 3),
        ("presign none", 3),
        ("restore none", 3),
        ("upload none", 3),
        ("delete none", 3),
        ("upload", 2),
        ("download", 2),
        ("frobnicate", 2),
        ("list --url ftp://host", 2),
        ("list --url http://127.0.0.1:1 --ip 127.0.0.1", 2),
        ("list --token-file none", 2),
        ("list --versions none", 3),
        ("restore --prefix=", 2),
        ("restore --all --prefix a/", 2),
        ("list --jobs 0", 2),
        ("upload - ", 2),
        ("upload a b --name c", 2),
        ("ping --url http://127.0.0.1:1 --retries 0", 5),
        ("list --url http://no-such-host.invalid --retries 0", 5),
    ],
)
def test_exit_statuses(s3api: Command, line: str, status: int) -> None:
    """Scripts can tell what happened by the exit status; people by a message."""
    ran = s3api(*line.split())

    assert ran.status == status, ran.err
    assert ran.err
    assert ran.out == ""


def test_tokens(
    ministack_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """A token from the environment or a file is sent; what it may not do, and no token, have one status."""
    token, entry = new_token("reader", frozenset({"list", "read"}), "")
    of_team, team = new_token("team", frozenset({"list"}), "team é/")
    bucket = ministack_s3.make_bucket(bucket_name)
    entries = ", ".join(manage.entry_json(one) for one in (entry, team))
    service = make_service(ministack_s3, bucket, api_tokens=f"[{entries}]", allow_anonymous=False)
    s3api = Command(service.url, tmp_path)
    kept = s3api.file("token", f"{token}\n".encode())
    big = s3api.file("big", b"")
    os.truncate(big, 64 << 20)
    by_variable = s3api("list", S3API_TOKEN=token)
    identified = [s3api("whoami", S3API_TOKEN=one).out for one in (token, of_team)]
    unknown = s3api("whoami", S3API_TOKEN="wrong")
    by_file = s3api("list", "--token-file", kept)
    without = s3api("list")
    wrong = s3api("list", S3API_TOKEN="wrong")
    may_not = [
        s3api("upload", big, "--via", via, "--retries", "0", S3API_TOKEN=token) for via in ("s3", "service")
    ]
    broken = s3api("list", S3API_TOKEN="a\nb")

    assert (by_variable.status, by_file.status) == (0, 0)
    assert identified == ["reader: list, read; all files\n", "team: list; files that begin with 'team é/'\n"]
    assert (unknown.status, unknown.out) == (4, "")
    assert "A token is needed: set S3API_TOKEN, or give --token-file (request" in without.err
    assert (without.status, wrong.status, broken.status) == (4, 4, 2)
    assert [ran.status for ran in may_not] == [4, 4], [ran.err for ran in may_not]
    assert "may not write" in may_not[0].err
    assert "request " in may_not[0].err


def test_a_misspelt_variable_is_named(s3api: Command) -> None:
    """A token in S3API_TOKENN would not be sent. Standard output stays what was asked for."""
    s3api.file("a.csv", DATA)
    s3api("upload", "a.csv")
    listed = s3api("list", S3API_TOKENN="secret", S3API_PORT_5000_TCP="tcp://10.0.0.1:5000")

    assert (names(listed), listed.status) == (["a.csv"], 0)
    assert listed.err == (
        "s3api: S3API_TOKENN is not a variable of this program; did you mean S3API_TOKEN?\n"
    )


def test_no_option_takes_a_token() -> None:
    """The token cannot be given where `ps` shows it."""
    page = docs.page()

    assert "S3API_TOKEN" in page
    assert "--token " not in page


def test_a_server_that_is_not_the_api(tmp_path: Path) -> None:
    """A server that is not the service is reported; a redirect is never followed with the token."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(301 if self.path == "/" else 200)
            self.send_header("Location", "https://elsewhere.example/")
            self.end_headers()
            self.wfile.write(b"<html>")

    with serving(Handler) as port:
        s3api = Command(f"http://127.0.0.1:{port}", tmp_path)
        ping = s3api("ping", S3API_TOKEN="secret")
        listed = s3api("list")

    assert (ping.status, listed.status) == (1, 5)
    assert "redirects to https://elsewhere.example/" in ping.err
    assert "is not the file API" in listed.err


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    """A server that asks for a retry after two seconds gets no request before that.

    By itself the client would pause for half a second at most (`FIRST_PAUSE`).
    """
    asked: list[float] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(time.monotonic())
            busy = len(asked) == 1
            self.send_response(503 if busy else 200)
            self.send_header("Retry-After", "2")
            self.end_headers()
            self.wfile.write(
                b'{"message": "busy", "code": "too_busy"}' if busy else b'{"message": "ok", "content": []}'
            )

    with serving(Handler) as port:
        s3api = Command(f"http://127.0.0.1:{port}", tmp_path)
        with running_on_terminal([*PROGRAM, "list"], s3api.folder, s3api.environment) as (process, screen, _):
            shown = read_until(process, screen).decode()
            status = process.wait(60)

    assert status == 0, shown
    assert asked[1] - asked[0] >= 2
    assert "busy; again in 2 s" in shown  # no longer either: the time between the requests has no upper limit


def test_a_reader_that_has_enough(s3api: Command, ministack_s3: S3) -> None:
    """`s3api list | head -1` ends quietly."""
    ministack_s3.client().put_object(Bucket=BUCKET, Key="a", Body=b"")
    reader, writer = os.pipe()
    os.close(reader)
    with s3api.running("list", stdout=writer) as process:
        os.close(writer)
        err = process.communicate(timeout=30)[1]

    assert (process.returncode, err) == (141, b"")


# --- help, completion, start


def test_the_page_is_what_help_says() -> None:
    """docs/cli.md is made of the help; `make docs` makes it so."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == docs.page()


def test_the_list_of_commands_says_what_their_help_says() -> None:
    """What the list says of the operator's commands, without loading them, is what they say of themselves."""
    assert {name: command.get_short_help_str(200) for name, command in manage.COMMANDS.items()} == OPERATOR


def test_the_client_starts_without_the_service() -> None:
    """Only operators' commands such as `token` load Flask, boto3 or pydantic."""
    script = (
        "import sys; from s3api.__main__ import main\n"
        "try: main(sys.argv[1:], prog_name='s3api')\n"
        "except SystemExit: pass\n"
        "print(sorted({'flask', 'boto3', 'pydantic', 'rich'} & set(sys.modules)))"
    )

    def loaded(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={"PYTHONPATH": str(ROOT / "services"), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    assert loaded("--help") == loaded("upload", "--help") == loaded("ping", "--ip", "127.0.0.1:1") == "[]"
    assert "flask" in loaded("token", "--help")


def test_completion_in_bash(tmp_path: Path) -> None:
    """In a real bash the commands, the operator's too, and their options are completed."""
    bash = shutil.which("bash")
    need(bash, "bash is not installed")
    assert bash
    program = tmp_path / "s3api"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m s3api "$@"\n')
    program.chmod(0o755)
    script = """
        source <(s3api completion bash)
        complete -p s3api
        complete_last() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _s3api_completion s3api; }
        complete_last s3api do; echo "${COMPREPLY[@]}"
        complete_last s3api upload --if; echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [bash, "-euc", script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "services")},
        capture_output=True,
        text=True,
        check=True,
    )
    registered, commands, options = done.stdout.splitlines()

    assert "_s3api_completion" in registered
    assert commands.split() == ["download", "doctor"]
    assert options == "--if-absent"


def test_the_console_script() -> None:
    """`make` leaves the command in the environment, and it runs from anywhere."""
    program = ROOT / ".venv" / "bin" / "s3api"
    need(program.exists(), f"{program} is not there: `make .venv/.run` writes it")
    done = subprocess.run([program, "--version"], cwd="/", capture_output=True, text=True, check=True)

    assert done.stdout.startswith("s3api, version ")


def test_a_port_that_hangs(tmp_path: Path) -> None:
    """A server that takes the connection and says nothing is given up after --timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        s3api = Command(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path)
        ran = s3api("ping", "--timeout", "0.3")

    assert ran.status == 5
    assert "stopped answering" in ran.err


def test_search_copy_and_move(s3api: Command) -> None:
    """Names are searched; a file and a folder are copied and moved, and nothing is replaced unasked."""
    for name in ("Games.csv", "notes.txt"):
        s3api.file(name, DATA)
        assert s3api("upload", name, "--prefix", "a/").status == 0
    assert names(s3api("list", "--contains", "game")) == ["a/Games.csv"]
    assert s3api("copy", "a/Games.csv", "b/").out == "copied a/Games.csv to b/Games.csv: 1,700 bytes\n"
    refused = s3api("copy", "a/notes.txt", "b/Games.csv")
    assert (refused.status, "--overwrite replaces it (request" in refused.err) == (7, True)
    assert s3api("copy", "a/notes.txt", "c/").status == 0
    assert s3api("copy", "a/Games.csv", "d/notes.txt").status == 0
    refused = s3api("copy", "c/", "d/")
    assert (refused.status, "; nothing was copied. --overwrite replaces it\n" in refused.err) == (7, True)
    for line in ("copy a x", "move a x", "download a", "download a --to -", "archive a"):
        ran = s3api(*line.split())
        assert (ran.status, "; if it is a folder, write 'a/'" in ran.err) == (3, True), ran.err
    s3api("delete", "c/notes.txt", "d/notes.txt")
    moved = s3api("move", "a/", "b/")
    assert (moved.status, names(s3api("list"))) == (0, ["b/Games.csv", "b/notes.txt"])
    (result,) = s3api("move", "b/notes.txt", "c", "--json").objects()

    assert (result["ok"], result["source"], result["name"]) == (True, "b/notes.txt", "c")
    assert s3api("move", "none", "d").status == 3
    assert s3api("move", "none/", "d/").status == 3
    assert s3api("move", "b/", "b/c/").status == 1


def test_deleted_files_and_versions(s3api: Command) -> None:
    """Deleted files and versions are listed and restored; a file is replaced only when asked for."""
    for text in (b"old", b"newer"):
        s3api.file("v.txt", text)
        s3api("upload", "v.txt", "--prefix", "versions/")
    versions = s3api("list", "--versions", "versions/v.txt", "--json").objects()
    older = next(one["version"] for one in versions if one["size"] == 3)
    exists = s3api("restore", "versions/v.txt", "--version", older)
    assert (exists.status, "; --overwrite replaces it by the version (" in exists.err) == (1, True)
    lines = s3api("list", "--versions", "versions/v.txt").out.splitlines()
    assert [line.endswith("  current") for line in lines] == [one["latest"] for one in versions]
    assert s3api("restore", "versions/v.txt", "--version", older, "--overwrite").status == 0
    assert s3api("download", "versions/v.txt", "--to", "-").out == "old"
    s3api("delete", "versions/v.txt")
    deleted = s3api("list", "--deleted", "versions/")
    assert deleted.out == "versions/v.txt\n"
    assert "              3  20" in s3api("list", "--deleted", "--long", "versions/").out
    restored = s3api("restore", "--prefix", "versions/")

    assert (restored.status, restored.out) == (0, "restored versions/v.txt\n")
    assert s3api("list", "--deleted", "versions/").out == ""
    assert s3api("restore", "--prefix", "versions/").status == 3


def test_every_deleted_file_is_restored(
    ministack_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """`--all` restores what every folder had. Other tests delete thousands, so the bucket is its own."""
    bucket = ministack_s3.make_bucket(f"{bucket_name}-all", versioned=True)
    s3api = Command(make_service(ministack_s3, bucket).url, tmp_path)
    for name in ("a/1.txt", "2.txt"):
        s3api.file(name, b"x")
        s3api("upload", name, "--name", name)
        s3api("delete", name)
    restored = s3api("restore", "--all")

    assert (restored.status, sorted(restored.out.splitlines())) == (0, ["restored 2.txt", "restored a/1.txt"])
    assert sorted(ministack_s3.keys(bucket)) == ["2.txt", "a/1.txt"]
