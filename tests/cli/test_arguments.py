"""Unusual arguments and files: each is handled or refused with one line and the right exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.command import PROGRAM, Command
from cli.hostile_server import hostile_server
from support.servers import S3, need
from support.tls import running_tls

BUCKET = "day02-arguments"
NOWHERE = ("--url", "http://127.0.0.1:1", "--retries", "0")
MiB = 1024 * 1024


def body(s3: S3, name: str) -> bytes:
    data: bytes = s3.client().get_object(Bucket=BUCKET, Key=name)["Body"].read()
    return data


# --- folder markers


def test_folder_markers_become_folders(s3api: Command, ministack_s3: S3) -> None:
    """Empty objects whose names end in a slash, as the S3 console makes them, become folders."""
    for name in ("photos/", "photos/2024/", "photos/2024/empty/", "photos/2024/a.jpg"):
        ministack_s3.client().put_object(Bucket=BUCKET, Key=name, Body=b"a" if name.endswith("jpg") else b"")
    ran = s3api("download", "photos/", "--to", "to", "--json")
    again = s3api("download", "photos/", "--to", "to")
    found = sorted(str(path.relative_to(s3api.folder / "to")) for path in (s3api.folder / "to").rglob("*"))

    assert (ran.status, again.status, ran.err) == (0, 0, "")
    assert found == ["2024", "2024/a.jpg", "2024/empty"]
    assert {one["outcome"] for one in ran.objects() if one["name"].endswith("/")} == {"folder"}


@pytest.mark.parametrize("name", ["x/", "x/dir/"])
def test_a_folder_marker_with_contents_is_an_error(s3api: Command, ministack_s3: S3, name: str) -> None:
    """An object with a folder's name and contents cannot become a folder: the command says so."""
    ministack_s3.client().put_object(Bucket=BUCKET, Key=name, Body=b"bytes")
    ran = s3api("download", "x/")

    assert ran.status == 1
    assert f"'{name}' has 5 bytes" in ran.err


def test_a_folder_marker_where_a_file_is(s3api: Command, ministack_s3: S3) -> None:
    """A folder of the bucket does not replace a local file of its name: the download fails."""
    ministack_s3.client().put_object(Bucket=BUCKET, Key="x/dir/", Body=b"")
    kept = s3api.file("to/dir", b"mine")
    ran = s3api("download", "x/", "--to", "to")

    assert ran.status == 7
    assert "is not a folder" in ran.err
    assert kept.read_bytes() == b"mine"


# --- paths


@pytest.fixture
def limited(s3api: Command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command without root's right to read everything."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        rights = "-dac_override,-dac_read_search"
        prefix = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, *PROGRAM, *arguments],
            cwd=s3api.folder,
            env=dict(s3api.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.mark.parametrize(
    "case",
    [
        ("n" * 300, 0o755, "File name too long"),
        ("closed/file", 0o000, "closed/file: Permission denied"),
        ("closed/*", 0o000, "skipped closed: the folder cannot be read"),
        ("**/*.none", 0o000, "skipped closed: the folder cannot be read"),
        ("closed", 0o000, "closed: Permission denied"),
        ("closed", 0o444, "closed/file: Permission denied"),
        ("dangling", 0o755, "skipped dangling: a symbolic link to nothing"),
        ("dang*", 0o755, "skipped dangling: a symbolic link to nothing"),
        ("links", 0o755, "skipped links/dangling: a symbolic link to nothing"),
        ("loop", 0o755, "skipped loop: Too many levels of symbolic links"),
        ("/dev/null", 0o755, "skipped /dev/null: not a regular file"),
        ("pipe", 0o755, "skipped pipe: not a regular file"),
    ],
    ids=lambda case: f"{case[0][:20]} {case[1]:o}",
)
def test_a_path_that_cannot_be_uploaded(
    limited: Callable[..., subprocess.CompletedProcess[str]],
    s3api: Command,
    ministack_s3: S3,
    case: tuple[str, int, str],
) -> None:
    """It is an error of one line, the status is 1, and the other arguments are uploaded."""
    argument, mode, said = case
    s3api.file("closed/file", b"x")
    s3api.file("last", b"x")
    (s3api.folder / "links").mkdir()
    for name in ("dangling", "links/dangling"):
        (s3api.folder / name).symlink_to("nothing")
    (s3api.folder / "loop").symlink_to("loop")
    os.mkfifo(s3api.folder / "pipe")
    closed = s3api.folder / "closed"
    closed.chmod(mode)
    try:
        ran = limited("upload", argument, "last")
    finally:
        closed.chmod(0o755)

    assert ran.returncode == 1, ran.stderr
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) <= 2  # with **, that nothing is found too
    assert ministack_s3.keys(BUCKET) == {"last"}


