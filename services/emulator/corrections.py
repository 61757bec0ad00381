"""What MiniStack 1.5.33 does otherwise than AWS, and this stack depends on, put right in process.

Each correction is a function here, and has a test in tests/deploy. No file of the package is changed; another
version of it may need others, so its lock pins it.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from emulator.authorization import calls_are_checked_on_each_resource
from emulator.balancer import Balancer
from emulator.registry import USER, Tokens
from guard.ministack import forms_are_checked

logger = logging.getLogger("corrections")

MIB = 1024 * 1024
SECOND = 1_000_000_000  # the engine counts nanoseconds
ECS_AMI_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
# A task that served for this long after it came up did not come up by accident.
STEADY_SECONDS = 5.0
# Starting is not faster because the clocks are: a task has this long at least before it must be healthy.
LEAST_START_SECONDS = 20.0
# ECS refreshes a task's credentials well before they expire; so do the SDKs.
REFRESH_BEFORE_SECONDS = 600
KEEP_ALIVE_SECONDS = 600.0
_STOP_LABEL = "stop-timeout"


@dataclass(frozen=True)
class Settings:
    """How the emulator is reached, and how fast its clocks run.

    `address` is its own on the tasks' network: one from which the AWS SDKs take a task's credentials.
    Health checks and grace periods are `time_scale` times shorter than what was asked for.
    """

    address: str
    port: str
    registry: str
    time_scale: float
    credentials_seconds: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        port = environment.get("GATEWAY_PORT", "4566")
        return cls(
            address=environment.get("TASK_AWS_ADDRESS", "169.254.170.2"),
            port=port,
            registry=environment.get("REGISTRY_HOST", f"127.0.0.1:{port}"),
            time_scale=float(environment.get("TIME_SCALE", "10")),
            credentials_seconds=int(environment.get("TASK_CREDENTIALS_SECONDS", "3600")),
        )


def apply(settings: Settings, balancer: Balancer, tokens: Tokens) -> None:
    forms_are_checked()
    connections_outlast_their_clients()
    services_as_the_provider_reads_them()
    failed_deployments_go()
    capacity_providers_keep_managed_draining()
    endpoints_keep_their_policy()
    alarms_in_full()
    ecs_machine_image()
    registry_where_the_engine_reaches_it(settings)
    registry_has_tokens(settings, tokens)
    repositories_take_their_images_along()
    unknown_resources_are_not_denied()
    public_parameters_belong_to_no_account()
    calls_are_checked_on_each_resource()
    permissions_are_recorded()
    tasks_as_defined(settings)
    tasks_stop_in_their_time()
    tasks_with_their_role(settings)
    target_health(balancer)
    rollouts_wait_for_health(settings, balancer)


def _replace(module: Any, name: str, new: Callable[..., Any]) -> None:
    """Put a function in another's place, in the module and in its dispatch tables."""
    old = getattr(module, name)
    setattr(module, name, new)
    for value in vars(module).values():
        if isinstance(value, dict):
            for key in [key for key, entry in value.items() if entry is old]:
                value[key] = new


# --- HTTP


def connections_outlast_their_clients() -> None:
    """An idle connection is closed after 75 s, and a request that comes just then is carried out, unanswered.

    The AWS SDK for Go keeps connections for 90 s and sends such a request again, so that a second create
    finds its own first: "already exists". Here the client closes first.
    """
    from hypercorn.config import Config

    # Set on every configuration by the emulator itself, so the class must have the last word.
    Config.keep_alive_timeout = property(lambda _: KEEP_ALIVE_SECONDS, lambda *_: None)


# --- ECS, its answers


def services_as_the_provider_reads_them() -> None:
    """An empty network configuration crashes provider 5.100; placement and rebalancing are forgotten."""
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
        _replace(ecs, name, remembering(getattr(ecs, name)))


def failed_deployments_go() -> None:
    """A failed deployment stays for ever, and after a rollback nobody's wait for a steady service ends."""
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


def capacity_providers_keep_managed_draining() -> None:
    """It forgets `managedDraining`, so that every plan would set it again."""
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

    _replace(ecs, "_create_capacity_provider", keeping)


# --- EC2, CloudWatch, SSM, ECR


def endpoints_keep_their_policy() -> None:
    """The policy of a VPC endpoint is forgotten, or never told."""
    from ministack.services import ec2

    create, fields = ec2._create_vpc_endpoint, ec2._vpce_fields_xml

    def keeping(p: Any) -> Any:
        before = set(ec2._vpc_endpoints)
        answer = create(p)
        for identity in set(ec2._vpc_endpoints) - before:
            if policy := ec2._p(p, "PolicyDocument"):
                ec2._vpc_endpoints[identity]["PolicyDocument"] = policy
        return answer

    def telling(endpoint: Mapping[str, Any], tag: str = "item") -> str:
        xml = str(fields(endpoint, tag=tag))
        policy = endpoint.get("PolicyDocument")
        told = f"<policyDocument>{escape(policy)}</policyDocument>" if policy else ""
        return xml.removesuffix(f"</{tag}>") + told + f"</{tag}>"

    _replace(ec2, "_create_vpc_endpoint", keeping)
    _replace(ec2, "_vpce_fields_xml", telling)


