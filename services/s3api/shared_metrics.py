"""One set of metrics for several worker processes.

Each worker counts in files of its own, in a directory that is in memory. A request for the metrics, which
any worker can answer, adds up the files of all. The files are named by the worker's slot, not by its process
number: a worker that replaces another takes its slot and continues its counters. So a counter never falls,
and the number of files stays bounded. The gauges of a worker that has ended are removed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from s3api.private import is_own_folder, lock_folder

_PREFIX = "s3api-metrics-"
#: The slot of this process. A worker inherits what the master sets before it forks.
_slot = 0


@cache  # gunicorn reads its configuration again on SIGHUP
def begin(parent: Path | None = None) -> Path:
    """From now on count in files; call this before the first metric is made. Returns their directory.

    The directory is new and private, and locked while a process of the service lives. Directories that
    killed services left in `parent` are removed.
    """
    # A file on a disk that stalls would stop every request that counts something.
    memory = Path("/dev/shm") if sys.platform == "linux" else Path(tempfile.gettempdir())  # noqa: S108 - shared memory, not a guessable file name
    parent = parent or memory
    for left in parent.glob(f"{_PREFIX}*"):
        if is_own_folder(left) and (lock := lock_folder(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock_folder(directory)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]
    return directory


def take_slot(taken: Iterable[int]) -> int:
    """The first free slot, for the process that is forked next."""
    global _slot  # noqa: PLW0603 - the forked process must find it
    others = set(taken)
    _slot = next(slot for slot in count(1) if slot not in others)
    forget_gauges(_slot)
    return _slot


def forget_gauges(slot: int) -> None:
    """Remove what only a living worker has, such as its requests in flight."""
    mark_process_dead(slot, str(begin()))  # type: ignore[no-untyped-call]


def registry() -> CollectorRegistry:
    """The sum of all workers' metrics."""
    sums = CollectorRegistry()
    MultiProcessCollector(sums, str(begin()))  # type: ignore[no-untyped-call]
    return sums


def end() -> None:
    shutil.rmtree(begin(), ignore_errors=True)
