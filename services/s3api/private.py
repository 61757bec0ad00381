"""Private folders and files: no other user of this machine can read, lock or replace them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path


class NotPrivate(OSError):
    """A path is, or could become, another user's; the message is a sentence."""


def make_folder(path: Path) -> None:
    """Create the folder and its missing parents for this user alone, whatever the umask."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.geteuid():
            folder.chmod(0o700)  # the umask may have taken more away


def check_folder(path: Path) -> None:
    """Raises `NotPrivate` where another user could replace what this user puts into the folder.

    A folder of root's is accepted, and one with the sticky bit, such as /tmp.
    """
    for state in (path.lstat(), path.stat()):  # a symbolic link, too, must not be another user's
        if state.st_uid not in (0, os.geteuid()):
            raise NotPrivate(f"{path} belongs to another user (uid {state.st_uid})")
    if state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX:
        raise NotPrivate(f"every user of this machine may replace what is in {path}")


def open_private(path: Path, flags: int) -> int:
    """A descriptor of this user's own regular file, mode 0600, whatever the umask; made with O_CREAT.

    Raises `NotPrivate` where the file is another user's or not a regular file.
    """
    try:
        # Without O_NONBLOCK a pipe that somebody put there would wait for its other end.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPrivate(f"{path} is a symbolic link") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPrivate(f"{path} cannot be opened; it may belong to another user") from error
        raise
    try:
        _check_file(path, os.fstat(descriptor))
        os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(path: Path, state: os.stat_result) -> None:
    if state.st_uid != os.geteuid():
        raise NotPrivate(f"{path} belongs to another user (uid {state.st_uid})")
    if not stat.S_ISREG(state.st_mode):
        raise NotPrivate(f"{path} is not a regular file")


def lock_path(staging: Path) -> Path:
    """The file by whose lock the processes of this user take turns in a staging directory."""
    return staging / f".s3api-staged-{os.geteuid()}.lock"


def is_own_folder(path: Path) -> bool:
    """Whether this is a folder of this user's own, and not a link to one."""
    try:
        state = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid()


def lock_folder(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where another one holds it, or the folder is gone.

    The kernel frees the lock when no process has the descriptor any more, however the processes end.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
