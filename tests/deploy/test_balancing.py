"""The load balancer's settings at work, without ECS: two containers, run as day02's plan defines its tasks.

The balancer has the health check, the algorithm and the timeouts of the plan. The interval of checks and the
drain are a tenth of the plan's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import docker
import pytest
import requests
from docker.errors import NotFound

from deploy.container_commands import run_in
from deploy.environments import Environment
from deploy.image import build
from deploy.steps import Reporter
from emulator.balancer import group_of
from emulator.corrections.tasks import options_of
from infra.terraform import Workspace, after
from support.servers import SIGNING_KEY, until
from support.traffic import HANG, NOTICED_WITHIN, Traffic

pytestmark = pytest.mark.timeout(300)

ROOT = "envs/day02"
# Between two looks at the health of a task: each takes 30 ms of processor time, in the emulator too.
PAUSE = 0.1


@dataclass
class Pair:
    """Two tasks behind a balancer, and Terraform's plan for them, by address."""

    planned: dict[str, dict[str, Any]]
    aws: Environment
    engine: docker.DockerClient
    group: str = ""
    url: str = ""
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def definition(self) -> dict[str, Any]:
        """The task definition, in the form of a request to ECS."""
        planned = self.planned["module.service.aws_ecs_task_definition.this"]
        return {
            "containerDefinitions": json.loads(planned["container_definitions"]),
            "volumes": [
                {
                    "name": volume["name"],
                    "dockerVolumeConfiguration": volume["docker_volume_configuration"][0],
                }
                for volume in planned["volume"]
            ],
        }

    @property
    def container(self) -> dict[str, Any]:
        found: dict[str, Any] = self.definition["containerDefinitions"][0]
        return found

    @property
    def health_check(self) -> dict[str, Any]:
        found: dict[str, Any] = self.target_group["health_check"][0]
        return found

    @property
    def target_group(self) -> dict[str, Any]:
        return self.planned["module.load_balancer.aws_lb_target_group.this"]

    @property
    def scale(self) -> int:
        assert self.aws.emulated is not None
        return self.aws.emulated.time_scale

    @property
    def stop_seconds(self) -> int:
        seconds: int = self.container["stopTimeout"]
        return seconds

    @property
    def noticed_seconds(self) -> float:
        """The time until a silent target gets no more requests: an interval, then the failed checks."""
        group = group_of(
            {
                "TargetGroupArn": self.group,
                "HealthCheckPath": self.health_check["path"],
                "Matcher": {"HttpCode": self.health_check["matcher"]},
                "HealthCheckIntervalSeconds": self.health_check["interval"],
                "HealthCheckTimeoutSeconds": self.health_check["timeout"],
                "HealthyThresholdCount": self.health_check["healthy_threshold"],
                "UnhealthyThresholdCount": self.health_check["unhealthy_threshold"],
            },
            {},
            self.scale,
        )
        return group.interval + group.fall * group.timeout + (group.fall - 1) * group.interval_after_failure

    def start(self, drain: float | None = None) -> Any:
        """Start a task as the plan defines it, and wait until the balancer finds it healthy.

        `drain` replaces a tenth of the plan's DRAIN_SECONDS.
        """
        assert self.aws.emulated is not None
        planned = {entry["name"]: entry["value"] for entry in self.container["environment"]}
        drain = int(planned["DRAIN_SECONDS"]) / self.scale if drain is None else drain
        name = f"{self.aws.emulated.name}-{time.monotonic_ns()}"
        task: Any = self.engine.containers.run(
            self.aws.image,
            detach=True,
            name=name,
            labels={"pair": self.aws.emulated.name},
            network=self.aws.emulated.name,
            environment={
                **planned,
                **self.aws.credentials,
                "BUCKET": self.aws.bucket,
                "AWS_ENDPOINT_URL": f"http://{self.aws.emulated.address}:4566",
                "SIGNING_KEY": SIGNING_KEY,
                "DRAIN_SECONDS": str(drain),
            },
            **options_of(self.definition, self.container, self.scale),
        )
        task.reload()
        self.addresses[task.name] = task.attrs["NetworkSettings"]["Networks"][self.aws.emulated.name][
            "IPAddress"
        ]
        self.aws.client("elbv2").register_targets(TargetGroupArn=self.group, Targets=[self.target(task)])
        until(lambda: self.health(task) == "healthy", "a healthy task", 120, PAUSE)
        return task

    def target(self, task: Any) -> dict[str, Any]:
        return {"Id": self.addresses[task.name], "Port": 5000}

    def ready(self, task: Any) -> str:
        """What the task answers to its readiness check."""
        return requests.get(f"http://{self.addresses[task.name]}:5000/readyz", timeout=10).text

    def health(self, task: Any) -> str:
        found = self.aws.client("elbv2").describe_target_health(
            TargetGroupArn=self.group, Targets=[self.target(task)]
        )
        return str(found["TargetHealthDescriptions"][0]["TargetHealth"]["State"])

    def deregister(self, task: Any) -> None:
        self.aws.client("elbv2").deregister_targets(TargetGroupArn=self.group, Targets=[self.target(task)])

    def tasks(self) -> list[Any]:
        assert self.aws.emulated is not None
        found: list[Any] = self.engine.containers.list(
            all=True, filters={"label": f"pair={self.aws.emulated.name}"}
        )
        return found


