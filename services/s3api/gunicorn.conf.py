"""How gunicorn runs the service: one process that serves many requests at once; more of it means more tasks.

Stopping: on SIGTERM readiness fails at once and the service goes on for DRAIN_SECONDS, so that a load
balancer looks away first. Then nothing new is accepted, and what is in flight has GRACEFUL_SECONDS to finish.
"""

from __future__ import annotations

# gevent replaces the standard library's sockets and locks. What was imported before keeps the old ones,
# and TLS calls itself without end (https://github.com/benoitc/gunicorn/issues/2515): so this comes first.
from gevent import monkey  # isort: skip

monkey.patch_all()

import gc
import signal
import sys
from types import FrameType
from typing import Any

from gevent.pywsgi import WSGIServer
from gunicorn import glogging
from prometheus_client import make_wsgi_app

from s3api.health import draining
from s3api.observability import configure_logging, registry
from s3api.origins import Origins, for_known_hosts
from s3api.settings import Settings, SettingsError
from s3api.worker import Worker, connections_within, raise_file_limit

try:
    settings = Settings.from_environment()
except SettingsError as error:
    sys.exit(str(error))


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's, without its access log, which it would make up for every request and throw away."""

    access_log_enabled = False


wsgi_app = "s3api.app:from_environment()"
bind = f"{settings.host}:{settings.port}"
workers = 1
Worker.settings = settings
worker_class = Worker
worker_connections = connections_within(raise_file_limit(), settings.threads)
# A load balancer reuses connections for 60 s; the side that closes first must not be this one.
keepalive = 75
graceful_timeout = settings.graceful_seconds
timeout = 30
# The heartbeat file must not be on a disk: one that stalls would look like a worker that hangs.
worker_tmp_dir = "/dev/shm" if sys.platform == "linux" else None
control_socket_disable = True
limit_request_line = (
    8190  # a name of 1,024 bytes, each percent-encoded, and an upload id need more than 4,094
)
forwarded_allow_ips = ""  # X-Forwarded-* is the application's matter, by TRUSTED_PROXY_HOPS
secure_scheme_headers: dict[str, str] = {}
logger_class = Logger
logconfig_dict = configure_logging(settings)


def when_ready(server: Any) -> None:
    """Put the draining period before gunicorn's own graceful stop."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.signal(signal.SIGTERM, None)

    def drain(_signal: int, _frame: FrameType | None) -> None:
        again = draining.is_set()
        draining.set()
        if again or not settings.drain_seconds:
            stop(_signal, _frame)
        else:
            signal.setitimer(signal.ITIMER_REAL, settings.drain_seconds)

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGTERM, drain)


def post_worker_init(_worker: Any) -> None:
    """Metrics on a port of their own, which nothing publishes."""
    # What is loaded now stays: looking through it for garbage would stop every thread for 0.1 s and more.
    gc.collect()
    gc.freeze()
    if settings.metrics_port:
        # A page under an attacker's name could read them otherwise (DNS rebinding).
        metrics = for_known_hosts(make_wsgi_app(registry), Origins.of(settings))
        WSGIServer((settings.host, settings.metrics_port), metrics, log=None).start()
