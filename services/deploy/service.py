"""The ECS service after an apply: whether what runs is what was asked for, and if not, why; and its end."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from deploy.environments import BILLING_REGION, REGION, Environment
from deploy.steps import Failed, Reporter

HEALTHY_WITHIN = 180
SCALED_WITHIN = 300
AUDITED_WITHIN = 60
_BATCH = 10  # DeleteTaskDefinitions takes no more


class Service:
    """The service of an environment, by the outputs of its stack."""

    def __init__(self, environment: Environment, cluster: str, name: str) -> None:
        self.environment = environment
        self.cluster = cluster
        self.name = name
        self._ecs = environment.client("ecs")

    def describe(self) -> dict[str, Any] | None:
        """The service, or None where there is none."""
        try:
            found = self._ecs.describe_services(cluster=self.cluster, services=[self.name])["services"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ClusterNotFoundException":
                return None
            raise
        return next((service for service in found if service["status"] == "ACTIVE"), None)

    def check(self, asked: str, log_group: str) -> None:
        """Raise unless the task definition asked for is the one that runs. Apply succeeds either way."""
        service = self.describe()
        if service is None:
            raise Failed("there is no service", "Deploy again")
        running = service["taskDefinition"]
        if running == asked and len(service["deployments"]) == 1:
            return
        causes = self.causes(service, asked, log_group)
        raise Failed(
            f"the deployment was rolled back: {_short(asked)} was asked for, {_short(running)} runs\n"
            + "\n".join(f"    {cause}" for cause in causes),
            "The tasks from before go on serving. Mend the image or its settings and deploy again",
        )

    def causes(self, service: dict[str, Any], asked: str, log_group: str) -> list[str]:
        """Why tasks of a task definition did not stay: what ECS says, and what they said last."""
        reasons: dict[str, str] = {}
        arns = self._ecs.list_tasks(cluster=self.cluster, desiredStatus="STOPPED")["taskArns"]
        tasks = self._ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []
        for task in tasks:
            if task["taskDefinitionArn"] != asked:
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
            found += [f"  it said: {line}" for line in self._last_lines(log_group, arn.rsplit("/", 1)[-1])]
        found += [event["message"] for event in service.get("events", ())[:3]]
        return found

    def _last_lines(self, log_group: str, task: str, lines: int = 5) -> list[str]:
        try:
            events = self.environment.client("logs").get_log_events(
                logGroupName=log_group, logStreamName=f"api/api/{task}", limit=lines
            )["events"]
        except ClientError:
            return []  # a task that never started said nothing
        return [event["message"][:300] for event in events]

    def wait_until_healthy(self, report: Reporter) -> None:
        """Until the balancer sends requests to as many tasks as were asked for."""
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
                    f"Look at what they say: make logs ENV={self.environment.name}",
                )
            time.sleep(1)

    def scale_to_zero(self, report: Reporter) -> None:
        """No task left: what the balancer and the instances wait for."""
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
                    f"after {SCALED_WITHIN} s {service['runningCount']} tasks still run", "Destroy again"
                )
            time.sleep(1)


def delete_task_definitions(environment: Environment) -> int:
    """Remove what Terraform only deregisters: every revision of the family; how many there were."""
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


def audit(environment: Environment) -> list[str]:
    """The ARNs of what is left of the stack by its tags, once what AWS forgets slowly is forgotten."""
    deadline = time.monotonic() + AUDITED_WITHIN
    while (left := _tagged(environment)) and time.monotonic() < deadline:
        time.sleep(2)
    return left


def _tagged(environment: Environment) -> list[str]:
    filters = [
        {"Key": "project_name", "Values": ["day02"]},
        {"Key": "environment", "Values": [environment.name]},
    ]
    left: list[str] = []
    for region in (REGION, BILLING_REGION):
        pages = environment.client("resourcegroupstaggingapi", region).get_paginator("get_resources")
        for page in pages.paginate(TagFilters=filters):
            left += [entry["ResourceARN"] for entry in page["ResourceTagMappingList"]]
    return sorted(arn for arn in set(left) if _exists(environment, arn))


def _exists(environment: Environment, arn: str) -> bool:
    """Whether what has the tag is there: ECS goes on showing what it has deleted, as inactive."""
    if ":ecs:" not in arn:
        return True
    ecs = environment.client("ecs")
    kind, _, rest = arn.split(":", 5)[5].partition("/")
    if kind == "task-definition":
        try:
            return bool(
                ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["status"] == "ACTIVE"
            )
        except ClientError:
            return False
    if kind == "cluster":
        return any(
            cluster["status"] == "ACTIVE" for cluster in ecs.describe_clusters(clusters=[arn])["clusters"]
        )
    if kind == "service":
        try:
            found = ecs.describe_services(cluster=rest.split("/")[0], services=[arn])["services"]
        except ClientError:
            return False
        return any(service["status"] == "ACTIVE" for service in found)
    if kind == "capacity-provider":
        return any(
            cp["status"] == "ACTIVE"
            for cp in ecs.describe_capacity_providers(capacityProviders=[arn])["capacityProviders"]
        )
    return True


def count_objects(environment: Environment) -> int:
    pages = environment.client("s3").get_paginator("list_objects_v2").paginate(Bucket=environment.bucket)
    return sum(len(page.get("Contents", ())) for page in pages)


def _short(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]
