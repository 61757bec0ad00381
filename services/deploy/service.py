"""The ECS service after an apply and before a destroy: what runs, and why a deployment failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deploy.environments import Environment
from deploy.steps import Failed, Reporter

HEALTHY_WITHIN = 180
# After the last old task has stopped, ECS watches the alarms for some minutes (the bake time).
COMPLETED_WITHIN = 1800
# A task that ECS stops finishes its requests first: for 900 s, the largest deregistration delay that
# modules/load_balancer accepts, and then for 120 s, the largest stop timeout of ECS.
STOPPED_WITHIN = 900 + 120 + 60
PAUSE = 1
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

    def wait_until_completed(self, requested: str, log_group: str, report: Reporter) -> None:
        """Wait until ECS has completed the deployment of a task definition. Raise if it did not succeed.

        Terraform's apply ends earlier, and succeeds even after a rollback. ECS completes a deployment after
        it has watched the alarms for a while, and can roll it back until then:
        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
        """
        deadline = time.monotonic() + COMPLETED_WITHIN
        waits = False
        while True:
            service = self.describe()
            if service is None:
                raise Failed("there is no service", f"Run {self.environment.command('deploy')} again")
            current = _primary(service)
            state = current.get("rolloutState")
            if service["taskDefinition"] != requested or state == "FAILED":
                raise self._rolled_back(service, requested, log_group)
            if state == "COMPLETED":
                report.say(f"ECS has completed the deployment of {_short(requested)}")
                return
            if time.monotonic() > deadline:
                raise Failed(
                    f"ECS has not completed the deployment of {_short(requested)} in {COMPLETED_WITHIN} s: "
                    f"{current.get('rolloutStateReason', state)}",
                    f"See {self.environment.command('status')}. ECS can still roll it back",
                )
            if not waits:
                report.say("waiting until ECS completes the deployment; it watches the alarms until then")
                waits = True
            time.sleep(PAUSE)

    def _rolled_back(self, service: dict[str, Any], requested: str, log_group: str) -> Failed:
        asked, running = _short(requested), _short(service["taskDefinition"])
        causes = "\n".join(f"    {cause}" for cause in self.causes(service, requested, log_group))
        if running == asked:
            return Failed(
                f"the deployment of {asked} failed, and there is no earlier one to return to\n{causes}",
                "Correct the image or its settings and deploy again",
            )
        return Failed(
            f"the deployment was rolled back: {asked} was requested, {running} runs\n{causes}",
            "The previous tasks continue to serve. Correct the image or its settings and deploy again",
        )

    def watch(self, log_group: str) -> Callable[[], Failed | None]:
        """A check to repeat during an apply: it returns a failure once a new deployment cannot succeed.

        ECS has no earlier deployment to roll back to if none was ever completed. It starts no more tasks
        then, and Terraform would wait for a steady service until its own limit, up to 45 minutes.
        """
        before = {deployment["id"] for deployment in (self.describe() or {}).get("deployments", ())}

        def check() -> Failed | None:
            try:
                service = self.describe()
                current = _primary(service) if service else {}
                if not service or current.get("id") in before or current.get("rolloutState") != "FAILED":
                    return None
                return self._rolled_back(service, current["taskDefinition"], log_group)
            except (BotoCoreError, ClientError):
                return None  # Terraform reports what is wrong with AWS

        return check

    def image(self, task_definition: str) -> str:
        """The image of a task definition."""
        return str(self._container(task_definition)["image"])

    def bucket(self) -> str | None:
        """The data bucket of the deployment that ECS works towards, or None."""
        service = self.describe()
        return self._bucket_of(service["taskDefinition"]) if service else None

    def architecture(self) -> str | None:
        """The architecture of the tasks that ECS works towards, or None without a service."""
        service = self.describe()
        if service is None:
            return None
        platform = self._definition(service["taskDefinition"]).get("runtimePlatform") or {}
        return str(platform.get("cpuArchitecture", "X86_64")).lower()

    def buckets_in_use(self) -> set[str]:
        """The data buckets of the service, and of every task that has not stopped.

        A task that finishes its requests, or stops, is one of them.
        """
        service = self.describe()
        definitions = {service["taskDefinition"]} if service else set()
        # The desired status: a task that is still stopping is listed under STOPPED.
        for status in ("RUNNING", "STOPPED"):
            pages = self._ecs.get_paginator("list_tasks").paginate(cluster=self.cluster, desiredStatus=status)
            for arns in (page["taskArns"] for page in pages if page["taskArns"]):
                tasks = self._ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"]
                definitions |= {
                    task["taskDefinitionArn"] for task in tasks if task["lastStatus"] != "STOPPED"
                }
        return {bucket for arn in definitions if (bucket := self._bucket_of(arn))}

    def _bucket_of(self, task_definition: str) -> str | None:
        settings = self._container(task_definition).get("environment", ())
        return next((setting["value"] for setting in settings if setting["name"] == "BUCKET"), None)

    def _container(self, task_definition: str) -> dict[str, Any]:
        container: dict[str, Any] = self._definition(task_definition)["containerDefinitions"][0]
        return container

    def _definition(self, task_definition: str) -> dict[str, Any]:
        found = self._ecs.describe_task_definition(taskDefinition=task_definition)
        definition: dict[str, Any] = found["taskDefinition"]
        return definition

    def target_states(self, service: dict[str, Any]) -> list[str]:
        """The health of each target in the balancer."""
        elb = self.environment.client("elbv2")
        states: list[str] = []
        for balancer in service["loadBalancers"]:
            health = elb.describe_target_health(TargetGroupArn=balancer["targetGroupArn"])
            states += [target["TargetHealth"]["State"] for target in health["TargetHealthDescriptions"]]
        return states

    def completed(self) -> str | None:
        """The task definition of the deployment that is completed now, or None."""
        service = self.describe()
        if service is None or not service["runningCount"]:
            return None
        current = _primary(service)
        return str(current["taskDefinition"]) if current.get("rolloutState") == "COMPLETED" else None

    def bring_back(self, previous: str | None, log_group: str, report: Reporter) -> str:
        """Deploy the previous task definition again. Return a sentence about what serves now."""
        if previous is None:
            return "There is no earlier deployment to return to: the new tasks continue to run"
        service = self.describe()
        if service is not None and service["taskDefinition"] == previous:
            return "The task definition was not changed, so its tasks continue to run"
        report.say(f"bringing {_short(previous)} back")
        try:
            self._ecs.update_service(cluster=self.cluster, service=self.name, taskDefinition=previous)
            self.wait_until_completed(previous, log_group, report)
        except (ClientError, Failed) as error:
            return f"{_short(previous)} could not be brought back: {error}"
        return f"The previous tasks serve again: {_short(previous)}"

    def restore(self, minimum: int, report: Reporter) -> None:
        """Ask for the minimum number of tasks again after an interrupted `make destroy` set it to 0.

        Terraform leaves the number of tasks to the scaling.
        """
        service = self.describe()
        if service is not None and service["desiredCount"] < minimum:
            report.say(f"{service['desiredCount']} tasks were asked for; now {minimum}")
            self._ecs.update_service(cluster=self.cluster, service=self.name, desiredCount=minimum)

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
        deadline = time.monotonic() + HEALTHY_WITHIN
        while True:
            service = self.describe() or {"desiredCount": 0, "loadBalancers": []}
            states = self.target_states(service)
            if states.count("healthy") >= service["desiredCount"] > 0:
                report.say(f"{states.count('healthy')} tasks are healthy")
                return
            if time.monotonic() > deadline:
                raise Failed(
                    f"{states.count('healthy')} of {service['desiredCount']} healthy in {HEALTHY_WITHIN} s"
                    f" ({', '.join(states) or 'no targets'})",
                    self.environment.read_log,
                )
            time.sleep(PAUSE)

    def scale_to_zero(self, report: Reporter) -> None:
        """Stop all tasks, because the balancer and the instances wait for them when they are deleted."""
        service = self.describe()
        if service is None:
            report.say("there is no service")
            return
        self._ecs.update_service(cluster=self.cluster, service=self.name, desiredCount=0)
        deadline = time.monotonic() + STOPPED_WITHIN
        while service := self.describe():
            if service["desiredCount"]:  # automatic scaling has raised it again
                self._ecs.update_service(cluster=self.cluster, service=self.name, desiredCount=0)
            elif not service["runningCount"] and not service["pendingCount"]:
                report.say("no task runs")
                return
            if time.monotonic() > deadline:
                raise Failed(
                    f"after {STOPPED_WITHIN} s {service['runningCount']} tasks still run",
                    f"Run {self.environment.command('destroy')} again",
                )
            time.sleep(PAUSE)


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


def _primary(service: dict[str, Any]) -> dict[str, Any]:
    """The newest deployment of a service: the one that ECS works towards."""
    return next((entry for entry in service["deployments"] if entry.get("status") == "PRIMARY"), {})


def _short(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]
