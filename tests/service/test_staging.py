"""The staging directory: its budget, its cleaning, and the files that it must never touch."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from s3api.failures import FileTooLarge, StagingFull
from s3api.private import lock_path
from s3api.settings import Settings, SettingsError
from s3api.staging import STEP, Staging
from support.servers import until


def staging(directory: Path, *, budget: int = 1 << 30, limit: int = 1 << 30) -> Staging:
    return Staging(directory, budget, limit)


def left(directory: Path) -> list[Path]:
    """What is in the directory besides the lock, which stays."""
    return [path for path in directory.iterdir() if path != lock_path(directory)]


def test_a_staged_file_is_on_disk_and_then_gone(tmp_path: Path) -> None:
    """While the block runs the bytes are on disk, counted and hashed; afterwards nothing is."""
    with staging(tmp_path).folder(10) as folder:
        staged = folder.new_file()
        staged.write(b"01234")
        staged.write(b"56789")
        staged.seek(0)
        on_disk = [path for path in tmp_path.rglob("*.part") if path.stat().st_size == 10]
        read = staged.stream.read()

    assert len(on_disk) == 1
    assert (read, staged.size) == (b"0123456789", 10)
    assert staged.hexdigest() == hashlib.sha256(b"0123456789").hexdigest()
    assert left(tmp_path) == []


def test_whatever_happens_the_folder_goes(tmp_path: Path) -> None:
    """An error in the block leaves nothing behind."""

    def fail() -> None:
        with staging(tmp_path).folder(None) as folder:
            folder.new_file().write(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert left(tmp_path) == []


def test_the_limit_of_a_file(tmp_path: Path) -> None:
    """The byte over the limit raises; a second file of the same form has a limit of its own."""
    with staging(tmp_path, limit=10).folder(None) as folder:
        folder.new_file().write(b"x" * 10)
        second = folder.new_file()
        second.write(b"x" * 10)

        with pytest.raises(FileTooLarge):
            second.write(b"x")


def test_the_budget_is_shared(tmp_path: Path) -> None:
    """A request cannot use what another request has reserved, until that is released."""
    shared = staging(tmp_path, budget=STEP)
    other = staging(tmp_path, budget=STEP)
    with shared.folder(60) as folder:
        folder.new_file().write(b"x" * 60)
        with pytest.raises(StagingFull), other.folder(60) as second:
            second.new_file().write(b"x" * 60)

    with other.folder(STEP) as folder:
        folder.new_file().write(b"x" * STEP)


def test_what_is_announced_costs_nothing_until_it_comes(tmp_path: Path) -> None:
    """A form that announces the whole budget but sends little leaves the rest to others."""
    shared = staging(tmp_path, budget=3 * STEP)
    with shared.folder(3 * STEP) as slow, shared.folder(2 * STEP) as other:
        slow.new_file().write(b"x")
        other.new_file().write(b"x" * 2 * STEP)
    with pytest.raises(StagingFull), shared.folder(3 * STEP + 1):
        pass


def test_a_form_reserves_a_mebibyte_at_a_time(tmp_path: Path) -> None:
    """A form whose first byte has come holds 1 MiB of the budget. It need not reserve each byte."""
    shared = staging(tmp_path, budget=2 << 20)
    with shared.folder(None) as first, shared.folder(None) as second:
        first.new_file().write(b"x")
        staged = second.new_file()
        staged.write(b"x" * (1 << 20))
        with pytest.raises(StagingFull):
            staged.write(b"x")


@pytest.mark.parametrize(("one", "another"), [("one", "two"), ("two", "one")])
def test_one_caller_cannot_use_the_whole_budget(tmp_path: Path, one: str, another: str) -> None:
    """A caller gets seven eighths of the budget in all its forms together; the rest is there for others."""
    shared = staging(tmp_path, budget=8 * STEP)
    with shared.folder(None, one) as first, shared.folder(None, one) as second:
        first.new_file().write(b"x" * 4 * STEP)
        held = second.new_file()
        held.write(b"x" * 3 * STEP)
        with pytest.raises(StagingFull):
            held.write(b"x")
        with shared.folder(None, another) as other:
            other.new_file().write(b"x" * STEP)


def test_the_files_of_a_form_are_open_one_at_a_time(tmp_path: Path) -> None:
    """A form of a hundred files needs one descriptor for them, and each still reads as it was written."""
    with staging(tmp_path).folder(None) as folder:
        staged = []
        for number in range(50):
            staged.append(folder.new_file())
            staged[-1].write(b"%d" % number)
        opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        read = []
        for one in staged:
            one.seek(0)
            read.append(one.stream.read())
            one.finish()

    assert sum(path.endswith(".part") for path in opened) == 1
    assert read == [b"%d" % number for number in range(50)]


def test_an_unknown_length_reserves_as_it_grows(tmp_path: Path) -> None:
    """Without an announced length the budget still holds."""
    with staging(tmp_path, budget=STEP).folder(None) as folder:
        staged = folder.new_file()
        staged.write(b"x" * STEP)

        with pytest.raises(StagingFull):
            staged.write(b"x")


def test_a_length_that_lies_is_held_to_the_budget(tmp_path: Path) -> None:
    """A form that announces little and sends much reserves more as its bytes arrive."""
    with staging(tmp_path, budget=STEP + 1).folder(1) as folder:
        staged = folder.new_file()
        staged.write(b"x" * (STEP + 1))

        with pytest.raises(StagingFull):
            staged.write(b"x")


def test_concurrent_requests_never_exceed_the_budget(tmp_path: Path) -> None:
    """Of many requests at once, only as many stage files as the budget allows."""
    shared = staging(tmp_path, budget=4 * STEP)
    all_in = threading.Barrier(16)
    outcomes: list[bool] = []

    def stage() -> None:
        try:
            with shared.folder(STEP) as folder:
                folder.new_file().write(b"x" * STEP)
                all_in.wait(20)
                outcomes.append(True)
        except StagingFull:
            outcomes.append(False)
            all_in.wait(20)

    threads = [threading.Thread(target=stage) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == [False] * 12 + [True] * 4
    assert left(tmp_path) == []


def test_a_full_disk_is_a_full_staging_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is reported as such, and leaves nothing behind."""
    shared = staging(tmp_path)

    def no_space(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_to_a_full_disk() -> None:
        with shared.folder(None) as folder:
            staged = folder.new_file()
            full = type("Full", (), {"write": no_space, "close": staged.stream.close})
            monkeypatch.setattr(staged, "stream", full())
            staged.write(b"x")

    with pytest.raises(StagingFull, match="disk"):
        write_to_a_full_disk()
    assert left(tmp_path) == []


KILLED = """
import sys, time
from pathlib import Path
from s3api.staging import Staging
with Staging(Path(sys.argv[1]), 1 << 30, 1 << 30).folder(1000) as folder:
    folder.new_file().write(b"x" * 1000)
    print("staged", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    """The folder of a living process stays; killed with -9, its folder goes at the next sweep."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"staged\n"
        assert staging(tmp_path).sweep() == 0
        assert list(tmp_path.rglob("*.part"))
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert until(lambda: staging(tmp_path).sweep(), "the sweep finds it") == 1
    assert left(tmp_path) == []


def test_the_sweep_touches_nothing_else(tmp_path: Path) -> None:
    """Whatever else is in the directory stays, whatever it is called: STAGING_DIR may be any directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("data")
    directory = tmp_path / "uploads"
    directory.mkdir()
    for name in (".git", "src", "s3api-staged-", "s3api-staged-notes", "x-s3api-staged-" + "0" * 32):
        (directory / name).mkdir()
        (directory / name / "precious").write_text("data")
    (directory / "file").write_text("data")
    (directory / f"s3api-staged-{'1' * 32}").symlink_to(elsewhere)
    lock_path(directory).touch()
    before = sorted(str(path) for path in tmp_path.rglob("*"))

    with staging(directory).folder(10) as folder:
        folder.new_file().write(b"x")
    assert staging(directory).sweep() == 0
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


# --- other users of the machine

OTHER = 65534
# The interpreter starts as root: other users may not be able to reach it.
BECOME_OTHER = f"import fcntl, os, sys; os.setgroups([]); os.setgid({OTHER}); os.setuid({OTHER})"
SERVICE = {
    "bucket": "day02-files",
    "signing_key": "x" * 32,
    "allow_anonymous": True,
    "aws_region": "eu-west-1",
}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user may write to, as /tmp is; pytest's own are closed to other users."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


@contextmanager
def other_user(script: str, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python script that another user runs; it has begun when it says so, and goes at the end."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a process as another user")
    with subprocess.Popen(
        [sys.executable, "-c", f"{BECOME_OTHER}\n{script}", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            yield process
        finally:
            process.kill()


def modes(directory: Path) -> set[tuple[str, str]]:
    """Type and mode of everything below the directory."""
    return {
        ("folder" if path.is_dir() else "file", oct(path.stat().st_mode & 0o7777))
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_staged_files_are_the_services_own_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """The directory and its folders are 0700, the files, the lock and the reservation 0600."""
    directory = tmp_path / "made" / "uploads"
    before = os.umask(umask)
    try:
        with staging(directory).folder(10) as folder:
            folder.new_file().write(b"x")
            found = modes(tmp_path)
    finally:
        os.umask(before)

    assert found == {("folder", "0o700"), ("file", "0o600")}


LOCK_EVERYTHING = """
held = []
for folder, folders, names in os.walk(sys.argv[1]):
    for path in [folder, *(os.path.join(folder, name) for name in names)]:
        try:
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.append(descriptor)
        except OSError:
            pass
print("begun", flush=True)
sys.stdin.read()
"""

STAGE = """
import sys
from pathlib import Path
from s3api.staging import Staging
with Staging(Path(sys.argv[1]), 1 << 30, 1 << 30).folder(10) as folder:
    folder.new_file().write(b"x")
print("staged")
"""


def test_another_user_cannot_block_uploads(shared: Path) -> None:
    """Uploads work whatever locks another user takes in a staging directory with usual permissions."""
    directory = shared / "uploads"
    directory.mkdir(mode=0o755)
    with staging(directory).folder(10) as folder:
        folder.new_file().write(b"x")
        with other_user(LOCK_EVERYTHING, shared):
            done = subprocess.run(
                [sys.executable, "-c", STAGE, str(directory)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                timeout=20,
                check=True,
            )

    assert done.stdout == b"staged\n"


MAKE_FOLDER = """
os.mkdir(sys.argv[1])
with open(sys.argv[1] + "/reserved", "wb") as file:
    file.truncate(1 << 40)
print("begun", flush=True)
"""


def test_another_user_cannot_use_the_budget_up(shared: Path) -> None:
    """A folder of another user, named as the service names its own, counts for nothing and stays."""
    foreign = shared / f"s3api-staged-{'e' * 32}"
    with other_user(MAKE_FOLDER, foreign):
        pass

    with staging(shared).folder(10) as folder:
        folder.new_file().write(b"x")
    assert staging(shared).sweep() == 0
    assert (foreign / "reserved").exists()


def start(directory: Path) -> None:
    """What a service does with its staging directory before it serves."""
    Settings.from_environment(staging_dir=directory, **SERVICE)


def own_directory(shared: Path) -> str:
    (shared / "uploads").mkdir()
    os.chown(shared / "uploads", OTHER, OTHER)
    return f"{shared}/uploads belongs to another user"


def open_to_everybody(shared: Path) -> str:
    (shared / "uploads").mkdir()
    (shared / "uploads").chmod(0o777)
    return f"every user of this machine may replace what is in {shared}/uploads"


def link_to_a_directory_of_the_service(shared: Path) -> str:
    (shared / "precious").mkdir(mode=0o700)
    (shared / "uploads").symlink_to(shared / "precious")
    os.chown(shared / "uploads", OTHER, OTHER, follow_symlinks=False)
    return f"{shared}/uploads belongs to another user"


def lock_that_is_a_link(shared: Path) -> str:
    (shared / "uploads").mkdir()
    lock_path(shared / "uploads").symlink_to(shared / "precious")
    return "is a symbolic link"


def lock_of_another_user(shared: Path) -> str:
    (shared / "uploads").mkdir()
    (shared / "uploads").chmod(0o1777)
    lock_path(shared / "uploads").touch(0o666)
    os.chown(lock_path(shared / "uploads"), OTHER, OTHER)
    return "may belong to another user|belongs to another user"


def lock_that_is_a_pipe(shared: Path) -> str:
    (shared / "uploads").mkdir()
    os.mkfifo(lock_path(shared / "uploads"))
    return "is not a regular file"


@pytest.mark.parametrize(
    "attack",
    [
        own_directory,
        open_to_everybody,
        link_to_a_directory_of_the_service,
        lock_that_is_a_link,
        lock_of_another_user,
        lock_that_is_a_pipe,
    ],
)
def test_a_directory_of_another_user_is_refused_at_the_start(
    shared: Path, attack: Callable[[Path], str]
) -> None:
    """A staging directory that another user owns, or could take over, stops the service with a sentence."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of another user")
    told = attack(shared)

    with pytest.raises(SettingsError, match=told) as refused:
        start(shared / "uploads")
    assert "STAGING_DIR" in str(refused.value)
    assert "name a directory that belongs to the user of the service" in str(refused.value)
    assert not (shared / "precious").is_file()
    assert not list(shared.glob("precious/*"))


def test_making_the_app_touches_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a service that starts sweeps: building the app, as tools do, leaves the directory alone."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "s3api", "openapi"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )

    assert done.stdout.startswith(b"{")
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
