"""How a request waits for the disk and for S3, with gevent and without.

Under gunicorn all requests of a process run on one thread, and the standard library's sockets, locks and
threads are gevent's. A wait for the network lets other requests run. A wait for the disk, or for a file lock,
would stop them all, so it happens on a real thread. Without gevent (the command line, most tests) there are
only real threads, and these functions call directly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

#: The key in a request's environment that is true if the answer is completely in memory, and is a packaged
#: page (all answers share its bytes) or has at most IN_MEMORY_BYTES. The request gives its place back before
#: the answer is sent.
IN_MEMORY = "s3api.in_memory"
IN_MEMORY_BYTES = 16 * 1024
#: The key that a request's environment has if no place became free for it. The application refuses it.
NO_PLACE = "s3api.no_place"
DISK_THREADS = 10


@functools.cache
def _disk() -> ThreadPool:
    """Threads for the disk alone. gevent's own pool looks up names: a disk that hangs must not stop that."""
    return ThreadPool(DISK_THREADS)


def on_disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `work`, which may wait for the disk or for a file lock. Other requests run in the meantime."""
    if not monkey.is_module_patched("threading"):
        return work(*args, **kwargs)
    result: T = _disk().apply(work, args, kwargs)
    return result


@contextmanager
def at_most(seconds: float, *, running: bool = True) -> Iterator[Callable[[], None]]:
    """Raise `TimeoutError` in the block once it has taken `seconds` in all, whatever it waits for.

    Yields a function that starts the time, for blocks that do something else first; `running` is then false.
    Without gevent nothing can interrupt the block, and the timeouts of its sockets bound each wait alone.
    """
    if not monkey.is_module_patched("threading"):
        yield lambda: None
        return
    late = gevent.Timeout(seconds)
    if running:
        late.start()
    try:
        yield late.start
    except gevent.Timeout as timeout:
        if timeout is not late:
            raise
        raise TimeoutError(f"not within {seconds} s") from None
    finally:
        late.close()
