"""Each correction of the emulated AWS, tested through a client. Without the correction its test fails."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from deploy.container_commands import run_in
from deploy.emulated_aws import permissions, tasks
from deploy.environments import EmulatedAws, Environment
from emulator.balancer import Group, Listener, configuration, group_of
from emulator.corrections.tasks import MIB, options_of
from support.containers import of_cluster
from support.servers import until

pytestmark = pytest.mark.timeout(300)

# Between two looks at a service. Each look takes 30 ms of processor time, here and in the emulator.
PAUSE = 0.25
GROUPS = "arn:aws:autoscaling:eu-west-1:000000000000:autoScalingGroup"
READ_CREDENTIALS = """
import os, urllib.request
url, token = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
print(urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": token})).read().decode())
"""
# A program that does not end when it is asked to.
IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
ASSUMED_BY_TASKS = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            }
        ],
    }
)


@pytest.fixture(scope="module")
def cluster(aws: Environment) -> Iterator[str]:
    ecs = aws.client("ecs")
    ecs.create_cluster(clusterName="corrections")
    yield "corrections"
    for arn in ecs.list_services(cluster="corrections")["serviceArns"]:
        ecs.delete_service(cluster="corrections", service=arn, force=True)
    ecs.delete_cluster(cluster="corrections")


def definition(aws: Environment, image: str, family: str, program: str, **more: Any) -> str:
    """Register a task definition with one container that runs a Python program; return its ARN."""
    container = {
        "name": "main",
        "image": image,
        "essential": True,
        "memory": 64,
        "entryPoint": ["python3"],
        "command": ["-c", program],
        **more.pop("container", {}),
    }
    ecs = aws.client("ecs")
    registered = ecs.register_task_definition(
        family=family,
        networkMode="bridge",
        requiresCompatibilities=["EC2"],
        containerDefinitions=[container],
        **more,
    )
    arn: str = registered["taskDefinition"]["taskDefinitionArn"]
    return arn


def emulated(aws: Environment) -> EmulatedAws:
    assert aws.emulated is not None
    return aws.emulated


def containers(
    engine: docker.DockerClient, aws: Environment, cluster: str, *, every: bool = True
) -> list[Any]:
    """The containers of one cluster's tasks. The tasks of the stack may run at the same time."""
    return of_cluster(tasks(engine, emulated(aws), every=every), cluster)


# --- HTTP

PRINT_KEEP_ALIVE = """
from hypercorn.config import Config
from emulator.corrections import http
http.outlast_idle_clients()
config = Config()
config.keep_alive_timeout = 75
print(config.keep_alive_timeout)
"""


def test_idle_connections_outlast_the_sdks(aws: Environment, engine: docker.DockerClient) -> None:
    """The server keeps idle connections longer than the SDK for Go (90 s), whatever its configuration."""
    container: Any = engine.containers.get(emulated(aws).name)

    ran = run_in(container, "python3", "-c", PRINT_KEEP_ALIVE)

    assert ran.status == 0, ran.output
    assert float(ran.stdout) > 90


# --- answers


def test_a_service_keeps_its_placement_and_has_no_empty_network(
    aws: Environment, cluster: str, task_image: str
) -> None:
    """A service returns its placement and zone rebalancing, and no empty network configuration."""
    ecs = aws.client("ecs")
    spread = [{"type": "spread", "field": "instanceId"}]
    ecs.create_service(
        cluster=cluster,
        serviceName="placed",
        taskDefinition=definition(aws, task_image, "placed", "pass"),
        desiredCount=0,
        placementStrategy=spread,
        availabilityZoneRebalancing="ENABLED",
    )

    service = ecs.describe_services(cluster=cluster, services=["placed"])["services"][0]

    assert service["placementStrategy"] == spread
    assert service["availabilityZoneRebalancing"] == "ENABLED"
    assert "networkConfiguration" not in service


def test_a_capacity_provider_keeps_managed_draining(aws: Environment) -> None:
    """A capacity provider returns `managedDraining` as it was set."""
    ecs = aws.client("ecs")
    ecs.create_capacity_provider(
        name="draining",
        autoScalingGroupProvider={
            "autoScalingGroupArn": f"{GROUPS}:1:autoScalingGroupName/a",
            "managedDraining": "ENABLED",
        },
    )

    found = ecs.describe_capacity_providers(capacityProviders=["draining"])["capacityProviders"][0]

    assert found["autoScalingGroupProvider"]["managedDraining"] == "ENABLED"


def test_an_alarm_is_told_in_full(aws: Environment) -> None:
    """DescribeAlarms over the Query protocol returns all fields that Terraform compares."""
    alarm = {
        "AlarmName": "whole",
        "AlarmDescription": "a < b & c",
        "ActionsEnabled": True,
        "AlarmActions": ["arn:aws:sns:eu-west-1:000000000000:topic"],
        "Namespace": "AWS/ApplicationELB",
        "MetricName": "HTTPCode_Target_5XX_Count",
        "Dimensions": [{"Name": "LoadBalancer", "Value": "app/a/b"}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 10.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    }
    aws.client("cloudwatch").put_metric_alarm(**alarm)
    request = urllib.request.Request(
        f"{emulated(aws).url}/",
        data=b"Action=DescribeAlarms&Version=2010-08-01&AlarmNames.member.1=whole",
        headers=signed_headers(aws, b"Action=DescribeAlarms&Version=2010-08-01&AlarmNames.member.1=whole"),
    )

    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()

    for part in (
        "<AlarmDescription>a &lt; b &amp; c</AlarmDescription>",
        "<Period>60</Period>",
        "<Statistic>Sum</Statistic>",
        "<TreatMissingData>notBreaching</TreatMissingData>",
        "<member>arn:aws:sns:eu-west-1:000000000000:topic</member>",
        "<Name>LoadBalancer</Name><Value>app/a/b</Value>",
        "<ActionsEnabled>true</ActionsEnabled>",
    ):
        assert part in text


def signed_headers(aws: Environment, body: bytes) -> dict[str, str]:
    request = AWSRequest(
        "POST",
        f"{emulated(aws).url}/",
        data=body,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    credentials = aws.session().get_credentials()
    assert credentials is not None
    SigV4Auth(credentials.get_frozen_credentials(), "monitoring", "eu-west-1").add_auth(request)
    return dict(request.headers)


def test_the_machine_image_of_ecs_is_there(aws: Environment) -> None:
    """The public parameter with the machine image of ECS exists."""
    name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"

    value = aws.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]

    assert value.startswith("ami-")


def test_an_endpoint_keeps_its_policy(aws: Environment) -> None:
    """A VPC endpoint returns its policy."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:<&>"}]})
    made = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName="com.amazonaws.eu-west-1.s3", PolicyDocument=policy)
    identity = made["VpcEndpoint"]["VpcEndpointId"]

    found = ec2.describe_vpc_endpoints(VpcEndpointIds=[identity])["VpcEndpoints"][0]

    ec2.delete_vpc_endpoints(VpcEndpointIds=[identity])
    ec2.delete_vpc(VpcId=vpc)
    assert found["PolicyDocument"] == policy


def test_a_repository_is_where_the_engine_reaches_it_and_goes_with_its_images(
    aws: Environment, engine: docker.DockerClient
) -> None:
    """An image can be pushed to the repository's URI, pulled by digest, and goes with the repository."""
    ecr = aws.client("ecr")
    uri = ecr.create_repository(repositoryName="round")["repository"]["repositoryUri"]
    assert engine.images.get("debian:trixie-slim").tag(uri, "one")
    login = token_of(aws)
    digest = ""
    for event in engine.api.push(uri, "one", stream=True, decode=True, auth_config=login):
        assert "error" not in event, event
        digest = (event.get("aux") or {}).get("Digest", digest)

    pulled = engine.images.pull(f"{uri}@{digest}", auth_config=login)
    ecr.delete_repository(repositoryName="round", force=True)
    ecr.create_repository(repositoryName="round")

    engine.images.remove(f"{uri}:one", noprune=True)
    assert uri.startswith(f"127.0.0.1:{emulated(aws).aws_port}/")
    assert pulled.id == engine.images.get("debian:trixie-slim").id
    layer = pulled.attrs["RepoDigests"]
    assert layer
    gone = requests.head(
        f"{emulated(aws).url}/v2/round/manifests/{digest}",
        auth=(login["username"], login["password"]),
        timeout=10,
    )
    assert gone.status_code == 404
    ecr.delete_repository(repositoryName="round")


def token_of(aws: Environment) -> dict[str, str]:
    """The user and password from ECR for `docker login`."""
    token = aws.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    return {"username": user, "password": password}


# --- permissions


def test_a_policy_is_enforced_on_what_the_emulator_knows(
    aws: Environment, engine: docker.DockerClient
) -> None:
    """A user may do exactly what its policy allows, also on AWS's public parameters.

    Its actions are recorded.
    """
    iam = aws.client("iam")
    iam.create_user(UserName="limited")
    allowed = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "ssm:GetParameter",
                    "elasticloadbalancing:DescribeLoadBalancers",
                    "ecs:CreateCluster",
                ],
                "Resource": ["arn:aws:ssm:*::parameter/aws/service/ecs/*", "arn:aws:ecs:*:*:cluster/day02*"],
            }
        ],
    }
    iam.put_user_policy(UserName="limited", PolicyName="p", PolicyDocument=json.dumps(allowed))
    key = iam.create_access_key(UserName="limited")["AccessKey"]
    limited = Environment(
        "local",
        "",
        "",
        emulated=aws.emulated,
        credentials={
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        },
    )

    limited.client("ssm").get_parameter(
        Name="/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
    )
    limited.client("elbv2").describe_load_balancers()
    with pytest.raises(ClientError, match="ecs:ListClusters"):
        limited.client("ecs").list_clusters()
    with pytest.raises(ClientError, match="AccessDenied"):
        limited.client("ssm").get_parameter(Name="/day02/signing_key")

    mine = {
        (action, ok) for user, action, ok in permissions(engine, emulated(aws)) if user == key["AccessKeyId"]
    }
    assert ("elasticloadbalancing:DescribeLoadBalancers", True) in mine
    assert ("ecs:ListClusters", False) in mine


