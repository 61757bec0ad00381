"""Names of a bucket that one folder cannot hold together: each is reported before anything is transferred.

S3 has no folders, and its names are case-sensitive: AWS, "Naming Amazon S3 objects". POSIX, "Base
Definitions", section 4.13 (pathname resolution): a file is no directory.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from cli.command import Command
from s3api.client import targets
from s3api.client.downloads import Facts
from s3api.client.sources import Source
from support.servers import S3

BUCKET = "day02-targets"


def store(s3: S3, *names: str) -> None:
    for name in names:
        data = b"" if name.endswith("/") else name.encode()
        s3.client().put_object(Bucket=BUCKET, Key=name, Body=data)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize("jobs", ["1", "8"])
def test_a_file_and_a_folder_of_one_name(
    s3api: Command, ministack_s3: S3, force: tuple[str, ...], jobs: str
) -> None:
    """The folder's files are downloaded, and the file is named, whatever the timing and --force."""
    store(ministack_s3, "pc/a", "pc/a-z", "pc/a/b", "pc/a/b/c", "pc/d", "pc/d/")
    ran = s3api("download", "pc/", "--to", "to", "--json", "--jobs", jobs, *force)
    results = ran.objects()
    failed = [one for one in results if not one["ok"]]

    assert ran.status == 1
    assert [(one["name"], one["code"]) for one in failed] == [
        (name, "name_taken") for name in ("pc/a", "pc/a/b", "pc/d")
    ]
    assert results[:3] == failed  # before the first transfer
    assert "'pc/a/b' needs a folder" in failed[0]["message"]
    assert contents(s3api.folder / "to") == {"a-z": b"pc/a-z", "a/b/c": b"pc/a/b/c"}
    assert (s3api.folder / "to" / "d").is_dir()


def test_a_file_that_was_refused_can_be_downloaded_alone(s3api: Command, ministack_s3: S3) -> None:
    """A file whose name is also a folder's can be downloaded by its own name."""
    store(ministack_s3, "pc/a", "pc/a/b")
    ran = s3api("download", "pc/a", "--to", "copy")

    assert ran.status == 0, ran.err
    assert (s3api.folder / "copy").read_bytes() == b"pc/a"


def test_names_of_several_arguments(s3api: Command, ministack_s3: S3) -> None:
    """The names of all arguments are compared, and a file that two of them select is downloaded once."""
    store(ministack_s3, "x/a", "y/a", "z/a/b")
    twice = s3api("download", "x/", "x/a", "--to", "twice", "--json")
    mixed = s3api("download", "x/a", "y/a", "z/", "--to", "mixed", "--json")

    assert (twice.status, len(twice.objects())) == (0, 1)
    assert mixed.status == 1
    assert [one["name"] for one in mixed.objects() if not one["ok"]] == ["x/a", "y/a"]
    assert contents(s3api.folder / "mixed") == {"a/b": b"z/a/b"}


def test_a_file_that_is_there_where_a_folder_is_needed(s3api: Command, ministack_s3: S3) -> None:
    """The file stays, and the message names it and not the file that needs the folder."""
    store(ministack_s3, "x/a/b/c")
    (s3api.folder / "to").mkdir()
    (s3api.folder / "to" / "a").write_bytes(b"mine")
    ran = s3api("download", "x/", "--to", "to", "--force")

    assert ran.status == 7
    assert "to/a is there and is not a folder" in ran.err
    assert contents(s3api.folder / "to") == {"a": b"mine"}


def test_the_name_of_an_unfinished_download_is_refused(s3api: Command, ministack_s3: S3) -> None:
    """The end of the download of `a` removes files such as a.0123456789abcdef.part: it must not be one."""
    name = "a.0123456789abcdef.part"
    store(ministack_s3, "x/a", f"x/{name}")
    ran = s3api("download", "x/", "--to", "to", "--jobs", "1")
    alone = s3api("download", f"x/{name}", "--to", "copy")

    assert (ran.status, alone.status) == (1, 0)
    assert f"'{name}' is the name of an unfinished download" in ran.err
    assert contents(s3api.folder / "to") == {"a": b"x/a"}


def test_long_names_that_begin_alike(s3api: Command, ministack_s3: S3) -> None:
    """A .part file has a cut name. The end of one download must not remove the .part file of another one."""
    one, other = ("n" * 240 + end for end in "12")
    store(ministack_s3, one, other)
    etag = ministack_s3.client().head_object(Bucket=BUCKET, Key=other)["ETag"]
    unfinished = Facts(other, 0, etag, None, None, "s3").part_beside(s3api.folder / other)
    unfinished.write_bytes(other.encode()[:5])
    ran = s3api("download", one)
    resumed = s3api("download", other, "--json")

    assert (ran.status, resumed.status) == (0, 0)
    assert resumed.objects()[0]["resumed"] == 5
    assert (s3api.folder / other).read_bytes() == other.encode()


# --- file systems that take different names for the same one


def _macos(one: str, other: str) -> bool:
    """As APFS and HFS+ compare by default: without case, and without normalization."""
    return _normal(one) == _normal(other)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _vfat(one: str, other: str) -> bool:
    """As Linux's vfat does: without case, and without dots at the end."""
    return one.rstrip(".").lower() == other.rstrip(".").lower()


def _apart(
    are_same: targets.AreSame, *names: str, markers: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    folder = Path("to")
    kept, refused = targets.apart(
        [Source(folder / name, name) for name in names],
        [Source(folder / name, name) for name in markers],
        folder,
        are_same,
    )
    return [one.name for one in kept], [no.source.name for no in refused]


@pytest.mark.parametrize(
    ("are_same", "names", "kept"),
    [
        (_macos, ["A", "a", "b"], ["A", "b"]),
        (_macos, ["caf\u00e9", "cafe\u0301", "cafe"], ["caf\u00e9", "cafe"]),
        (_macos, ["\u00c9/x", "e\u0301/X", "e\u0301/y"], ["\u00c9/x", "e\u0301/y"]),
        (_macos, ["Photos", "photos/a"], ["photos/a"]),
        (_macos, ["stra\u00dfe", "STRASSE"], ["stra\u00dfe"]),
        (_vfat, ["a.", "a", "A..", "a.b"], ["a.", "a.b"]),
        (_macos, ["a\uff0fb", "a/b"], ["a\uff0fb", "a/b"]),  # NFKD makes a slash of U+FF0F
    ],
)
def test_names_that_are_the_same_on_some_file_systems(
    are_same: targets.AreSame, names: list[str], kept: list[str]
) -> None:
    """Of names that are the same there, the first is kept; a folder is kept before a file."""
    refused = [name for name in names if name not in kept]

    assert _apart(are_same, *names) == (kept, refused)


def test_a_folder_marker_in_another_case() -> None:
    """The marker's folder is made, so that a file of its name cannot be."""
    assert _apart(_macos, "DOCS", "a", markers=("docs",)) == (["a"], ["DOCS"])


def test_the_file_system_itself_is_asked(tmp_path: Path) -> None:
    """What this folder takes for the same name is what the function says; it leaves nothing behind."""
    are_same = targets.file_system_of(tmp_path / "not" / "there")
    answers = {pair: are_same(*pair) for pair in [("a", "A"), ("\u00e9", "e\u0301"), ("a", "b"), ("a", "a")]}
    (tmp_path / "a").touch()
    (tmp_path / "\u00e9").touch()
    here = {pair: os.path.lexists(tmp_path / pair[1]) for pair in answers}
    found = sorted(path.name for path in tmp_path.iterdir())

    assert answers == here
    assert answers[("a", "a")]
    assert found == ["a", "\u00e9"]
