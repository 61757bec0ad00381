"""Rollouts of ECS: they wait for healthy tasks and quiet alarms, and unhealthy tasks are replaced.

MiniStack counts a running task as healthy and never replaces an unhealthy one. AWS waits during a rollout
until the tasks are healthy in the engine and in the load balancer. After the grace period it stops an
unhealthy task, replaces it and counts it for the circuit breaker. Where a service names alarms, AWS completes
a deployment only after they were quiet for a while, and rolls it back if one is in the state ALARM before:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from emulator.balancer import Balancer
from emulator.settings import Settings, grace

logger = logging.getLogger("scheduler")

# A task must stay up this long after its start before its deployment counts as steady.
STEADY_SECONDS = 5.0
# How long the alarms must be quiet after the tasks are steady, divided by the time scale.
BAKE_SECONDS = 60.0
# Between two looks at the containers of a task. MiniStack looks ten times a second, with two calls of the
# engine each, which takes a fifth of a processor while two tasks run.
INSPECT_SECONDS = 0.5


def start(settings: Settings, balancer: Balancer) -> None:
    """Make rollouts wait for healthy tasks, and start the thread that replaces unhealthy ones."""
    from ministack.services import ecs

    scheduler = _Scheduler(ecs, balancer, settings.time_scale)
    record_healthy = ecs._record_service_task_healthy

    def when_healthy(service_key: str, task: dict[str, Any]) -> None:
        while ecs._task_is_active(task["taskArn"], task) and task["taskArn"] not in scheduler.seen_healthy:
            time.sleep(0.1)
        record_healthy(service_key, task)

    ecs._ECS_DEPLOYMENT_STEADY_DELAY = STEADY_SECONDS
    ecs._record_service_task_healthy = when_healthy
    ecs._complete_service_deployment = scheduler.complete_after_bake_time
    ecs._maybe_mark_stopped = _at_intervals(ecs._maybe_mark_stopped)
    threading.Thread(target=scheduler.run, daemon=True, name="task-health").start()


def _at_intervals(inspect: Callable[..., None]) -> Callable[..., None]:
    """Inspect the containers of a task unless it was done less than `INSPECT_SECONDS` ago."""
    inspected: dict[str, float] = {}

    def inspect_again(task: dict[str, Any], client: Any = None) -> None:
        arn, now = task.get("taskArn", ""), time.monotonic()
        if now - inspected.get(arn, float("-inf")) >= INSPECT_SECONDS:
            inspected[arn] = now
            inspect(task, client)

    return inspect_again


class _Scheduler:
    """Checks the tasks of every service, remembers which have been healthy, and stops the unhealthy ones."""

    def __init__(self, ecs: Any, balancer: Balancer, time_scale: float) -> None:
        self.seen_healthy: set[str] = set()
        self._short: set[str] = set()
        self._ecs = ecs
        self._balancer = balancer
        self._time_scale = time_scale
        self._complete = ecs._complete_service_deployment
        self._steady_since: dict[str, float] = {}  # by the deployment's id

    def run(self) -> None:
        while True:
            time.sleep(0.5)
            try:
                self._check_services()
            except Exception:
                logger.exception("The health of the tasks could not be checked; the next round tries again")

    def _check_services(self) -> None:
        from ministack.core.responses import request_scope

        for (account, region, key), service in self._ecs._services.all_items():
            if service.get("status") != "ACTIVE":
                continue
            with request_scope(account, region):
                self._replace_stopped(key, service)
                self._watch_alarms(key, service)
                for task in list(self._ecs._tasks.values()):
                    mine = task.get("group") == f"service:{service['serviceName']}"
                    running = task.get("lastStatus") == "RUNNING"
                    if mine and running and self._ecs._task_is_active(task["taskArn"], task):
                        self._check_task(task, service)

    def _replace_stopped(self, key: str, service: dict[str, Any]) -> None:
        """Start the missing tasks of a service: MiniStack does not replace a task that was stopped by hand.

        The first round only notes that tasks are missing, so that MiniStack can start them itself.
        """
        group, states = f"service:{service['serviceName']}", self._ecs._PRE_STOP_STATUSES
        tasks = [task for task in self._ecs._tasks.values() if task.get("group") == group]
        missing = sum(task.get("lastStatus") in states for task in tasks) < service["desiredCount"]
        if missing and key in self._short:
            self._ecs._reconcile_service_tasks(key.split("/", 1)[0], key)
        if missing:
            self._short.add(key)
        else:
            self._short.discard(key)

    def complete_after_bake_time(
        self, cluster: str, key: str, expected_deployment_id: str | None = None
    ) -> None:
        """Complete a steady deployment, at once if the service names no alarms."""
        service = self._ecs._services.get(key)
        deployment = _watched(service) if service else None
        if service is None or deployment is None or not self._is_steady(service, deployment):
            self._complete(cluster, key, expected_deployment_id)
            return
        steady_since = self._steady_since.setdefault(deployment["id"], time.monotonic())
        if time.monotonic() - steady_since >= BAKE_SECONDS / self._time_scale:
            self._complete(cluster, key, expected_deployment_id)

    def _is_steady(self, service: dict[str, Any], deployment: dict[str, Any]) -> bool:
        tasks = self._tasks_of(service, deployment)
        wanted: int = service["desiredCount"]
        return sum(bool(task.get("_startup_stable")) for task in tasks) >= wanted

    def _tasks_of(self, service: dict[str, Any], deployment: dict[str, Any]) -> list[dict[str, Any]]:
        group = f"service:{service['serviceName']}"
        return [
            task
            for task in self._ecs._tasks.values()
            if task.get("group") == group
            and task.get("clusterArn") == service.get("clusterArn")
            and task.get("_deployment_id") == deployment["id"]
            and task.get("lastStatus") == "RUNNING"
        ]

    def _watch_alarms(self, key: str, service: dict[str, Any]) -> None:
        """Roll back a deployment with an alarm in the state ALARM. Complete one after its bake time."""
        from ministack.services import cloudwatch

        deployment = _watched(service)
        if deployment is None or not (tasks := self._tasks_of(service, deployment)):
            return
        names = service["deploymentConfiguration"]["alarms"]["alarmNames"]
        if any((cloudwatch._alarms.get(name) or {}).get("StateValue") == "ALARM" for name in names):
            # MiniStack's circuit breaker carries out the rollback.
            deployment["failedTasks"] = self._ecs._circuit_breaker_threshold(service)
            self._ecs._record_service_task_failure(tasks[0])
            deployment["rolloutStateReason"] = "ECS deployment failed: alarm detected."
        elif deployment["id"] in self._steady_since:
            self.complete_after_bake_time(key.split("/", 1)[0], key, deployment["id"])

    def _check_task(self, task: dict[str, Any], service: dict[str, Any]) -> None:
        healthy, reason = self._health(task, service)
        task["healthStatus"] = "HEALTHY" if healthy else "UNHEALTHY" if reason else "UNKNOWN"
        allowed = grace(float(service.get("healthCheckGracePeriodSeconds") or 0), self._time_scale)
        started = task.get("startedAt")
        age = time.time() - self._ecs._ts_to_epoch(started) if started else 0.0
        if healthy:
            self.seen_healthy.add(task["taskArn"])
        elif reason and (age > allowed or task["taskArn"] in self.seen_healthy):
            self._stop(task, service, reason)

    def _health(self, task: dict[str, Any], service: dict[str, Any]) -> tuple[bool, str]:
        """Whether the task is healthy, or why not. (False, "") means that the checks have no result yet."""
        address = self._ecs._task_ip(task) or ""
        for balanced in service.get("loadBalancers") or ():
            if group := balanced.get("targetGroupArn"):
                health = self._balancer.health(group, address)
                if health.state == "unhealthy":
                    return False, f"Task failed ELB health checks in (target-group {group}): {health.reason}"
                if health.state != "healthy":
                    return False, ""
        for identity in task.get("_docker_ids") or ():
            state = self._ecs._get_docker().api.inspect_container(identity)["State"]
            match state.get("Health", {}).get("Status"):
                case "unhealthy":
                    return False, "Task failed container health checks"
                case "starting":
                    return False, ""
        return True, ""

    def _stop(self, task: dict[str, Any], service: dict[str, Any], reason: str) -> None:
        ecs, arn = self._ecs, task["taskArn"]
        if not ecs._mark_task_stopped(arn, task, reason, "ServiceSchedulerInitiated"):
            return
        message = f"(service {service['serviceName']}) (task {arn.rsplit('/', 1)[-1]}) {reason}"
        service["events"].insert(0, {"id": ecs.new_uuid(), "createdAt": ecs._iso(), "message": message})
        ecs._cleanup_task_resources(task, ecs._get_docker())
        ecs._record_service_task_failure(task)


def _watched(service: dict[str, Any]) -> dict[str, Any] | None:
    """The deployment whose alarms ECS watches: it is in progress, and is no rollback."""
    alarms = (service.get("deploymentConfiguration") or {}).get("alarms") or {}
    for deployment in service["deployments"] if alarms.get("enable") else ():
        rolling_back = "rollback" in deployment.get("rolloutStateReason", "")
        if (
            deployment["status"] == "PRIMARY"
            and deployment.get("rolloutState") == "IN_PROGRESS"
            and not rolling_back
        ):
            found: dict[str, Any] = deployment
            return found
    return None