# --- tasks


def test_a_task_is_run_as_it_is_defined(
    aws: Environment, cluster: str, engine: docker.DockerClient, task_image: str
) -> None:
    """The engine gets limits, user, root, tmpfs, capabilities, init and volumes; the task gets its role.

    It also gets its secret as text, and what DNS says on AWS: where AWS is, and where clients reach S3. Its
    time for failing health checks is scaled as the checks are. StopTask does not wait for the task's end.
    """
    aws.client("iam").create_role(RoleName="tasks", AssumeRolePolicyDocument=ASSUMED_BY_TASKS)
    aws.client("ssm").put_parameter(Name="/tasks/secret", Type="SecureString", Value="[1]")
    arn = definition(
        aws,
        task_image,
        "defined",
        IGNORES_SIGTERM,
        taskRoleArn="arn:aws:iam::000000000000:role/tasks",
        volumes=[{"name": "v", "dockerVolumeConfiguration": {"scope": "task", "driver": "local"}}],
        container={
            "memoryReservation": 32,
            "cpu": 128,
            "environment": [{"name": "DRAIN_SECONDS", "value": "30"}],
            "secrets": [
                {
                    "name": "SECRET",
                    "valueFrom": "arn:aws:ssm:eu-west-1:000000000000:parameter/tasks/secret",
                }
            ],
            "user": "10001",
            "readonlyRootFilesystem": True,
            "dockerSecurityOptions": ["no-new-privileges"],
            "mountPoints": [{"sourceVolume": "v", "containerPath": "/srv/data"}],
            "linuxParameters": {
                "capabilities": {"drop": ["ALL"]},
                "initProcessEnabled": True,
                "tmpfs": [{"containerPath": "/scratch", "size": 16, "mountOptions": ["noexec"]}],
            },
            "stopTimeout": 120,
        },
    )
    ecs = aws.client("ecs")
    task = ecs.run_task(cluster=cluster, taskDefinition=arn)["tasks"][0]["taskArn"]
    container = until(
        lambda: next(iter(containers(engine, aws, cluster, every=False)), None), "the task", 120
    )
    host = container.attrs["HostConfig"]

    ran = run_in(container, "python3", "-c", READ_CREDENTIALS)

    until(lambda: b"ready" in container.logs(), "the task's program", 120)
    ecs.stop_task(cluster=cluster, task=task)
    container.reload()
    after_stop_task = container.status
    container.kill("SIGKILL")
    until(lambda: not containers(engine, aws, cluster), "the container's end", 120)
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (64 * MIB, 64 * MIB, 32 * MIB)
    assert (host["CpuShares"], host["ReadonlyRootfs"], host["Init"]) == (128, True, True)
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert host["Tmpfs"] == {"/scratch": "size=16m,noexec"}
    assert {
        "SECRET=[1]",
        "DRAIN_SECONDS=3.0",
        f"AWS_ENDPOINT_URL=http://{emulated(aws).address}:4566",
        f"S3_PUBLIC_ENDPOINT_URL={emulated(aws).url}",
    } <= set(container.attrs["Config"]["Env"])
    assert container.attrs["Config"]["User"] == "10001"
    assert "/srv/data" in [mount["Destination"] for mount in container.attrs["Mounts"]]
    assert ran.status == 0, ran.output
    credentials = json.loads(ran.stdout)
    assert credentials["RoleArn"] == "arn:aws:iam::000000000000:role/tasks"
    assert credentials["Expiration"]
    assert after_stop_task == "running"


