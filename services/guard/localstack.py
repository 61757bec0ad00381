"""Installs the guard in LocalStack 4.14.0.

docker/localstack/start.d/guard.py calls it in LocalStack's process, before that listens.
"""

from __future__ import annotations

import os
from typing import Any

from localstack.runtime.init import Stage, State, init_script_manager
from localstack.services.s3 import presigned_url
from rolo.gateway import Gateway
from rolo.gateway.wsgi import WsgiGateway
from rolo.response import Response

from guard.installation import from_environment
from guard.wsgi import Environment, StartResponse, guarded


def install() -> None:
    """Guard every request to the gateway that LocalStack is going to start."""
    guard, keys = from_environment(os.environ, is_ready)
    unguarded = WsgiGateway.__call__

    def call(gateway: Any, environment: Environment, start_response: StartResponse) -> Any:
        app = guarded(
            lambda environ, start: unguarded(gateway, environ, start),
            guard,
            lambda environ: environ["rolo.headers"],
        )
        return app(environment, start_response)

    def secret(access_key: str, _region: str) -> str | None:
        known = keys.secret_of(access_key)
        return known.key if known else None

    WsgiGateway.__call__ = call
    Gateway.accept = reject
    # LocalStack also checks presigned URLs and forms, by default with a constant secret.
    presigned_url.get_secret_access_key_from_access_key_id = secret


def reject(_gateway: Any, request: Any) -> None:
    """Open no websocket; no client here uses one."""
    request.reject(Response(status=403))


def is_ready() -> bool:
    """Whether all init hooks have ended without an error."""
    manager = init_script_manager()
    scripts = [script for stage in (Stage.START, Stage.READY) for script in manager.scripts.get(stage, [])]
    return manager.stage_completed[Stage.READY] and all(one.state == State.SUCCESSFUL for one in scripts)
