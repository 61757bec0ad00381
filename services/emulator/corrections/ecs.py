"""Corrections of ECS: its answers. Tasks are in `tasks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emulator.corrections.replacing import replace


def return_services_as_sent() -> None:
    """Keep a service's placement and zone rebalancing, and return no empty network configuration.

    MiniStack forgets the first two. The empty network configuration crashes version 5.100 of the provider.
    """
    from ministack.services import ecs

    sanitize = ecs._sanitize

    def without_empty_network(record: Any) -> Any:
        answer = sanitize(record)
        if isinstance(answer, dict) and "serviceArn" in answer and answer.get("networkConfiguration") == {}:
            del answer["networkConfiguration"]
        return answer

    ecs._sanitize = without_empty_network

    def remembering(handler: Callable[..., Any]) -> Callable[..., Any]:
        def handle(data: dict[str, Any]) -> Any:
            answer = handler(data)
            name = str(data.get("serviceName") or data.get("service", "")).rsplit("/", 1)[-1]
            service = ecs._services.get(f"{ecs._resolve_cluster_name(data.get('cluster', 'default'))}/{name}")
            if service is None or answer[0] >= 300:
                return answer
            for key in ("placementStrategy", "placementConstraints", "availabilityZoneRebalancing"):
                if key in data:
                    service[key] = data[key]
            service.setdefault("availabilityZoneRebalancing", "DISABLED")
            return ecs.json_response({"service": ecs._sanitize(service)})

        return handle

    for name in ("_create_service", "_update_service"):
        replace(ecs, name, remembering(getattr(ecs, name)))


def begin_first_deployments() -> None:
    """Let the first deployment of a service be in progress until its tasks are healthy.

    MiniStack completes it at once, so the circuit breaker never counts its failed tasks. On AWS it fails,
    stays the primary deployment, and starts no more tasks:
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
    """
    from ministack.services import ecs

    make = ecs._make_deployment

    def in_progress(task_definition: str, desired_count: int, status: str = "PRIMARY") -> Any:
        deployment = make(task_definition, desired_count, status)
        if desired_count:
            deployment |= {
                "rolloutState": "IN_PROGRESS",
                "rolloutStateReason": f"ECS deployment {deployment['id']} in progress.",
            }
        return deployment

    ecs._make_deployment = in_progress


def drop_failed_deployments() -> None:
    """Drop a failed deployment from a service after the rollback.

    MiniStack keeps it, so a client that waits for a steady service waits until it times out.
    """
    from ministack.services import ecs

    sanitize = ecs._sanitize

    def current(record: Any) -> Any:
        answer = sanitize(record)
        if isinstance(answer, dict) and "serviceArn" in answer and "deployments" in answer:
            primary: dict[str, Any] = next(
                (d for d in answer["deployments"] if d.get("status") == "PRIMARY"), {}
            )
            answer["deployments"] = [
                deployment
                for deployment in answer["deployments"]
                if deployment is primary
                or deployment.get("rolloutState") != "FAILED"
                or deployment.get("runningCount")
                or deployment.get("pendingCount")
                or primary.get("rolloutState") != "COMPLETED"
            ]
        return answer

    ecs._sanitize = current


def keep_managed_draining() -> None:
    """Keep `managedDraining` of a capacity provider.

    MiniStack forgets it, so every plan would set it again.
    """
    from ministack.services import ecs

    create = ecs._create_capacity_provider

    def keeping(data: dict[str, Any]) -> Any:
        answer = create(data)
        provider = ecs._capacity_providers.get(data.get("name", ""))
        draining = (data.get("autoScalingGroupProvider") or {}).get("managedDraining")
        if provider is None or not draining or answer[0] >= 300:
            return answer
        provider["autoScalingGroupProvider"]["managedDraining"] = draining
        return ecs.json_response({"capacityProvider": provider})

    replace(ecs, "_create_capacity_provider", keeping)