def test_a_deployment_of_tasks_that_die_is_rolled_back(
    aws: Environment, cluster: str, engine: docker.DockerClient, task_image: str
) -> None:
    """A deployment whose tasks end after two seconds fails, and the previous one is the only one left."""
    ecs = aws.client("ecs")
    lives = definition(
        aws, task_image, "rolled", "import time; time.sleep(600)", container={"stopTimeout": 1}
    )
    dies = definition(aws, task_image, "rolled", "import time; time.sleep(2)", container={"stopTimeout": 1})
    ecs.create_service(
        cluster=cluster,
        serviceName="rolled",
        taskDefinition=lives,
        desiredCount=1,
        deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
    )

    def service() -> dict[str, Any]:
        found: dict[str, Any] = ecs.describe_services(cluster=cluster, services=["rolled"])["services"][0]
        return found

    until(lambda: service()["runningCount"] == 1, "the first task", 120, PAUSE)
    until(lambda: rollouts(aws, cluster, "rolled") == ["COMPLETED"], "a deployment to return to", 120, PAUSE)
    time_begun = time.monotonic()

    ecs.update_service(cluster=cluster, service="rolled", taskDefinition=dies)
    until(
        lambda: service()["taskDefinition"] == lives and len(service()["deployments"]) == 1,
        "the deployment before, alone",
        90,
        PAUSE,
    )

    ecs.update_service(cluster=cluster, service="rolled", desiredCount=0)
    assert time.monotonic() - time_begun > 5
    until(lambda: not containers(engine, aws, cluster, every=False), "the tasks' end", 120, PAUSE)


