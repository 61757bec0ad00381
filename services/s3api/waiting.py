"""Waiting in a process whose requests take turns on one thread (gevent), and in one that has many threads.

Under gunicorn the standard library's sockets, locks and threads are gevent's: a wait for the network lets
other requests run. A wait for the disk, or for a lock of the kernel, would stop them all, so it goes to a
real thread. Where gevent has replaced nothing (the command line, most tests) these functions simply call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import gevent
from gevent import monkey

P = ParamSpec("P")
T = TypeVar("T")


def on_disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `work`, which may wait for the disk or a file lock; other requests run meanwhile."""
    if not monkey.is_module_patched("threading"):
        return work(*args, **kwargs)
    result: T = gevent.get_hub().threadpool.apply(work, args, kwargs)
    return result


@contextmanager
def at_most(seconds: float, *, running: bool = True) -> Iterator[Callable[[], None]]:
    """Raise `TimeoutError` in the block once it has taken this long in all, whatever it waits for.

    Yields what starts the time, for a block that begins with something else (`running` is then false).
    Without gevent nothing can interrupt the block; the timeouts of its sockets bound each wait alone.
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
