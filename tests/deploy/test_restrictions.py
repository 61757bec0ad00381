"""What the emulated AWS refuses: tasks, calls of the engine, tokens, requests. Needs no Docker."""

from __future__ import annotations

import base64
import ipaddress
import json
from typing import Any

import pytest
from docker.models import containers as sdk
from docker.types import Mount
from docker.types.containers import ContainerConfig

from deploy.iam_policies import actions
from emulator.entrance import Entrance, Network
from emulator.registry import VALID_SECONDS, Tokens
from emulator.restrictions import (
    SERVICES,
    Limits,
    explanation,
    refused_call,
    refused_in_definition,
    refused_in_overrides,
)
from guard.guard import Answer
from guard.signatures import Request, Secret

LIMITS = Limits("127.0.0.1:4566", "day02-aws")
IMAGE = f"127.0.0.1:4566/day02@sha256:{'a' * 64}"
#: The container of modules/service/task.tf.
CONTAINER: dict[str, Any] = {
    "name": "api",
    "image": IMAGE,
    "essential": True,
    "cpu": 256,
    "memoryReservation": 256,
    "memory": 384,
    "portMappings": [{"containerPort": 5000, "hostPort": 0, "protocol": "tcp"}],
    "environment": [{"name": "PORT", "value": "5000"}],
    "secrets": [{"name": "SIGNING_KEY", "valueFrom": "arn:aws:ssm:eu-west-1:000000000000:parameter/x"}],
    "user": "10001",
    "readonlyRootFilesystem": True,
    "dockerSecurityOptions": ["no-new-privileges"],
    "linuxParameters": {
        "capabilities": {"drop": ["ALL"]},
        "initProcessEnabled": True,
        "tmpfs": [{"containerPath": "/tmp", "size": 16, "mountOptions": ["noexec"]}],
    },
    "mountPoints": [{"sourceVolume": "staging", "containerPath": "/srv/uploads", "readOnly": False}],
    "healthCheck": {"command": ["CMD", "true"], "interval": 30},
    "stopTimeout": 60,
    "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}},
    "systemControls": [],
    "volumesFrom": [],
}
DEFINITION: dict[str, Any] = {
    "family": "day02",
    "networkMode": "bridge",
    "requiresCompatibilities": ["EC2"],
    "taskRoleArn": "arn:aws:iam::000000000000:role/s3_access",
    "containerDefinitions": [CONTAINER],
    "volumes": [{"name": "staging", "dockerVolumeConfiguration": {"scope": "task", "driver": "local"}}],
}

# --- ECS


def test_the_stacks_own_task_may_run() -> None:
    """The stack's own task definition is accepted."""
    assert refused_in_definition(DEFINITION, LIMITS) == []
    assert refused_in_definition({**DEFINITION, "volumes": [{"name": "v", "host": {}}]}, LIMITS) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"networkMode": "host"}, "networkMode host"),
        ({"networkMode": "none"}, "networkMode none"),
        ({"pidMode": "host"}, "pidMode host"),
        ({"pidMode": "task"}, "pidMode task"),
        ({"ipcMode": "host"}, "ipcMode host"),
        ({"proxyConfiguration": {"type": "APPMESH"}}, "proxyConfiguration"),
        ({"inferenceAccelerators": [{"deviceName": "d"}]}, "inferenceAccelerators"),
        ({"volumes": [{"name": "v", "host": {"sourcePath": "/"}}]}, "volume v: host.sourcePath"),
        ({"volumes": [{"Name": "v", "Host": {"SourcePath": "/"}}]}, "volume ?: Host"),
        (
            {"volumes": [{"name": "v", "dockerVolumeConfiguration": {"scope": "shared"}}]},
            "volume v: dockerVolumeConfiguration.scope other than task",
        ),
        (
            {"volumes": [{"name": "v", "dockerVolumeConfiguration": {"driver": "rexray"}}]},
            "volume v: dockerVolumeConfiguration.driver other than local",
        ),
        (
            {"volumes": [{"name": "v", "dockerVolumeConfiguration": {"driverOpts": {"o": "bind"}}}]},
            "volume v: dockerVolumeConfiguration.driverOpts",
        ),
        (
            {"volumes": [{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs"}}]},
            "volume v: efsVolumeConfiguration",
        ),
        ({"volumes": [{"name": "v", "configuredAtLaunch": True}]}, "volume v: configuredAtLaunch"),
    ],
)
def test_a_definition_that_reaches_out_is_refused(change: dict[str, Any], named: str) -> None:
    """Every setting with which a task could reach this machine is refused, and named in the error."""
    assert named in explanation(refused_in_definition({**DEFINITION, **change}, LIMITS))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"privileged": True}, "privileged"),
        ({"Privileged": True}, "Privileged"),
        ({"linuxParameters": {"capabilities": {"add": ["SYS_ADMIN"]}}}, "linuxParameters.capabilities.add"),
        ({"linuxParameters": {"Capabilities": {"Add": ["ALL"]}}}, "linuxParameters.Capabilities"),
        ({"LinuxParameters": {"capabilities": {"add": ["ALL"]}}}, "LinuxParameters"),
        ({"linuxParameters": {"devices": [{"hostPath": "/dev/sda"}]}}, "linuxParameters.devices"),
        ({"dockerSecurityOptions": ["apparmor:unconfined"]}, "dockerSecurityOptions apparmor:unconfined"),
        ({"dockerSecurityOptions": ["label:disable"]}, "dockerSecurityOptions label:disable"),
        ({"systemControls": [{"namespace": "kernel.x", "value": "1"}]}, "systemControls"),
        ({"extraHosts": [{"hostname": "h", "ipAddress": "127.0.0.1"}]}, "extraHosts"),
        ({"volumesFrom": [{"sourceContainer": "other"}]}, "volumesFrom"),
        ({"links": ["other"]}, "links"),
        ({"resourceRequirements": [{"type": "GPU", "value": "1"}]}, "resourceRequirements"),
        ({"repositoryCredentials": {"credentialsParameter": "x"}}, "repositoryCredentials"),
    ],
)
def test_a_container_that_reaches_out_is_refused(change: dict[str, Any], named: str) -> None:
    """This includes names that MiniStack accepts in another case than AWS."""
    asked = {**DEFINITION, "containerDefinitions": [{**CONTAINER, **change}]}

    assert refused_in_definition(asked, LIMITS) == [f"container api: {named}"]