@pytest.mark.parametrize("argument", ["empty", "emp*"])
def test_a_folder_without_files(s3api: Command, ministack_s3: S3, argument: str) -> None:
    """An argument that uploads nothing is a failure."""
    (s3api.folder / "empty" / "inner").mkdir(parents=True)
    s3api.file("last", b"x")
    ran = s3api("upload", argument, "last")

    assert ran.status == 3
    assert f"{argument}: there is no file in it" in ran.err
    assert ministack_s3.keys(BUCKET) == {"last"}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["list", os.fsdecode(b"\xff"), *NOWHERE], 1, "not valid UTF-8"),
        (["download", os.fsdecode(b"\xff/"), *NOWHERE], 1, "not valid UTF-8"),
        (["ping", "--url", "http://[::1"], 2, "is not the URL of a service"),
        (["ping", "--ip", "[::1"], 2, "is not the URL of a service"),
        (["upload", "", *NOWHERE], 2, "The name of a file is empty"),
        (["delete", "", *NOWHERE], 2, "The name of a file is empty"),
        (["upload", "file", "--name", "", *NOWHERE], 2, "--name is empty"),
        (["download", "a", "--to", "n" * 300, *NOWHERE], 1, "File name too long"),
    ],
    ids=lambda value: (
        " ".join(value[:2])[:12].encode("ascii", "replace").decode() if isinstance(value, list) else None
    ),
)
def test_arguments_that_cannot_be(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    """They are refused in a line, not by a traceback; an empty path is not the current folder."""
    s3api = Command("http://127.0.0.1:1", tmp_path)
    s3api.file("file", b"x")
    ran = s3api(*arguments)

    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err


def test_a_prefix_that_fails_does_not_stop_the_next(s3api: Command, ministack_s3: S3) -> None:
    """Each argument of download and delete is handled, even after failures of others."""
    for name in ("good/a", "b"):
        ministack_s3.client().put_object(Bucket=BUCKET, Key=name, Body=b"x")
    downloaded = s3api("download", os.fsdecode(b"\xff/"), "none/", "good/", "--to", "to")
    deleted = s3api("delete", "a\nb", "b")

    assert (downloaded.status, deleted.status) == (1, 1)
    assert (s3api.folder / "to" / "a").read_bytes() == b"x"
    assert ministack_s3.keys(BUCKET) == {"good/a"}


def test_an_answer_that_lacks_fields(tmp_path: Path) -> None:
    """A server whose answers have another form is named, in a line."""
    with hostile_server(lambda _method, _path: (200, {"message": "hello"})) as url:
        s3api = Command(url, tmp_path)
        s3api.file("file", b"x")
        runs = [
            s3api(*line.split())
            for line in (
                "list",
                "upload file",
                "download file",
                "delete file",
                "restore file",
                "presign file",
                "upload-link file",
            )
        ]

    assert [run.status for run in runs] == [5] * 7
    assert all("the server is not the file API" in run.err for run in runs)


def test_no_home_folder(s3api: Command, ministack_s3: S3) -> None:
    """A user who has no home folder, as in a container with any uid, can upload."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user without an entry in /etc/passwd")
    code = "import sys; from pathlib import Path; from s3api.client import commands\n"
    code += "import pwd, os; os.getuid = lambda: 987654\nsys.argv[0] = 's3api'\n"
    code += "from s3api.__main__ import main; main()"
    s3api.file("file", b"x")
    environment = {k: v for k, v in s3api.environment.items() if k not in ("HOME", "XDG_STATE_HOME")}
    ran = subprocess.run(
        [sys.executable, "-c", code, "upload", "file"],
        cwd=s3api.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ministack_s3.keys(BUCKET) == {"file"}


# --- files of unknown size, and files that change


@pytest.mark.parametrize("path", ["/proc/self/limits", "/sys/kernel/mm/transparent_hugepage/enabled"])
def test_files_of_unknown_size(s3api: Command, ministack_s3: S3, path: str) -> None:
    """Files whose size the kernel does not know (0 in /proc, 4096 in /sys) are uploaded as they read."""
    need(Path(path).exists(), f"{path} is not there")
    contents = Path(path).read_bytes()
    ran = s3api("upload", path, "--name", "file", "--json")

    assert ran.status == 0, ran.out
    assert ran.objects()[0]["size"] == len(contents)
    assert body(ministack_s3, "file") == contents


@pytest.mark.parametrize("via", ["s3", "service"])
@pytest.mark.parametrize(("size", "change"), [(3 * MiB, 1), (3 * MiB, -1), (70 * MiB, 1)])
def test_a_file_that_grows_or_shrinks(
    s3api: Command, ministack_s3: S3, via: str, size: int, change: int
) -> None:
    """It is an error, by whichever way it goes, and nothing is stored.

    The service is behind TLS, so the command has opened the file, and sends it after the handshake. The file
    changes between the two.
    """
    path = s3api.file("growing", b"")
    os.truncate(path, size)

    def write() -> None:
        os.truncate(path, path.stat().st_size + change)

    plain = S3("service", s3api.environment["S3API_URL"], {})
    with running_tls(plain, s3api.folder, met=write) as front:
        authority = str(front.authority)
        ran = s3api("upload", path, "--via", via, S3API_URL=front.s3.url, SSL_CERT_FILE=authority)

    assert ran.status == 1, ran.out
    assert "changed while it was sent" in ran.err
    assert ministack_s3.keys(BUCKET) == set()


# --- deleting


def test_deleting_a_folder_mentions_prefix(s3api: Command) -> None:
    """A name that ends with `/` deletes nothing, and the error shows the command that deletes a folder."""
    ran = s3api("delete", "my photos/")

    assert ran.status == 3
    assert "--prefix 'my photos/' deletes the files whose names begin with it" in ran.err


def test_the_whole_bucket_is_never_deleted_by_an_empty_prefix(s3api: Command, ministack_s3: S3) -> None:
    """As when a script's variable is empty. --all says that it is meant, and asks unless --yes is there."""
    ministack_s3.client().put_object(Bucket=BUCKET, Key="precious", Body=b"x")
    runs = [
        s3api("delete", "--prefix", "", "--yes"),
        s3api("delete", "--prefix="),
        s3api("delete", "--all"),
        s3api("delete", "--all", "--prefix", "a", "--yes"),
        s3api("delete", "--all", "--yes", "a"),
    ]
    kept = ministack_s3.keys(BUCKET)
    deleted = s3api("delete", "--all", "--yes")

    assert [run.status for run in runs] == [2] * 5
    assert "give --all" in runs[0].err
    assert kept == {"precious"}
    assert (deleted.status, ministack_s3.keys(BUCKET)) == (0, set())


# --- usage errors as JSON


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate --json",
        "--json list",
        "upload --json",
        "list --json --frobnicate",
        "list --json --url ftp://host",
        "list --token-file none --json",
        "upload --jobs 0 --json a",
        "delete --prefix x --json",
        "upload - --json",
    ],
)
def test_usage_errors_are_json(tmp_path: Path, line: str) -> None:
    """With --json the error of a wrong command line is one object on standard output; the status stays 2."""
    ran = Command("http://127.0.0.1:1", tmp_path)(*line.split())
    (error,) = ran.objects()

    assert (ran.status, ran.err) == (2, "")
    assert (error["ok"], error["code"]) == (False, "usage")
    assert error["message"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--json list", "--json belongs after the command, as in: s3api list --json"),
        ("-q upload a", "-q belongs after the command, as in: s3api upload -q"),
        ("--url http://127.0.0.1:1 ping", "--url belongs after the command, as in: s3api ping --url"),
        ("--token-file x ping", "--token-file belongs after the command, as in: s3api ping --token-file"),
        ("--prefix x delete", "--prefix belongs after the command, as in: s3api delete --prefix"),
        ("--if-absent list", "--if-absent belongs after the command, as in: s3api upload --if-absent"),
        ("--frobnicate list", "No such option"),
    ],
)
def test_an_option_before_its_command(tmp_path: Path, line: str, said: str) -> None:
    """click, "Commands and Groups": an option belongs to the command before it. The error says where."""
    s3api = Command("http://127.0.0.1:1", tmp_path)
    ran = s3api(*line.split())

    assert ran.status == 2
    assert said in (ran.objects()[0]["message"] if "--json" in line else ran.err)