def alarms_in_full() -> None:
    """DescribeAlarms over the Query protocol leaves a third of an alarm out."""
    from ministack.services import cloudwatch

    describe = cloudwatch._describe_alarms
    plain = ("Period", "Statistic", "ExtendedStatistic", "TreatMissingData", "Unit", "AlarmDescription")

    def missing(alarm: Mapping[str, Any]) -> str:
        parts = [f"<{key}>{escape(str(alarm[key]))}</{key}>" for key in plain if alarm.get(key)]
        parts.append(f"<ActionsEnabled>{str(alarm.get('ActionsEnabled', True)).lower()}</ActionsEnabled>")
        for key in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            members = "".join(f"<member>{escape(arn)}</member>" for arn in alarm.get(key) or ())
            parts.append(f"<{key}>{members}</{key}>")
        dimensions = "".join(
            f"<member><Name>{escape(d['Name'])}</Name><Value>{escape(d['Value'])}</Value></member>"
            for d in alarm.get("Dimensions") or ()
        )
        return "".join(parts) + f"<Dimensions>{dimensions}</Dimensions>"

    def in_full(params: Any, cbor: Any, is_cbor: bool, is_json: bool = False) -> Any:
        status, headers, body = describe(params, cbor, is_cbor, is_json)
        if is_cbor or is_json:
            return status, headers, body

        def filled(match: re.Match[str]) -> str:
            alarm = cloudwatch._alarms.get(match.group(1))
            return match.group(0) + (missing(alarm) if alarm else "")

        text = re.sub(
            r"<AlarmName>([^<]*)</AlarmName>", filled, body.decode() if isinstance(body, bytes) else body
        )
        kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        return status, kept, text.encode()

    _replace(cloudwatch, "_describe_alarms", in_full)


def ecs_machine_image() -> None:
    """The public parameter that names ECS's machine image is absent, and its name reserved."""
    from ministack.services import ssm

    ssm._PUBLIC_AMI_PARAMETERS[ECS_AMI_PARAMETER] = "ami-0c2023a1b2c3d4e5f"


def registry_where_the_engine_reaches_it(settings: Settings) -> None:
    """Repositories are named under amazonaws.com, where the engine would look, but the emulator has them."""
    from ministack.services import ecr

    def uri(name: str) -> str:
        return f"{settings.registry}/{name}"

    ecr._repo_uri = uri


def registry_has_tokens(settings: Settings, tokens: Tokens) -> None:
    """Everyone is given the same token, and none is asked for: give out new ones, and one to the engine."""
    from ministack.services import ecr, ecs

    def give(_: dict[str, Any]) -> Any:
        password, expires = tokens.issue()
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        answer = {"authorizationToken": token, "expiresAt": int(expires)}
        return ecr.json_response(
            {"authorizationData": [{**answer, "proxyEndpoint": f"http://{settings.registry}"}]}
        )

    connect = ecs._get_docker

    def with_credentials() -> Any:
        client = connect()
        if client is not None:
            # The SDK sends them with each pull from this registry, as after `docker login`.
            client.api._auth_configs.add_auth(
                settings.registry, {"username": USER, "password": tokens.for_tasks}
            )
        return client

    _replace(ecr, "_get_authorization_token", give)
    ecs._get_docker = with_credentials


def repositories_take_their_images_along() -> None:
    """Deleting a repository leaves its layers in memory and in the saved state."""
    from ministack.services import ecr

    delete = ecr._delete_repository

    def whole(data: dict[str, Any]) -> Any:
        answer = delete(data)
        if answer[0] < 300:
            for store in (ecr._layer_blobs, ecr._manifest_blobs, ecr._uploads):
                store.pop(data.get("repositoryName", ""), None)
        return answer

    ecr._delete_repository = whole


# --- IAM


def unknown_resources_are_not_denied() -> None:
    """Of many a call it does not know the resource, and denies what is allowed on certain resources only.

    So a policy is held to by its actions everywhere, and by its resources where they are known.
    """
    from ministack.core import iam_evaluator

    matches = iam_evaluator._resource_matches

    def or_unknown(resource_arn: str, *rest: Any, **named: Any) -> bool:
        return resource_arn == "*" or bool(matches(resource_arn, *rest, **named))

    iam_evaluator._resource_matches = or_unknown