@pytest.mark.parametrize(
    "image",
    [
        "",
        "debian:trixie-slim",
        "day02-aws:local",
        f"sha256:{'a' * 64}",
        f"evil.test/day02@sha256:{'a' * 64}",
        f"127.0.0.1:4566.evil.test/day02@sha256:{'a' * 64}",
        f"127.0.0.1:45660/day02@sha256:{'a' * 64}",
        "127.0.0.1:4566/day02:latest",
        f"127.0.0.1:4566/../evil/x@sha256:{'a' * 64}",
        f"127.0.0.1:4566/day02@sha256:{'a' * 64}\n",
    ],
)
def test_images_are_those_of_the_registry(image: str) -> None:
    """An image from another registry is refused, and so is one by tag, because a tag can move."""
    asked = {**DEFINITION, "containerDefinitions": [{**CONTAINER, "image": image}]}

    assert "image" in refused_in_definition(asked, LIMITS)[0]


def test_overrides_add_no_more_than_a_command() -> None:
    """Overrides in RunTask are restricted in the same way."""
    harmless = {"name": "api", "command": ["true"], "environment": [{"name": "A", "value": "b"}]}

    assert refused_in_overrides({"overrides": {"containerOverrides": [harmless]}}) == []
    assert refused_in_overrides({"overrides": {"taskRoleArn": "arn"}}) == ["overrides: taskRoleArn"]
    assert refused_in_overrides({"volumeConfigurations": [{"name": "v"}]}) == ["volumeConfigurations"]
    assert refused_in_overrides(
        {"overrides": {"containerOverrides": [{**harmless, "privileged": True}]}}
    ) == ["overrides of api: privileged"]


def test_the_services_are_those_of_the_stack() -> None:
    """They are the services that a deployer uses. The plan of the account is asked for on AWS only."""
    signed = {"cloudwatch": "monitoring", "tag": "tagging"}
    used = {action.partition(":")[0] for action in actions()} - {"freetier"}

    assert {signed.get(name, name) for name in used} == SERVICES


# --- the engine


def created(**options: Any) -> bytes:
    """The request of the SDK that creates a container, with a task's options unless others are given."""
    task: dict[str, Any] = {
        "image": IMAGE,
        "detach": True,
        "command": None,
        "environment": {"A": "b"},
        "ports": {"5000/tcp": ("127.0.0.1", None)},
        "labels": {"ministack": "ecs"},
        "privileged": False,
        "network": "day02-aws",
        "read_only": True,
        "security_opt": ["no-new-privileges"],
        "cap_drop": ["ALL"],
        "init": True,
        "tmpfs": {"/tmp": "size=16m"},
        "cpu_shares": 256,
        "mem_reservation": 256 << 20,
        "mem_limit": 384 << 20,
        "memswap_limit": 384 << 20,
        "mounts": [Mount("/srv/uploads", None, type="volume")],
        "healthcheck": {"test": ["NONE"]},
    }
    arguments = sdk._create_container_args(  # type: ignore[attr-defined]
        {**task, **options, "version": "1.44"}
    )
    arguments.pop("platform", None)
    return json.dumps(ContainerConfig("1.44", **arguments)).encode()


