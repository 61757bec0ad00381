"""Corrections of ECS: how its tasks run, stop, and get the credentials of their role."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from emulator.balancer import Balancer
from emulator.settings import Settings, grace

logger = logging.getLogger("corrections")

MIB = 1024 * 1024
SECOND = 1_000_000_000  # in nanoseconds, the unit of the engine
# ECS and the SDKs refresh a task's credentials well before they expire.
REFRESH_BEFORE_SECONDS = 600
_STOP_LABEL = "stop-timeout"
_POLL_SECONDS = 0.1


def options_of(
    definition: Mapping[str, Any], container: Mapping[str, Any], time_scale: float
) -> dict[str, Any]:
    """What the ECS agent would ask of the engine for this container, as keywords of the Docker SDK."""
    from docker.types import Mount

    linux = container.get("linuxParameters") or {}
    options: dict[str, Any] = {
        "user": container.get("user"),
        "read_only": bool(container.get("readonlyRootFilesystem")),
        "security_opt": list(container.get("dockerSecurityOptions") or ()),
        "cap_drop": list((linux.get("capabilities") or {}).get("drop") or ()),
        "init": bool(linux.get("initProcessEnabled")),
        "tmpfs": {
            entry["containerPath"]: ",".join([f"size={entry['size']}m", *entry.get("mountOptions", ())])
            for entry in linux.get("tmpfs") or ()
        },
    }
    if container.get("entryPoint"):
        options["entrypoint"] = container["entryPoint"]
    if container.get("cpu"):
        options["cpu_shares"] = max(2, int(container["cpu"]))
    if container.get("memoryReservation"):
        options["mem_reservation"] = container["memoryReservation"] * MIB
    if container.get("memory"):
        # The instances have no swap.
        options["mem_limit"] = options["memswap_limit"] = container["memory"] * MIB
    task_volumes = {
        volume["name"]
        for volume in definition.get("volumes") or ()
        if (volume.get("dockerVolumeConfiguration") or {}).get("scope") == "task"
    }
    options["mounts"] = [
        Mount(point["containerPath"], None, type="volume", read_only=bool(point.get("readOnly")))
        for point in container.get("mountPoints") or ()
        if point.get("sourceVolume") in task_volumes
    ]
    # ECS ignores the image's own health check and uses the task definition's.
    options["healthcheck"] = {"test": ["NONE"]}
    if check := container.get("healthCheck"):
        options["healthcheck"] = {
            "test": check["command"],
            "interval": int(check.get("interval", 30) / time_scale * SECOND),
            "timeout": int(check.get("timeout", 5) * SECOND),
            "retries": check.get("retries", 3),
            "start_period": int(grace(check.get("startPeriod", 0), time_scale) * SECOND),
        }
    return options


def run_as_defined(settings: Settings) -> None:
    """Pass the whole container definition to the engine.

    MiniStack passes the image, the ports and the environment, but no limits.
    """
    from ministack.services import ecs

    build = ecs._build_run_kwargs

    def as_defined(cdef: dict[str, Any], td: dict[str, Any], *rest: Any, **named: Any) -> dict[str, Any]:
        kwargs: dict[str, Any] = build(cdef, td, *rest, **named)
        kwargs.update(options_of(td, cdef, settings.time_scale))
        kwargs["labels"][_STOP_LABEL] = str(cdef.get("stopTimeout", 30))
        # Publish ports on loopback only: the local network must not reach a task.
        ports = (kwargs.get("ports") or {}).items()
        kwargs["ports"] = {port: ("127.0.0.1", host or None) for port, host in ports}
        return kwargs

    ecs._build_run_kwargs = as_defined


def lead_to_this_aws(settings: Settings) -> None:
    """Tell a task where AWS is, and where the clients of its presigned URLs reach S3.

    On AWS, the DNS names of the services say both. A task definition that sets these variables keeps its own.
    """
    from ministack.services import ecs

    build = ecs._build_run_kwargs
    where = {
        "AWS_ENDPOINT_URL": f"http://{settings.address}:{settings.port}",
        "S3_PUBLIC_ENDPOINT_URL": f"http://{settings.registry}",
    }

    def led(cdef: dict[str, Any], td: dict[str, Any], env: dict[str, str], *rest: Any, **named: Any) -> Any:
        return build(cdef, td, {**where, **env}, *rest, **named)

    ecs._build_run_kwargs = led


def shorten_drains(settings: Settings) -> None:
    """Divide a task's DRAIN_SECONDS, in which the balancer notices its failed checks, by the time scale.

    The health checks are faster by the same factor.
    """
    from ministack.services import ecs

    build = ecs._build_run_kwargs

    def shortened(
        cdef: dict[str, Any], td: dict[str, Any], env: dict[str, str], *rest: Any, **named: Any
    ) -> Any:
        if "DRAIN_SECONDS" in env:
            env = {**env, "DRAIN_SECONDS": str(float(env["DRAIN_SECONDS"]) / settings.time_scale)}
        return build(cdef, td, env, *rest, **named)

    ecs._build_run_kwargs = shortened


def stop_as_ecs(balancer: Balancer) -> None:
    """Stop a task in the background: deregister it, wait until it has drained, then SIGTERM, then SIGKILL.

    A task is DEACTIVATING while its target drains, STOPPING from SIGTERM on, and STOPPED after its containers
    have ended. MiniStack does everything at once, and gives every task 5 s. Sources:
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/load-balancer-connection-draining.html
    """
    from ministack.core.concurrency import resource_lock
    from ministack.services import ecs

    def remove(client: Any, container_or_id: Any) -> None:
        if client is None or container_or_id is None:
            return
        try:
            container = (
                client.containers.get(container_or_id)
                if isinstance(container_or_id, str)
                else container_or_id
            )
            container.stop(timeout=int(container.labels.get(_STOP_LABEL, "30")))
        except Exception as error:
            logger.debug("cannot stop %s: %s", container_or_id, error)
            return
        container.remove(v=True, force=True)

    def enter(task: dict[str, Any], states: tuple[tuple[str, bool], ...]) -> None:
        with resource_lock("ecs-task", task["taskArn"]):
            for state, counts in states:
                if counts:
                    ecs._bump_task_version(task)
                task["lastStatus"] = state

    cleanup, (deactivating, stopping, *stopped) = ecs._cleanup_task_resources, ecs._STOP_SEQUENCE

    def stop(task: dict[str, Any], client: Any, extra_container: Any) -> None:
        # ECS registers only the tasks of services. Without a client, the containers have ended already.
        registered = client is not None and str(task.get("group")).startswith("service:")
        try:
            while registered and balancer.serves(ecs._task_ip(task) or ""):
                time.sleep(_POLL_SECONDS)
            enter(task, (stopping,))
            cleanup(task, client, extra_container)
        finally:
            enter(task, tuple(stopped))

    def stop_in_background(task: dict[str, Any], client: Any, extra_container: Any = None) -> None:
        threading.Thread(target=stop, args=(task, client, extra_container), daemon=True).start()

    ecs._STOP_SEQUENCE = (deactivating,)
    ecs._remove_docker_container = remove
    ecs._cleanup_task_resources = stop_in_background


def issue_role_credentials(settings: Settings) -> None:
    """Give each task the credentials of a session of its role.

    MiniStack gives credentials without a role, from an address that the SDKs refuse.
    """
    from ministack.core.responses import get_account_id
    from ministack.services import ecs, imds, sts

    tasks: dict[str, tuple[str, str, str]] = {}
    known: dict[str, str] = {}
    issued: dict[str, dict[str, str]] = {}
    expires: dict[str, float] = {}
    register = ecs._register_metadata

    def with_role(task_arn: str, cluster: str, td: dict[str, Any], *rest: Any) -> Any:
        token = register(task_arn, cluster, td, *rest)
        env: dict[str, str] = rest[2]  # the arguments before it: the container's definition, the launch type
        identity = env.pop("AWS_CONTAINER_CREDENTIALS_FULL_URI").rsplit("/", 1)[-1]
        if role := td.get("taskRoleArn"):
            tasks[identity] = (role, task_arn.rsplit("/", 1)[-1], get_account_id())
            known[identity] = env["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
            env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = (
                f"http://{settings.address}:{settings.port}/v2/credentials/{identity}"
            )
        return token

    def credentials(identity: str) -> dict[str, str]:
        now = time.time()
        margin = min(REFRESH_BEFORE_SECONDS, settings.credentials_seconds / 2)
        if identity not in issued or expires[identity] - now < margin:
            role, session, account = tasks[identity]
            name = role.rsplit("/", 1)[-1]
            expires[identity] = now + settings.credentials_seconds
            key = {
                "AccessKeyId": "ASIA" + secrets.token_hex(8).upper(),
                "SecretAccessKey": secrets.token_hex(20),
                "Token": secrets.token_hex(32),
            }
            sts.register_session(
                key["AccessKeyId"],
                {
                    "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
                    "UserId": f"{name}:{session}",
                    "SecretAccessKey": key["SecretAccessKey"],
                    "SessionToken": key["Token"],
                    "Expiration": expires[identity],
                },
            )
            expiration = datetime.fromtimestamp(expires[identity], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            issued[identity] = {**key, "RoleArn": role, "Expiration": expiration}
        return issued[identity]

    handle = imds.handle_request

    async def handle_request(method: str, path: str, headers: Any, body: Any, query: Any) -> Any:
        identity = path.rsplit("/", 1)[-1] if path.startswith("/v2/credentials/") else ""
        if identity:
            given = str(headers.get("authorization", "")).encode()
            if identity not in tasks or not secrets.compare_digest(given, known[identity].encode()):
                return 403, {"Content-Type": "text/plain"}, b"Only a task may ask for its own credentials."
            return 200, {"Content-Type": "application/json"}, json.dumps(credentials(identity)).encode()
        return await handle(method, path, headers, body, query)

    ecs._register_metadata = with_role
    imds.handle_request = handle_request
