"""gevent's sockets, locks and threads in place of the standard library's: what each process begins with."""

from __future__ import annotations

from gevent import events, monkey


def patch() -> None:
    """Patch the standard library. gunicorn does it again in each worker.

    For each module that it patches, gevent looks for plugins in all installed distributions: 25 times. The
    service has no plugins, and the search takes two thirds of the time.
    """
    events.notify_and_call_entry_points = events.notify
    monkey.patch_all()