def test_the_engine_makes_tasks() -> None:
    """The SDK's request for the stack's task is allowed."""
    assert refused_call("POST", "/v1.44/containers/create?name=x", created(), LIMITS) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"privileged": True}, "Privileged"),
        ({"volumes": ["/:/host:rw"]}, "Binds"),
        ({"volumes": {"day02-aws-data": {"bind": "/data"}}}, "Binds"),
        ({"mounts": [Mount("/host", "/", type="bind")]}, "Mounts bind"),
        ({"mounts": [Mount("/x", "day02-aws-data", type="volume")]}, "Mounts Source"),
        ({"cap_add": ["SYS_ADMIN"]}, "CapAdd"),
        ({"pid_mode": "host"}, "PidMode"),
        ({"ipc_mode": "host"}, "IpcMode"),
        ({"uts_mode": "host"}, "UTSMode"),
        ({"userns_mode": "host"}, "UsernsMode"),
        ({"cgroupns": "host"}, "CgroupnsMode"),
        ({"cgroup_parent": "/"}, "CgroupParent"),
        ({"devices": ["/dev/sda"]}, "Devices"),
        ({"device_cgroup_rules": ["a *:* rwm"]}, "DeviceCgroupRules"),
        ({"sysctls": {"kernel.x": "1"}}, "Sysctls"),
        ({"security_opt": ["seccomp=unconfined"]}, "SecurityOpt"),
        ({"volumes_from": ["day02-aws"]}, "VolumesFrom"),
        ({"extra_hosts": {"host": "host-gateway"}}, "ExtraHosts"),
        ({"runtime": "other"}, "Runtime"),
        ({"network": None, "network_mode": "host", "ports": None}, "NetworkMode host"),
        ({"network": None, "network_mode": "container:day02-aws"}, "NetworkMode container:day02-aws"),
        ({"network": "bridge"}, "NetworkMode bridge"),
        ({"ports": {"5000/tcp": 5000}}, "PortBindings"),
        ({"publish_all_ports": True}, "PublishAllPorts"),
        ({"image": "debian:trixie-slim"}, "Image debian:trixie-slim"),
        ({"labels": {"ministack": "lambda"}}, "a container that is not a task"),
    ],
)
def test_the_engine_makes_nothing_else(options: dict[str, Any], named: str) -> None:
    """Every option with which a container could reach the machine is refused in the SDK's request."""
    refused = refused_call("POST", "/v1.44/containers/create", created(**options), LIMITS)

    assert any(entry.startswith(named) for entry in refused), refused


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1.44/build?t=x"),
        ("POST", "/v1.44/images/create?fromImage=alpine&tag=latest"),
        ("POST", f"/v1.44/images/create?fromImage=127.0.0.1%3A4566%2Fday02&fromSrc=-&tag=sha256:{'a' * 64}"),
        ("POST", "/v1.44/images/load"),
        ("POST", "/v1.44/containers/x/exec"),
        ("POST", "/v1.44/exec/x/start"),
        ("PUT", "/v1.44/containers/x/archive?path=/"),
        ("GET", "/v1.44/containers/x/archive?path=/"),
        ("GET", "/v1.44/images/x/get"),
        ("POST", "/v1.44/volumes/create"),
        ("DELETE", "/v1.44/volumes/day02-aws-data"),
        ("POST", "/v1.44/networks/bridge/connect"),
        ("POST", "/v1.44/swarm/init"),
        ("POST", "/v1.44/plugins/pull?remote=x"),
        ("POST", "/containers/x/../create"),
        ("GET", "/v1.44/images/../containers/x/json"),
    ],
)
def test_the_engine_is_asked_for_nothing_else(method: str, target: str) -> None:
    """Builds, foreign images, commands in containers, their files, volumes and networks are refused."""
    assert refused_call(method, target, b"{}", LIMITS)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/version"),
        ("GET", "/v1.44/containers/json?all=1"),
        ("GET", "/v1.44/containers/day02-aws/json"),
        ("POST", "/v1.44/containers/x/start"),
        ("POST", "/v1.44/containers/x/stop?t=30"),
        ("DELETE", "/v1.44/containers/x?v=True&force=True"),
        ("GET", f"/v1.44/images/127.0.0.1:4566/day02@sha256:{'a' * 64}/json"),
        ("POST", f"/v1.44/images/create?tag=sha256%3A{'a' * 64}&fromImage=127.0.0.1%3A4566%2Fday02"),
    ],
)
def test_what_tasks_need_of_the_engine_stays_open(method: str, target: str) -> None:
    """Pulls from the registry, and start, inspection and removal of a container, are allowed."""
    assert refused_call(method, target, b"", LIMITS) == []


