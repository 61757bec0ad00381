"""A rolling update with an upload in progress: deregistration, the delay, SIGTERM, in the order of ECS.

Sources:
docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html, "Deregistration
delay": a deregistering target is `draining`, gets no new requests and finishes those in flight; without any,
the deregistration is complete at once.
docs.aws.amazon.com/AmazonECS/latest/developerguide/load-balancer-connection-draining.html: the agent waits
for the end of the deregistration before SIGTERM.
docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html: DEACTIVATING, in which
targets are deregistered, comes before STOPPING, in which containers get SIGTERM.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import docker
import pytest
import requests

from deploy.emulated_aws import tasks
from deploy.environments import Environment
from support.containers import of_cluster
from support.servers import SIGNING_KEY, until

pytestmark = pytest.mark.timeout(300)

NAME = "draining"
#: Between two looks at the service.
PAUSE = 0.1
#: The service ends this long after SIGTERM, and ECS kills it then, whatever it does.
GRACEFUL_SECONDS, STOP_SECONDS = 1, 2


class Rolled:
    """An ECS service of one task behind a load balancer."""

    def __init__(self, aws: Environment, engine: docker.DockerClient, group: str, definition: Any) -> None:
        assert aws.emulated is not None
        self.url = f"http://127.0.0.1:{aws.emulated.api_port}"
        self._aws, self._engine, self._group, self._definition = aws, engine, group, definition
        self._ecs = aws.client("ecs")

    def containers(self) -> list[Any]:
        assert self._aws.emulated is not None
        return of_cluster(tasks(self._engine, self._aws.emulated, every=False), NAME)

    def targets(self) -> dict[tuple[str, int], str]:
        """The states of the targets, by their addresses."""
        found = self._aws.client("elbv2").describe_target_health(TargetGroupArn=self._group)
        return {
            (entry["Target"]["Id"], entry["Target"]["Port"]): entry["TargetHealth"]["State"]
            for entry in found["TargetHealthDescriptions"]
        }

    def states(self) -> list[str]:
        return sorted(self.targets().values())

    def delay(self, seconds: int) -> None:
        self._aws.client("elbv2").modify_target_group_attributes(
            TargetGroupArn=self._group,
            Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": str(seconds)}],
        )

    def update(self) -> None:
        """Begin to replace the task by one of a new revision."""
        revision = self._ecs.register_task_definition(**self._definition)["taskDefinition"]
        self._ecs.update_service(cluster=NAME, service=NAME, taskDefinition=revision["taskDefinitionArn"])

    def stopping(self) -> str:
        """The status of the task that was told to stop last."""
        arns = self._ecs.list_tasks(cluster=NAME, desiredStatus="STOPPED")["taskArns"]
        found = self._ecs.describe_tasks(cluster=NAME, tasks=arns)["tasks"]
        return str(max(found, key=lambda task: task["createdAt"])["lastStatus"])

    def signals(self, container: Any, since: int) -> list[tuple[str, float]]:
        """The signals that the engine has sent to the container so far, with the times."""
        events = self._engine.api.events(
            since=since,
            until=int(time.time()) + 1,
            decode=True,
            filters={"container": container.id, "event": "kill"},
        )
        return [(event["Actor"]["Attributes"]["signal"], event["timeNano"] / 1e9) for event in events]

    @contextmanager
    def uploading(self, name: str) -> Iterator[tuple[threading.Event, Future[requests.Response]]]:
        """An upload through the load balancer that ends when the event is set, and its answer."""
        finish, begun = threading.Event(), threading.Event()

        def body() -> Iterator[bytes]:
            while not finish.wait(0.1):
                yield b"x" * 1000  # well above CLIENT_MIN_BYTES_PER_SECOND, on a busy machine too
                begun.set()

        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(requests.put, f"{self.url}/upload/{name}", data=body(), timeout=120)
            try:
                until(begun.is_set, "the upload's first bytes")
                yield finish, answer
            finally:
                finish.set()


@pytest.fixture(scope="module")
def rolled(aws: Environment, engine: docker.DockerClient, task_image: str) -> Iterator[Rolled]:
    """A deployed service. Everything is removed at the end."""
    assert aws.emulated is not None
    ecs, elb = aws.client("ecs"), aws.client("elbv2")
    group = elb.create_target_group(
        Name=NAME,
        Protocol="HTTP",
        Port=5000,
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=5,
        HealthyThresholdCount=2,
        UnhealthyThresholdCount=5,
    )["TargetGroups"][0]["TargetGroupArn"]
    balancer = elb.create_load_balancer(Name=NAME, Type="application")["LoadBalancers"][0]["LoadBalancerArn"]
    listener = elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=aws.emulated.listener,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )["Listeners"][0]["ListenerArn"]
    environment = {
        **aws.credentials,
        "BUCKET": aws.bucket,
        "AWS_REGION": aws.region,
        "HOST": "0.0.0.0",
        "PORT": "5000",
        "TRUSTED_PROXY_HOPS": "1",
        "ALLOW_ANONYMOUS": "true",
        "SIGNING_KEY": SIGNING_KEY,
        "DRAIN_SECONDS": "0",
        "GRACEFUL_SECONDS": str(GRACEFUL_SECONDS),
    }
    definition = {
        "family": NAME,
        "networkMode": "bridge",
        "requiresCompatibilities": ["EC2"],
        "containerDefinitions": [
            {
                "name": "api",
                "image": task_image,
                "essential": True,
                "memory": 384,
                "portMappings": [{"containerPort": 5000, "hostPort": 0, "protocol": "tcp"}],
                "environment": [{"name": name, "value": value} for name, value in environment.items()],
                "stopTimeout": STOP_SECONDS,
            }
        ],
    }
    ecs.create_cluster(clusterName=NAME)
    rolled = Rolled(aws, engine, group, definition)
    try:
        revision = ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
        ecs.create_service(
            cluster=NAME,
            serviceName=NAME,
            taskDefinition=revision,
            desiredCount=1,
            healthCheckGracePeriodSeconds=60,
            loadBalancers=[{"targetGroupArn": group, "containerName": "api", "containerPort": 5000}],
        )
        yield rolled
    finally:
        for arn in ecs.list_services(cluster=NAME)["serviceArns"]:
            ecs.delete_service(cluster=NAME, service=arn, force=True)
        elb.delete_listener(ListenerArn=listener)
        elb.delete_load_balancer(LoadBalancerArn=balancer)
        elb.delete_target_group(TargetGroupArn=group)
        until(lambda: not rolled.containers(), "the tasks' end", 60, PAUSE)
        ecs.delete_cluster(cluster=NAME)


def test_a_long_upload_survives_a_rolling_update(rolled: Rolled) -> None:
    """Its task drains until the upload is complete. Only then it gets SIGTERM, long before the delay is over.

    The upload lasts longer than the task has after SIGTERM.
    """
    rolled.delay(3600)
    until(lambda: rolled.states() == ["healthy"], "a healthy task", 60, PAUSE)
    [old] = rolled.containers()
    since = int(time.time())

    with rolled.uploading("long.bin") as (finish, answer):
        rolled.update()
        until(
            lambda: rolled.states() == ["draining", "healthy"], "a draining and a healthy target", 120, PAUSE
        )
        drains = time.monotonic()
        until(lambda: time.monotonic() > drains + 2 * (GRACEFUL_SECONDS + STOP_SECONDS), "a long upload")
        listed = [requests.get(f"{rolled.url}/", timeout=30).status_code for _ in range(5)]
        during = rolled.states(), rolled.stopping(), rolled.signals(old, since), answer.done()
        finish.set()
        uploaded = answer.result(60)

    until(lambda: rolled.states() == ["healthy"], "the end of the drain", 60, PAUSE)
    until(lambda: rolled.stopping() == "STOPPED", "the end of the task", 60, PAUSE)
    assert during == (["draining", "healthy"], "DEACTIVATING", [], False)
    assert listed == [200] * 5
    assert uploaded.status_code == 200
    assert rolled.signals(old, since)[0][0] == "15"
    assert old.id not in {container.id for container in rolled.containers()}


def test_a_task_gets_sigterm_when_the_delay_is_over(rolled: Rolled) -> None:
    """A request that lasts longer than the deregistration delay keeps the task until then, and no longer.

    The delay is set during the request: a change of the delay must not replace the balancer's process, which
    would not know the requests of the one before, and would end the drain at once.
    """
    delay = 10
    until(lambda: rolled.states() == ["healthy"], "a healthy task", 60, PAUSE)
    [old] = rolled.containers()
    [target] = rolled.targets()
    since = int(time.time())

    with rolled.uploading("too-long.bin") as (_, answer):
        rolled.delay(delay)
        rolled.update()
        registered = asked = time.time()
        while rolled.targets().get(target) == "healthy":
            assert asked < since + 180, "the task does not drain"
            time.sleep(PAUSE)
            registered, asked = asked, time.time()
        until(lambda: rolled.signals(old, since), "SIGTERM", 60, PAUSE)
        until(lambda: rolled.stopping() == "STOPPED", "the end of the task", 60, PAUSE)

    [(signal, at), *_] = rolled.signals(old, since)
    assert signal == "15"
    assert at - registered >= delay  # on a busy machine `registered` is earlier than the drain, never later
    assert answer.exception() or answer.result().status_code >= 500