def rollouts(aws: Environment, cluster: str, name: str) -> list[str]:
    """The states of the service's deployments, the primary first."""
    found = aws.client("ecs").describe_services(cluster=cluster, services=[name])["services"][0]
    ordered = sorted(found["deployments"], key=lambda deployment: deployment["status"] != "PRIMARY")
    return [deployment["rolloutState"] for deployment in ordered]


def test_a_first_deployment_of_tasks_that_die_fails_and_stays(
    aws: Environment, cluster: str, engine: docker.DockerClient, task_image: str
) -> None:
    """It is in progress, fails after three tasks, starts no more, and has nothing to roll back to.

    Source: docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
    """
    ecs = aws.client("ecs")
    dies = definition(aws, task_image, "first", "import time; time.sleep(1)", container={"stopTimeout": 1})
    created = ecs.create_service(
        cluster=cluster,
        serviceName="first",
        taskDefinition=dies,
        desiredCount=1,
        deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
    )["service"]

    assert [deployment["rolloutState"] for deployment in created["deployments"]] == ["IN_PROGRESS"]
    until(lambda: rollouts(aws, cluster, "first") == ["FAILED"], "the failed deployment, alone", 120, PAUSE)

    ecs.update_service(cluster=cluster, service="first", desiredCount=0)
    until(lambda: not tasks(engine, emulated(aws), every=False), "the tasks' end", 120, PAUSE)