# --- the registry


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token_opens_the_registry_for_twelve_hours() -> None:
    """A password of ECR is valid until it expires. Others, and MiniStack's own, are refused."""
    now = 1_000_000.0
    tokens = Tokens(lambda: now)
    password, expires = tokens.issue()

    assert tokens.accept(basic("AWS", password))
    assert tokens.accept(basic("AWS", tokens.for_tasks))
    assert expires == now + VALID_SECONDS
    refused = (
        "",
        "Basic",
        "Basic %%%",
        f"Bearer {password}",
        basic("root", password),
        basic("AWS", "ministack-auth-token"),
        basic("AWS", ""),
    )
    for authorization in refused:
        assert not tokens.accept(authorization)
    now += VALID_SECONDS
    assert not tokens.accept(basic("AWS", password))


# --- requests of tasks


def guard(secret: str = "s") -> Entrance:
    return Entrance(
        hosts=frozenset({"127.0.0.1:4566", "169.254.170.2:4566"}),
        origins=frozenset({"http://127.0.0.1:5000"}),
        secret_of=lambda key: Secret(secret) if key == "KEY" else None,
        services=SERVICES,
        tokens=Tokens(),
        network=Network(ipaddress.IPv4Network("169.254.170.0/28")),
        is_registry=lambda path: path.startswith("/v2/") and "/blobs/" in path,
        key_read=lambda _: "KEY",
    )


def asked(path: str, client: str, **headers: str) -> Request:
    fields = {"host": "169.254.170.2:4566", **headers}
    return Request(
        "GET",
        path.encode(),
        b"",
        [(n.replace("_", "-").encode(), v.encode()) for n, v in fields.items()],
        client,
    )


CREDENTIALS = "/v2/credentials/0e5c"


def test_a_task_asks_for_its_credentials_without_a_signature() -> None:
    """A request from the tasks' network, as an SDK sends it, is allowed."""
    assert guard().decide(asked(CREDENTIALS, "169.254.170.3")) is None
    assert guard().decide(asked("/v4/token/task", "169.254.170.3")) is None


@pytest.mark.parametrize(
    "request_",
    [
        asked(CREDENTIALS, "169.254.170.1"),
        asked(CREDENTIALS, "169.254.170.17"),
        asked(CREDENTIALS, "127.0.0.1"),
        asked(CREDENTIALS, ""),
        asked(CREDENTIALS, "169.254.170.3", origin="http://evil.test"),
        asked(CREDENTIALS, "169.254.170.3", origin="http://127.0.0.1:5000"),
        asked(CREDENTIALS, "169.254.170.3", referer="http://127.0.0.1:5000/"),
        asked(CREDENTIALS, "169.254.170.3", sec_fetch_site="none"),
        asked(CREDENTIALS, "169.254.170.3", host="evil.test"),
        asked("/v4/token", "169.254.170.1"),
    ],
)
def test_nobody_else_has_them(request_: Request) -> None:
    """Requests from this machine, from another network, and from a browser are refused."""
    answer = guard().decide(request_)

    assert isinstance(answer, Answer)
    assert answer.status == 403


def test_the_registry_asks_for_a_token() -> None:
    """Without a token, the answer is the challenge that makes an engine send its token."""
    refused = guard().decide(asked("/v2/day02/blobs/sha256:x", "169.254.170.1"))

    assert isinstance(refused, Answer)
    assert refused.status == 401
    assert refused.headers == ((b"www-authenticate", b'Basic realm="ECR"'),)


def test_the_registry_is_closed_to_pages_before_it_asks() -> None:
    """A page of another origin is refused, even with a token."""
    door = guard()
    known = basic("AWS", door.tokens.for_tasks)

    foreign = door.decide(
        asked("/v2/x/blobs/y", "169.254.170.1", authorization=known, origin="http://evil.test")
    )

    assert isinstance(foreign, Answer)
    assert foreign.status == 403
    assert door.decide(asked("/v2/x/blobs/y", "169.254.170.1", authorization=known)) is None