def public_parameters_belong_to_no_account() -> None:
    """AWS's own parameters are checked as the account's, which a policy for AWS does not name."""
    from ministack.core import iam_actions

    extract = iam_actions.extract_resource_arn

    def resource(*arguments: Any, **named: Any) -> str:
        arn = str(extract(*arguments, **named))
        return re.sub(r"^(arn:aws:ssm:[a-z0-9-]+:)[0-9]{12}(:parameter/aws/service/)", r"\1\2", arn)

    iam_actions.extract_resource_arn = resource


def permissions_are_recorded() -> None:
    """Which actions were used or denied is not recorded: write it to a file in the container."""
    from ministack.core import iam_evaluator

    enforce = iam_evaluator.enforce
    known: set[tuple[str, str, str, bool]] = set()

    def recorded(access_key: str, action: str, service: str, region: str, *rest: Any, **named: Any) -> Any:
        refused = enforce(access_key, action, service, region, *rest, **named)
        entry = (access_key, action, str(named.get("resource_arn", "*")), refused is None)
        if entry not in known and len(known) < _MOST_PERMISSIONS:
            known.add(entry)
            with PERMISSIONS.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        return refused

    iam_evaluator.enforce = recorded


#: Read by `docker exec`, which only the owner of the engine can do; no request leads here.
PERMISSIONS = Path("/run/permissions.jsonl")
_MOST_PERMISSIONS = 20_000


# --- ECS, its tasks


def grace(seconds: float, time_scale: float) -> float:
    """A time to start in, scaled as far as starting can be."""
    return min(seconds, max(seconds / time_scale, LEAST_START_SECONDS))


def options_of(
    definition: Mapping[str, Any], container: Mapping[str, Any], time_scale: float
) -> dict[str, Any]:
    """What the ECS agent asks of the engine for a container of a task definition, as the SDK's keywords."""
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
    # The image's own check is the engine's; ECS knows only the definition's.
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


def tasks_as_defined(settings: Settings) -> None:
    """Of a container's definition image, ports and environment reach the engine; limits and the rest not."""
    from ministack.services import ecs

    build = ecs._build_run_kwargs

    def as_defined(cdef: dict[str, Any], td: dict[str, Any], *rest: Any, **named: Any) -> dict[str, Any]:
        kwargs: dict[str, Any] = build(cdef, td, *rest, **named)
        kwargs.update(options_of(td, cdef, settings.time_scale))
        kwargs["labels"][_STOP_LABEL] = str(cdef.get("stopTimeout", 30))
        # A laptop's network has no business with a task: its balancer reaches it, and this machine.
        ports = (kwargs.get("ports") or {}).items()
        kwargs["ports"] = {port: ("127.0.0.1", host or None) for port, host in ports}
        return kwargs

    ecs._build_run_kwargs = as_defined


def tasks_stop_in_their_time() -> None:
    """A task gets 5 s to stop, whatever its definition says, and whoever stops it waits."""
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
            logger.debug("%s is not to be stopped: %s", container_or_id, error)
            return
        container.remove(v=True, force=True)

    cleanup = ecs._cleanup_task_resources

    def beside(task: dict[str, Any], client: Any, extra_container: Any = None) -> None:
        threading.Thread(target=cleanup, args=(task, client, extra_container), daemon=True).start()

    ecs._remove_docker_container = remove
    ecs._cleanup_task_resources = beside


def tasks_with_their_role(settings: Settings) -> None:
    """Tasks get nobody's credentials, from an address that SDKs refuse: give a session of the task's role."""
    from ministack.core.responses import get_account_id
    from ministack.services import ecs, imds, sts

    tasks: dict[str, tuple[str, str, str]] = {}
    known: dict[str, str] = {}
    issued: dict[str, dict[str, str]] = {}
    expires: dict[str, float] = {}
    register = ecs._register_metadata

    def with_role(task_arn: str, cluster: str, td: dict[str, Any], *rest: Any) -> Any:
        token = register(task_arn, cluster, td, *rest)
        env: dict[str, str] = rest[2]  # after the container's definition and the launch type
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


# --- health


def target_health(balancer: Balancer) -> None:
    """Every target is called healthy, always: ask the balancer, which checks."""
    from ministack.services import alb

    def describe(params: Any) -> Any:
        arn = alb._p(params, "TargetGroupArn")
        if arn not in alb._tgs:
            return alb._error("TargetGroupNotFound", f"Target group '{arn}' not found.")
        wanted = {target["Id"] for target in alb._parse_targets_param(params)}
        members = []
        for target in alb._targets.get(arn, ()):
            if wanted and target["Id"] not in wanted:
                continue
            health = balancer.health(arn, target["Id"])
            code = {"initial": "Elb.InitialHealthChecking", "unhealthy": "Target.ResponseCodeMismatch"}
            why = ""
            if health.state != "healthy":
                why = (
                    f"<Reason>{code[health.state]}</Reason><Description>{escape(health.reason)}</Description>"
                )
            members.append(
                f"<member><Target><Id>{target['Id']}</Id><Port>{target['Port']}</Port></Target>"
                f"<TargetHealth><State>{health.state}</State>{why}</TargetHealth></member>"
            )
        inner = f"<TargetHealthDescriptions>{''.join(members)}</TargetHealthDescriptions>"
        return alb._xml(200, "DescribeTargetHealth", inner)

    _replace(alb, "_describe_target_health", describe)


