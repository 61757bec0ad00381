"""How gunicorn runs the service: WEB_CONCURRENCY processes, each of which serves many requests at once.

Stopping: on SIGTERM readiness fails at once, and the service continues for DRAIN_SECONDS, so that a load
balancer can stop sending requests. Then no worker accepts a connection any more, and requests in flight have
GRACEFUL_SECONDS to finish.
"""

from __future__ import annotations

# Imports leave almost no garbage, and searching for it takes a third of the time of a start.
import gc  # isort: skip

gc.disable()

# gevent replaces the standard library's sockets and locks. Modules that were imported before keep the old
# ones, and TLS recurses without end (https://github.com/benoitc/gunicorn/issues/2515). So this comes first.
from s3api import gevent_patches  # isort: skip

gevent_patches.patch()

import signal
import sys
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from gunicorn import glogging

from s3api import shared_metrics
from s3api.settings import Settings, SettingsError

try:
    settings = Settings.from_environment()
    if settings.accepts_jwts:
        from s3api import jwt_tokens

        jwt_tokens.verifier(settings)  # refuses a file without usable keys
except SettingsError as error:
    sys.exit(str(error))

several = settings.web_concurrency > 1
if several:
    shared_metrics.begin()  # before the imports that make the metrics

import gevent
from prometheus_client import make_wsgi_app

import s3api
from s3api import cloudwatch, metrics
from s3api.health import draining
from s3api.observability import configure_logging, log, registry
from s3api.origins import Origins, for_known_hosts
from s3api.services import services_of
from s3api.staging import Staging
from s3api.worker import Worker, connections_within, raise_file_limit


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's, without its access log: gunicorn would format a line for each request and drop it."""

    access_log_enabled = False


wsgi_app = "s3api.app:from_environment()"
# Metrics have a port of their own, which is not published. Every worker listens on both ports.
bind = [f"{settings.host}:{settings.port}"]
if settings.metrics_port:
    bind.append(f"{settings.host}:{settings.metrics_port}")
workers = settings.web_concurrency
Worker.settings = settings
staging = Staging(settings.staging_dir, settings.staging_max_bytes, settings.max_file_bytes)
sums = make_wsgi_app(shared_metrics.registry() if several else registry)


def measured(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    metrics.measure(staging)
    chunks: Iterable[bytes] = sums(environ, start_response)
    return chunks


# A page under an attacker's name could read the metrics otherwise (DNS rebinding).
Worker.metrics = for_known_hosts(measured, Origins.of(settings))
worker_class = Worker
worker_connections = connections_within(raise_file_limit(), settings.max_concurrent_requests)
keepalive = settings.keepalive_seconds
graceful_timeout = settings.graceful_seconds
timeout = 30
# The heartbeat file must not be on a disk: a disk that stalls would look like a worker that hangs.
worker_tmp_dir = "/dev/shm" if sys.platform == "linux" else None
control_socket_disable = True
# A name of 1,024 bytes, each percent-encoded, and an upload id need more than gunicorn's 4,094.
limit_request_line = 8190
forwarded_allow_ips = ""  # the application reads X-Forwarded-*, by TRUSTED_PROXY_HOPS
secure_scheme_headers: dict[str, str] = {}
logger_class = Logger
logconfig_dict = configure_logging(settings)


def on_starting(server: Any) -> None:
    """Refuse options of GUNICORN_CMD_ARGS that the metrics and the limits would not know of."""
    if server.cfg.workers != settings.web_concurrency or server.cfg.worker_class is not Worker:
        sys.exit(
            "The configuration is not valid.\n"
            "  GUNICORN_CMD_ARGS: --workers and --worker-class cannot be set there; "
            "set WEB_CONCURRENCY for the number of worker processes"
        )


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

    for signals_of_workers in (signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(signals_of_workers, signal.SIG_IGN)  # the number of workers is WEB_CONCURRENCY
    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGTERM, drain)
    for name, problem in Settings.unread_variables():
        log.warning("The variable %s %s", name, problem)
    _keep_what_is_loaded()


def _keep_what_is_loaded() -> None:
    """Keep what is loaded now out of each search for garbage, which would stop every request for 0.1 s."""
    gc.freeze()
    gc.enable()


def pre_fork(server: Any, worker: Any) -> None:
    if several:
        worker.slot = shared_metrics.take_slot(other.slot for other in server.WORKERS.values())


def post_fork(_server: Any, _worker: Any) -> None:
    gc.disable()  # a worker imports the application


def write_metrics() -> None:
    """Write this worker's metrics into the log while it lives. The stream belongs to the log."""
    lines = cloudwatch.Lines(settings.project_name, registry, lambda: metrics.measure(staging))
    while True:
        gevent.sleep(settings.seconds_between_metrics)
        try:
            sys.stderr.write(lines.next(time.time()).decode())
        except OSError as error:  # of the staging directory; the next line has what this one lacks
            log.warning("The metrics cannot be measured: %s", error)


def post_worker_init(worker: Any) -> None:
    metrics.concurrency_limit.set(settings.max_concurrent_requests)
    if settings.seconds_between_metrics:
        gevent.spawn(write_metrics)
    if worker.age == 1:  # the first worker of the service: only a worker has the store
        fields = {
            "version": s3api.__version__,
            "revision": settings.revision,
            "bucket": settings.bucket,
            "region": settings.aws_region,
            "endpoint": services_of(worker.wsgi).store.endpoint,
        }
        log.info("started", extra={"fields": fields})
    _keep_what_is_loaded()


def child_exit(_server: Any, worker: Any) -> None:
    if several:
        shared_metrics.forget_gauges(worker.slot)


def on_exit(_server: Any) -> None:
    if several:
        shared_metrics.end()