def test_an_alarm_during_the_bake_time_rolls_back(
    aws: Environment, cluster: str, engine: docker.DockerClient, task_image: str
) -> None:
    """A deployment whose tasks are steady is in progress until its alarms were quiet for a while.

    Source: docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
    """
    ecs, cloudwatch = aws.client("ecs"), aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="day02-baked",
        Namespace="day02",
        MetricName="errors",
        ComparisonOperator="GreaterThanThreshold",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
    )
    before, after = (
        definition(
            aws, task_image, "baked", f"import time; time.sleep({seconds})", container={"stopTimeout": 1}
        )
        for seconds in (600, 601)
    )

    def service() -> dict[str, Any]:
        found: dict[str, Any] = ecs.describe_services(cluster=cluster, services=["baked"])["services"][0]
        return found

    def runs(revision: str) -> int:
        deployment = next(d for d in service()["deployments"] if d["taskDefinition"] == revision)
        return int(deployment["runningCount"])

    ecs.create_service(
        cluster=cluster,
        serviceName="baked",
        taskDefinition=before,
        desiredCount=1,
        deploymentConfiguration={
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
            "alarms": {"alarmNames": ["day02-baked"], "enable": True, "rollback": True},
        },
    )
    try:
        until(lambda: rollouts(aws, cluster, "baked") == ["COMPLETED"], "the first deployment", 60, PAUSE)

        ecs.update_service(cluster=cluster, service="baked", taskDefinition=after)
        until(lambda: runs(after) == 1, "the new task", 120, PAUSE)
        cloudwatch.set_alarm_state(AlarmName="day02-baked", StateValue="ALARM", StateReason="a test")

        until(
            lambda: (
                service()["taskDefinition"] == before and rollouts(aws, cluster, "baked") == ["COMPLETED"]
            ),
            "the deployment before, alone",
            60,
            PAUSE,
        )
    finally:
        cloudwatch.delete_alarms(AlarmNames=["day02-baked"])
        ecs.update_service(cluster=cluster, service="baked", desiredCount=0)
        until(lambda: not tasks(engine, emulated(aws), every=False), "the tasks' end", 120, PAUSE)


# --- without an emulator


GROUP = Group(
    "arn:aws:elasticloadbalancing:eu-west-1:0:targetgroup/day02-tg/ab1", "/readyz", "200", 3, 3, 2, 2, "x"
)


def test_a_target_group_balances_as_recorded() -> None:
    """Path, codes, thresholds, algorithm and scaled times are those of the target group."""
    record = {
        "TargetGroupArn": GROUP.arn,
        "HealthCheckPath": "/readyz",
        "Matcher": {"HttpCode": "200-299"},
        "HealthCheckIntervalSeconds": 30,
        "HealthCheckTimeoutSeconds": 10,
        "HealthyThresholdCount": 2,
        "UnhealthyThresholdCount": 5,
    }

    group = group_of(record, {"load_balancing.algorithm.type": "least_outstanding_requests"}, 10)
    written = configuration((Listener(5000, group, 60),), Path("/control"))

    assert (group.interval, group.timeout, group.rise, group.fall) == (3.0, 3.0, 2, 5)
    assert "bind :5000" in written
    assert "balance leastconn" in written
    assert "uri /readyz" in written
    assert "expect status 200-299" in written
    assert "inter 3000ms fastinter 1000ms rise 2 fall 5" in written
    # As on AWS, checks that get no answer begin one interval apart.
    assert replace(group, interval=30, timeout=10).interval_after_failure == 20


def test_the_balancer_understands_its_configuration(aws: Environment, engine: docker.DockerClient) -> None:
    """HAProxy's own check accepts it."""
    container = engine.containers.get(emulated(aws).name)
    written = configuration((Listener(5000, GROUP, 60),), Path("/tmp/control")).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("written.cfg")
        entry.size = len(written)
        tar.addfile(entry, io.BytesIO(written))
    container.put_archive("/tmp", archive.getvalue())

    ran = run_in(container, "haproxy", "-c", "-f", "/tmp/written.cfg")

    assert ran.status == 0, ran.output


def test_a_container_without_limits_gets_none() -> None:
    """Settings that a task definition does not contain are not sent to the engine."""
    options = options_of({}, {"name": "main"}, 10)

    assert "mem_limit" not in options
    assert "cpu_shares" not in options
    assert options["healthcheck"] == {"test": ["NONE"]}
    assert options["mounts"] == []