def test_usage_errors_beside_a_file_on_standard_output(tmp_path: Path) -> None:
    """With --to - standard output is the file, so the object goes to standard error; -- ends the options."""
    s3api = Command("http://127.0.0.1:1", tmp_path)
    streamed = s3api("download", "a", "b", "--to", "-", "--json")
    text = s3api("upload", "--name", "c", "--", "a", "--json")

    assert (streamed.status, streamed.out, json.loads(streamed.err)["code"]) == (2, "", "usage")
    assert (text.status, text.out) == (2, "")
    assert text.err.startswith("Usage: ")


def test_ping_honours_retries(tmp_path: Path) -> None:
    """It asks once, or as often as --retries says."""
    asked: list[str] = []

    def busy(_method: str, path: str) -> tuple[int, object]:
        asked.append(path)
        return 503, {"message": "busy", "code": "not_ready"}

    with hostile_server(busy) as url:
        Command(url, tmp_path)("ping")
        once = len(asked)
        Command(url, tmp_path)("ping", "--retries", "1")

    assert (once, len(asked)) == (1, 3)


# --- completion


INSTALLED = "from s3api.__main__ import main; main(prog_name='s3api')"  # click's variable has this name
#: A program that waits longer for the service than a user would, for tests of what is completed.
PATIENT = f"from s3api.client import completion; completion.SECONDS = 60; {INSTALLED}"


