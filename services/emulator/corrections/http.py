"""Corrections of the HTTP server."""

from __future__ import annotations

KEEP_ALIVE_SECONDS = 600.0


def outlast_idle_clients() -> None:
    """Keep idle connections open longer than the clients do.

    MiniStack closes an idle connection after 75 s. It carries out a request that arrives at that moment, but
    does not answer it. The AWS SDK for Go keeps connections for 90 s and repeats the request, and a repeated
    create fails with "already exists".
    """
    from hypercorn.config import Config

    # MiniStack sets the timeout on its own configuration object. A property of the class overrides that.
    Config.keep_alive_timeout = property(lambda _: KEEP_ALIVE_SECONDS, lambda *_: None)