@pytest.fixture(scope="module")
def balanced(aws: Environment, engine: docker.DockerClient, workspace: Workspace) -> Iterator[Pair]:
    """A balancer with the plan's values on the emulated AWS. It and all tasks are removed at the end."""
    assert aws.emulated is not None
    build(engine, Reporter(), aws.image)
    pair = Pair(after(workspace.test(ROOT).plans["plan"]), aws, engine)
    asked, check = pair.target_group, pair.health_check
    elb = aws.client("elbv2")
    pair.group = elb.create_target_group(
        Name="pair",
        Protocol="HTTP",
        Port=asked["port"],
        HealthCheckPath=check["path"],
        Matcher={"HttpCode": check["matcher"]},
        HealthCheckIntervalSeconds=check["interval"],
        HealthCheckTimeoutSeconds=check["timeout"],
        HealthyThresholdCount=check["healthy_threshold"],
        UnhealthyThresholdCount=check["unhealthy_threshold"],
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.modify_target_group_attributes(
        TargetGroupArn=pair.group,
        Attributes=[
            {"Key": "load_balancing.algorithm.type", "Value": asked["load_balancing_algorithm_type"]},
            {"Key": "deregistration_delay.timeout_seconds", "Value": str(asked["deregistration_delay"])},
        ],
    )
    balancer = elb.create_load_balancer(Name="pair", Type="application")["LoadBalancers"][0][
        "LoadBalancerArn"
    ]
    elb.modify_load_balancer_attributes(
        LoadBalancerArn=balancer,
        Attributes=[
            {
                "Key": "idle_timeout.timeout_seconds",
                "Value": str(pair.planned["module.load_balancer.aws_lb.this"]["idle_timeout"]),
            }
        ],
    )
    listener = elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=pair.planned["module.load_balancer.aws_lb_listener.this"]["port"],
        DefaultActions=[{"Type": "forward", "TargetGroupArn": pair.group}],
    )["Listeners"][0]["ListenerArn"]
    pair.url = f"http://127.0.0.1:{aws.emulated.api_port}"
    try:
        yield pair
    finally:
        for task in pair.tasks():
            with suppress(NotFound):
                task.remove(force=True, v=True)
        elb.delete_listener(ListenerArn=listener)
        elb.delete_load_balancer(LoadBalancerArn=balancer)
        elb.delete_target_group(TargetGroupArn=pair.group)


