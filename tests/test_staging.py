"""The staging directory: its budget, its sweep, and what it must never touch."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from s3api.files import FileTooLarge, StagingFull
from s3api.staging import STEP, Staging
from servers import until

KiB = 1024


def staging(directory: Path, *, budget: int = 1 << 30, limit: int = 1 << 30) -> Staging:
    return Staging(directory, budget, limit)


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
    assert list(tmp_path.iterdir()) == []


def test_whatever_happens_the_folder_goes(tmp_path: Path) -> None:
    """An error in the block leaves nothing behind."""

    def fail() -> None:
        with staging(tmp_path).folder(None) as folder:
            folder.new_file().write(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_limit_of_a_file(tmp_path: Path) -> None:
    """The byte over the limit raises; a second file of the same form has a limit of its own."""
    with staging(tmp_path, limit=10).folder(None) as folder:
        folder.new_file().write(b"x" * 10)
        second = folder.new_file()
        second.write(b"x" * 10)

        with pytest.raises(FileTooLarge):
            second.write(b"x")


def test_the_budget_is_shared(tmp_path: Path) -> None:
    """What one request has reserved another cannot have, until it is given back."""
    shared = staging(tmp_path, budget=100)
    other = staging(tmp_path, budget=100)
    with shared.folder(60):
        with pytest.raises(StagingFull), other.folder(41):
            pass
        with other.folder(40):
            pass

    with other.folder(100):
        pass


def test_an_unknown_length_reserves_as_it_grows(tmp_path: Path) -> None:
    """Without an announced length the budget still holds."""
    with staging(tmp_path, budget=STEP).folder(None) as folder:
        staged = folder.new_file()
        staged.write(b"x" * STEP)

        with pytest.raises(StagingFull):
            staged.write(b"x")


def test_a_length_that_lies_is_held_to_the_budget(tmp_path: Path) -> None:
    """Who announces little and sends much reserves the rest as it comes."""
    with staging(tmp_path, budget=STEP + 1).folder(1) as folder:
        staged = folder.new_file()
        staged.write(b"x" * (STEP + 1))

        with pytest.raises(StagingFull):
            staged.write(b"x")


def test_concurrent_requests_never_exceed_the_budget(tmp_path: Path) -> None:
    """Of many requests at once only as many stage as the budget has room for."""
    shared = staging(tmp_path, budget=4 * KiB)
    all_in = threading.Barrier(16)
    outcomes: list[bool] = []

    def stage() -> None:
        try:
            with shared.folder(KiB):
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
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_full_staging_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room is told as such, and leaves nothing behind."""
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
    assert list(tmp_path.iterdir()) == []


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
    assert list(tmp_path.iterdir()) == []


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
    before = sorted(str(path) for path in tmp_path.rglob("*"))

    with staging(directory).folder(10) as folder:
        folder.new_file().write(b"x")
    assert staging(directory).sweep() == 0
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


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