def rollouts_wait_for_health(settings: Settings, balancer: Balancer) -> None:
    """A task that merely runs counts as good, and a sick one is kept.

    As on AWS a rollout waits until its tasks are healthy, to the engine and to the balancer; after the grace
    period an unhealthy task is stopped, replaced, and counted by the circuit breaker.
    """
    from ministack.services import ecs

    scheduler = _Scheduler(ecs, balancer, settings.time_scale)
    record_healthy = ecs._record_service_task_healthy

    def when_healthy(service_key: str, task: dict[str, Any]) -> None:
        while ecs._task_is_active(task["taskArn"], task) and task["taskArn"] not in scheduler.seen_healthy:
            time.sleep(0.1)
        record_healthy(service_key, task)

    ecs._ECS_DEPLOYMENT_STEADY_DELAY = STEADY_SECONDS
    ecs._record_service_task_healthy = when_healthy
    threading.Thread(target=scheduler.run, daemon=True, name="task-health").start()


class _Scheduler:
    """Looks after the tasks of every service: who has been healthy, and who is sick and must go."""

    def __init__(self, ecs: Any, balancer: Balancer, time_scale: float) -> None:
        self.seen_healthy: set[str] = set()
        self._short: set[str] = set()
        self._ecs = ecs
        self._balancer = balancer
        self._time_scale = time_scale

    def run(self) -> None:
        while True:
            time.sleep(0.5)
            try:
                self._look()
            except Exception:
                logger.exception("The tasks' health could not be looked at; it is tried again")

    def _look(self) -> None:
        from ministack.core.responses import request_scope

        for (account, region, key), service in self._ecs._services.all_items():
            if service.get("status") != "ACTIVE":
                continue
            with request_scope(account, region):
                self._replace_stopped(key, service)
                for task in list(self._ecs._tasks.values()):
                    mine = task.get("group") == f"service:{service['serviceName']}"
                    running = task.get("lastStatus") == "RUNNING"
                    if mine and running and self._ecs._task_is_active(task["taskArn"], task):
                        self._look_at(task, service)

    def _replace_stopped(self, key: str, service: dict[str, Any]) -> None:
        """Start what is missing when nobody else does: tasks stopped by hand are not replaced otherwise."""
        group, states = f"service:{service['serviceName']}", self._ecs._PRE_STOP_STATUSES
        tasks = [task for task in self._ecs._tasks.values() if task.get("group") == group]
        missing = sum(task.get("lastStatus") in states for task in tasks) < service["desiredCount"]
        if missing and key in self._short:
            self._ecs._reconcile_service_tasks(key.split("/", 1)[0], key)
        if missing:
            self._short.add(key)
        else:
            self._short.discard(key)

    def _look_at(self, task: dict[str, Any], service: dict[str, Any]) -> None:
        healthy, sickness = self._health(task, service)
        task["healthStatus"] = "HEALTHY" if healthy else "UNHEALTHY" if sickness else "UNKNOWN"
        allowed = grace(float(service.get("healthCheckGracePeriodSeconds") or 0), self._time_scale)
        started = task.get("startedAt")
        age = time.time() - self._ecs._ts_to_epoch(started) if started else 0.0
        if healthy:
            self.seen_healthy.add(task["taskArn"])
        elif sickness and (age > allowed or task["taskArn"] in self.seen_healthy):
            self._stop(task, service, sickness)

    def _health(self, task: dict[str, Any], service: dict[str, Any]) -> tuple[bool, str]:
        """Whether the task is healthy, and if it is known to be sick, with what."""
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

    def _stop(self, task: dict[str, Any], service: dict[str, Any], sickness: str) -> None:
        ecs, arn = self._ecs, task["taskArn"]
        if not ecs._mark_task_stopped(arn, task, sickness, "ServiceSchedulerInitiated"):
            return
        message = f"(service {service['serviceName']}) (task {arn.rsplit('/', 1)[-1]}) {sickness}"
        service["events"].insert(0, {"id": ecs.new_uuid(), "createdAt": ecs._iso(), "message": message})
        ecs._cleanup_task_resources(task, ecs._get_docker())
        ecs._record_service_task_failure(task)


if "MINISTACK_DOCKER_TIMEOUT" not in os.environ:
    os.environ["MINISTACK_DOCKER_TIMEOUT"] = "60"  # a pull is a call, and 10 s are few