@pytest.fixture
def pair(balanced: Pair) -> Iterator[Pair]:
    """Two healthy tasks. They are replaced after a test that has changed one."""
    while len(balanced.tasks()) < 2:
        balanced.start()
    yield balanced
    for task in balanced.tasks():
        task.reload()
        if task.status != "running" or balanced.health(task) != "healthy":
            balanced.deregister(task)
            task.remove(force=True, v=True)


def test_a_draining_task_finishes_what_it_began(pair: Pair) -> None:
    """A task that is deregistered and stopped ends in time, with status 0, and fails no request."""
    leaving = pair.tasks()[0]
    with Traffic(pair.url, big_writers=1) as traffic:
        traffic.until(300)
        pair.deregister(leaving)
        leaving.stop(timeout=pair.stop_seconds)
        traffic.until(traffic.made + 500)

    leaving.reload()
    assert traffic.failures == []
    assert traffic.lost() == []
    assert leaving.attrs["State"]["ExitCode"] == 0


def test_a_task_that_the_balancer_still_asks_fails_its_check_first(pair: Pair) -> None:
    """A task that is stopped but not deregistered serves while its readiness check fails."""
    leaving = pair.start(drain=10)  # the test needs a part of this time
    with Traffic(pair.url) as traffic:
        traffic.until(300)
        leaving.kill("SIGTERM")
        until(lambda: "draining" in pair.ready(leaving), "readiness to fail", 10)
        traffic.until(traffic.made + 100)
        during = list(traffic.failures)
        pair.deregister(leaving)
        leaving.wait(timeout=pair.stop_seconds + 30)
        traffic.until(traffic.made + 200)

    assert during == []
    assert traffic.failures == []


def test_a_hung_task_is_left_alone_once_its_checks_fail(pair: Pair) -> None:
    """A task that hangs (SIGSTOP) loses its current requests, and none after its checks have failed."""
    hanging = pair.tasks()[0]
    with Traffic(pair.url, timeout=10) as traffic:
        traffic.until(300)
        run_in(hanging, "python3", "-c", HANG)
        hung = time.monotonic()
        until(lambda: pair.health(hanging) == "unhealthy", "failed checks", 60, PAUSE)
        noticed = time.monotonic() - hung
        traffic.until(traffic.made + 500)

    late = [fate for fate in traffic.failures if fate.begun > hung + noticed]
    assert late == []
    assert len(traffic.failures) <= traffic.clients * 2
    assert traffic.lost() == []
    # Timer resolution and a poll of the balancer's statistics, on a busy machine.
    assert noticed <= pair.noticed_seconds + 3
    print(f"{len(traffic.failures)} of {traffic.made} requests lost, noticed after {noticed:.1f} s")


def test_a_dead_task_loses_only_what_it_had_under_way(pair: Pair) -> None:
    """A task that dies (SIGKILL) loses its current requests, but no acknowledged upload."""
    dying = pair.tasks()[0]
    with Traffic(pair.url) as traffic:
        traffic.until(300)
        dying.kill("SIGKILL")
        dying.wait()  # its workers answer until the kernel has ended them
        dead = time.monotonic()
        traffic.until(traffic.made + 500)

    assert [fate for fate in traffic.failures if fate.begun > dead + NOTICED_WITHIN] == []
    assert len(traffic.failures) <= traffic.clients
    assert traffic.lost() == []
    print(f"{len(traffic.failures)} of {traffic.made} requests lost")


def test_the_times_fit_each_other(balanced: Pair) -> None:
    """A task may end its requests before it is killed. ECS sends SIGTERM after the deregistration delay."""
    planned = {entry["name"]: entry["value"] for entry in balanced.container["environment"]}

    stop = int(planned["DRAIN_SECONDS"]) + int(planned["GRACEFUL_SECONDS"])
    assert int(balanced.target_group["deregistration_delay"]) > 0
    assert stop < balanced.container["stopTimeout"] <= 120