def completed(
    s3api: Command, shell: str, *words: str, program: str = INSTALLED, **environment: str
) -> list[str]:
    """What the program gives the shell for the last word, in the protocol of click's scripts."""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=s3api.folder,
        env={
            **s3api.environment,
            "_S3API_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=20 if program == INSTALLED else 120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


def values(shell: str, lines: list[str]) -> list[str]:
    if shell == "zsh":
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


SHELLS = ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["download", "p"], ["photos/2024/a.jpg", "photos/2024/b.jpg", "plain"]),
        (["download", "photos"], ["photos/2024/a.jpg", "photos/2024/b.jpg"]),
        (["delete", "--prefix", "pl"], ["plain"]),
        (["presign", "--filename", "pl"], ["plain"]),
        (["list", "z"], ["z"]),
    ],
    ids=" ".join,
)
def test_remote_names_are_completed(
    s3api: Command, ministack_s3: S3, shell: str, words: list[str], expected: list[str]
) -> None:
    """As far as the next slash; names that a shell would read as code are left out."""
    for name in ("photos/2024/a.jpg", "photos/2024/b.jpg", "plain", "z", "z$(reboot)", "z y", "z;x", "z\ny"):
        ministack_s3.client().put_object(Bucket=BUCKET, Key=name, Body=b"")
    if words == ["download", "p"]:
        expected = ["photos/", "plain"]

    assert values(shell, completed(s3api, shell, "s3api", *words, program=PATIENT)) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_local_paths_are_completed_by_the_shell(s3api: Command, shell: str) -> None:
    """Of upload's files, --to and --token-file the shell is told that they are paths."""
    for words in (["upload", "ph"], ["upload", "--filename", "ph"], ["download", "--to", "ph"]):
        lines = completed(s3api, shell, "s3api", *words)
        assert lines[0].partition(",")[0] == "file"


@pytest.mark.parametrize("trouble", ["refused", "hangs", "wrong url", "wrong token", "not the API"])
def test_completion_is_quiet_and_quick(s3api: Command, trouble: str) -> None:
    """Whatever is wrong, nothing is printed into the line that is typed, and the shell does not hang."""
    release = threading.Event()

    def answer(_method: str, _path: str) -> tuple[int, object]:
        if trouble == "hangs":
            release.wait(30)  # longer than `completed` waits
        return 200, []

    token = {"S3API_TOKEN": "a\nb"} if trouble == "wrong token" else {}
    with hostile_server(answer) as server:
        url = {"refused": "http://127.0.0.1:1", "wrong url": "http://[::1"}.get(trouble, server)
        try:
            lines = completed(s3api, "bash", "s3api", "download", "a", S3API_URL=url, **token)
        finally:
            release.set()

    assert not any(lines)
