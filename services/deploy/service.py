"""The ECS service after an apply and before a destroy: what runs, and why a deployment failed."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from deploy.environments import Environment
from deploy.steps import Failed, Reporter

HEALTHY_WITHIN = 180
SCALED_WITHIN = 300
_BATCH = 10  # the most that DeleteTaskDefinitions accepts


class Service:
    """The ECS service of an environment."""

    def __init__(self, environment: Environment, cluster: str, name: str) -> None:
        self.environment = environment
        self.cluster = cluster
        self.name = name
        self._ecs = environment.client("ecs")

    def describe(self) -> dict[str, Any] | None:
        """The active service, or None."""
        try:
            found = self._ecs.describe_services(cluster=self.cluster, services=[self.name])["services"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ClusterNotFoundException":
                return None
            raise
        return next((service for service in found if service["status"] == "ACTIVE"), None)

    def check(self, requested: str, log_group: str) -> None:
        """Raise unless the requested task definition runs.

        Terraform's apply succeeds even after a rollback.
        """
        service = self.describe()
        if service is None:
            raise Failed("there is no service", "Run make deploy again")
        running = service["taskDefinition"]
        if running == requested and len(service["deployments"]) == 1:
            return
        causes = self.causes(service, requested, log_group)
        raise Failed(
            f"the deployment was rolled back: {_short(requested)} was requested, {_short(running)} runs\n"
            + "\n".join(f"    {cause}" for cause in causes),
            "The previous tasks continue to serve. Correct the image or its settings and deploy again",
        )

    def causes(self, service: dict[str, Any], requested: str, log_group: str) -> list[str]:
        """Why the tasks of a task definition stopped: the reasons of ECS, and the tasks' last log lines."""
        reasons: dict[str, str] = {}
        arns = self._ecs.list_tasks(cluster=self.cluster, desiredStatus="STOPPED")["taskArns"]
        tasks = self._ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []
        for task in tasks:
            if task["taskDefinitionArn"] != requested:
                continue
            codes = {
                container["exitCode"]
                for container in task["containers"]
                if container.get("exitCode") is not None
            }
            exits = f" (exit status {', '.join(map(str, sorted(codes)))})" if codes else ""
            reasons.setdefault(f"{task.get('stoppedReason', 'stopped')}{exits}", task["taskArn"])
        found = [f"task {arn.rsplit('/', 1)[-1]}: {reason}" for reason, arn in reasons.items()]
        for arn in list(reasons.values())[:1]:
            found += [f"  log: {line}" for line in self._last_lines(log_group, arn.rsplit("/", 1)[-1])]
        found += [event["message"] for event in service.get("events", ())[:3]]
        return found

    def _last_lines(self, log_group: str, task: str, lines: int = 5) -> list[str]:
        try:
            events = self.environment.client("logs").get_log_events(
                logGroupName=log_group, logStreamName=f"api/api/{task}", limit=lines
            )["events"]
        except ClientError:
            return []  # a task that never started has no log
        return [event["message"][:300] for event in events]

    def wait_until_healthy(self, report: Reporter) -> None:
        """Wait until the balancer finds as many healthy tasks as the service should have."""
        elb = self.environment.client("elbv2")
        deadline = time.monotonic() + HEALTHY_WITHIN
        while True:
            service = self.describe() or {"desiredCount": 0, "loadBalancers": []}
            states: list[str] = []
            for balancer in service["loadBalancers"]:
                health = elb.describe_target_health(TargetGroupArn=balancer["targetGroupArn"])
                states += [target["TargetHealth"]["State"] for target in health["TargetHealthDescriptions"]]
            if states.count("healthy") >= service["desiredCount"] > 0:
                report.say(f"{states.count('healthy')} tasks are healthy")
                return
            if time.monotonic() > deadline:
                raise Failed(
                    f"{states.count('healthy')} of {service['desiredCount']} healthy in {HEALTHY_WITHIN} s"
                    f" ({', '.join(states) or 'no targets'})",
                    f"Read their log: make logs ENV={self.environment.name}",
                )
            time.sleep(1)

    def scale_to_zero(self, report: Reporter) -> None:
        """Stop all tasks, because the balancer and the instances wait for them when they are deleted."""
        service = self.describe()
        if service is None:
            report.say("there is no service")
            return
        self._ecs.update_service(cluster=self.cluster, service=self.name, desiredCount=0)
        deadline = time.monotonic() + SCALED_WITHIN
        while service := self.describe():
            if not service["runningCount"] and not service["pendingCount"]:
                report.say("no task runs")
                return
            if time.monotonic() > deadline:
                raise Failed(
                    f"after {SCALED_WITHIN} s {service['runningCount']} tasks still run",
                    "Run make destroy again",
                )
            time.sleep(1)


def delete_task_definitions(environment: Environment) -> int:
    """Delete every revision of the task definition, which Terraform only deregisters. Return their number."""
    ecs = environment.client("ecs")
    gone: set[str] = set()
    for status in ("ACTIVE", "INACTIVE"):
        pages = ecs.get_paginator("list_task_definitions").paginate(
            familyPrefix=environment.project, status=status
        )
        for arn in [arn for page in pages for arn in page["taskDefinitionArns"]]:
            if arn.rsplit("/", 1)[-1].rsplit(":", 1)[0] != environment.project:
                continue  # day02 is a prefix of day02-prod
            if status == "ACTIVE":
                ecs.deregister_task_definition(taskDefinition=arn)
            gone.add(arn)
    ordered = sorted(gone)
    for start in range(0, len(ordered), _BATCH):
        ecs.delete_task_definitions(taskDefinitions=ordered[start : start + _BATCH])
    return len(gone)


def count_objects(environment: Environment) -> int:
    pages = environment.client("s3").get_paginator("list_objects_v2").paginate(Bucket=environment.bucket)
    return sum(len(page.get("Contents", ())) for page in pages)


def _short(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]
