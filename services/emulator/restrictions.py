"""What the emulated AWS refuses to do. It holds the engine's socket, which gives root rights on this machine.

There are three rules. Each is an allow-list:

- `SERVICES`: only the services that the stack uses. MiniStack has about a hundred, and a dozen of them start
  containers or programs.
- `refused_in_definition` and `refused_in_overrides`: ECS refuses a task that could reach more than its own
  container. It names the reason and records nothing.
- `refused_call`: the engine gets only the calls that such a task needs. This also covers a task definition
  from the saved state of an older version.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

logger = logging.getLogger("restrictions")

#: The services that the stacks and the deployment use, by the names in the scope of a signature.
SERVICES = frozenset(
    {
        "acm",
        "application-autoscaling",
        "autoscaling",
        "ec2",
        "ecr",
        "ecs",
        "elasticloadbalancing",
        "iam",
        "logs",
        "monitoring",
        "route53",
        "s3",
        "sns",
        "ssm",
        "sts",
        "tagging",
        "wafv2",
    }
)

_DEFINITION = frozenset(
    {
        "family", "taskRoleArn", "executionRoleArn", "networkMode", "containerDefinitions", "volumes",
        "placementConstraints", "requiresCompatibilities", "cpu", "memory", "tags", "pidMode", "ipcMode",
        "runtimePlatform",
        # ECS adds these to its record.
        "taskDefinitionArn", "revision", "status", "compatibilities", "requiresAttributes", "registeredAt",
        "registeredBy", "deregisteredAt", "ephemeralStorage",
    }
)  # fmt: skip
_CONTAINER = frozenset(
    {
        "name", "image", "cpu", "memory", "memoryReservation", "essential", "portMappings", "environment",
        "secrets", "entryPoint", "command", "user", "workingDirectory", "readonlyRootFilesystem",
        "dockerSecurityOptions", "linuxParameters", "mountPoints", "healthCheck", "startTimeout",
        "stopTimeout", "dependsOn", "logConfiguration", "dockerLabels", "ulimits", "versionConsistency",
    }
)  # fmt: skip
_LINUX = frozenset(
    {"capabilities", "initProcessEnabled", "tmpfs", "sharedMemorySize", "maxSwap", "swappiness"}
)
_VOLUME = frozenset({"name", "host", "dockerVolumeConfiguration"})
_DOCKER_VOLUME = frozenset({"scope", "driver", "autoprovision"})
_OVERRIDE = frozenset({"name", "command", "environment", "cpu", "memory", "memoryReservation"})
_OVERRIDES = frozenset({"containerOverrides", "cpu", "memory"})
_SAFE_SECURITY_OPTIONS = frozenset({"no-new-privileges", "no-new-privileges:true"})
_NETWORK_MODES = frozenset({"", "bridge", "awsvpc"})


@dataclass(frozen=True)
class Limits:
    """What a task may use: images of this registry, and this network of the engine."""

    registry: str
    network: str

    def has(self, image: str) -> bool:
        """Whether an image is named by its digest in the registry."""
        name = re.escape(self.registry) + r"/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
        return re.fullmatch(rf"{name}@sha256:[0-9a-f]{{64}}", image) is not None


# --- ECS


def refused_in_definition(definition: Mapping[str, Any], limits: Limits) -> list[str]:
    """The settings of a task definition that are refused, by name. Empty if the task may run."""
    refused = _unknown(definition, _DEFINITION)
    if str(definition.get("networkMode") or "") not in _NETWORK_MODES:
        refused.append(f"networkMode {definition['networkMode']}")
    refused += [
        f"{key} {definition[key]}" for key in ("pidMode", "ipcMode") if definition.get(key) not in {None, ""}
    ]
    refused += [
        f"volume {_name(volume)}: {entry}"
        for volume in definition.get("volumes") or ()
        for entry in _refused_in_volume(volume)
    ]
    refused += [
        f"container {_name(container)}: {entry}"
        for container in definition.get("containerDefinitions") or ()
        for entry in _refused_in_container(container, limits)
    ]
    return refused


def refused_in_overrides(request: Mapping[str, Any]) -> list[str]:
    """What RunTask, StartTask, CreateService or UpdateService must not add to a definition."""
    overrides = request.get("overrides") or {}
    refused = [f"overrides: {entry}" for entry in _unknown(overrides, _OVERRIDES)]
    refused += [
        f"overrides of {_name(container)}: {entry}"
        for container in overrides.get("containerOverrides") or ()
        for entry in _unknown(container, _OVERRIDE)
    ]
    return refused + (["volumeConfigurations"] if request.get("volumeConfigurations") else [])


def explanation(refused: Iterable[str]) -> str:
    return (
        f"This emulated AWS runs tasks on your own machine and refuses: {'; '.join(refused)}. "
        "A task has a container, empty volumes, the bridge network, and images of this registry by digest."
    )


def _refused_in_volume(volume: Mapping[str, Any]) -> list[str]:
    refused = _unknown(volume, _VOLUME)
    if volume.get("host"):
        refused += [f"host.{key}" for key, value in volume["host"].items() if value]
    docker = volume.get("dockerVolumeConfiguration") or {}
    refused += [f"dockerVolumeConfiguration.{entry}" for entry in _unknown(docker, _DOCKER_VOLUME)]
    # A shared volume is found by its name, and so is every other volume of this machine.
    if docker.get("scope") not in {None, "", "task"} or docker.get("autoprovision"):
        refused.append("dockerVolumeConfiguration.scope other than task")
    if docker.get("driver") not in {None, "", "local"}:
        refused.append("dockerVolumeConfiguration.driver other than local")
    return refused


def _refused_in_container(container: Mapping[str, Any], limits: Limits) -> list[str]:
    refused = _unknown(container, _CONTAINER)
    if not limits.has(str(container.get("image") or "")):
        refused.append(f"image {container.get('image')} (only {limits.registry}/…@sha256:…)")
    refused += [
        f"dockerSecurityOptions {option}"
        for option in container.get("dockerSecurityOptions") or ()
        if option not in _SAFE_SECURITY_OPTIONS
    ]
    linux = container.get("linuxParameters") or {}
    refused += [f"linuxParameters.{entry}" for entry in _unknown(linux, _LINUX)]
    capabilities = linux.get("capabilities") or {}
    refused += [f"linuxParameters.capabilities.{entry}" for entry in _unknown(capabilities, {"drop"})]
    return refused


def _unknown(given: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """The names that are not known to be harmless. An empty value changes nothing and is ignored."""
    known = set(known)
    return [key for key, value in given.items() if value and key not in known]


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name", "?"))[:100]


# --- the engine

_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_CALLS = [
    (method, re.compile(path))
    for method, path in (
        ("GET", r"/(_ping|version|info)"),
        ("GET", r"/containers/json"),
        ("GET", rf"/containers/{_ID}/(json|logs)"),
        ("POST", rf"/containers/{_ID}/(start|stop|kill|wait)"),
        ("DELETE", rf"/containers/{_ID}"),
        ("GET", r"/images/.+/json"),
    )
]
_CONFIGURATION = frozenset(
    {
        "Hostname", "Domainname", "User", "Env", "Cmd", "Entrypoint", "WorkingDir", "Image", "Labels",
        "ExposedPorts", "HostConfig", "NetworkingConfig", "Healthcheck", "StopSignal", "StopTimeout",
        "AttachStdout", "AttachStderr",
    }
)  # fmt: skip
_HOST = frozenset(
    {
        "Memory", "MemorySwap", "MemoryReservation", "CpuShares", "ReadonlyRootfs", "CapDrop", "Tmpfs",
        "Init", "ShmSize", "NetworkMode", "SecurityOpt", "PortBindings", "Mounts",
    }
)  # fmt: skip
_MOUNT = frozenset({"Target", "Type", "ReadOnly"})


def refused_call(method: str, target: str, body: bytes, limits: Limits) -> list[str]:
    """Why a request must not reach the engine; empty if it may. `target` is its path and query."""
    split = urlsplit(target)
    path = re.sub(r"^/v[0-9.]+(?=/)", "", unquote(split.path))
    if (method, path) == ("POST", "/containers/create"):
        try:
            configuration = json.loads(body)
        except ValueError:
            return ["a container whose configuration is not JSON"]
        return _refused_in_configuration(configuration, limits)
    if (method, path) == ("POST", "/images/create"):
        asked = parse_qs(split.query)
        image = f"{asked.get('fromImage', [''])[0]}@{asked.get('tag', [''])[0]}"
        foreign = set(asked) - {"fromImage", "tag", "platform"}
        return [] if limits.has(image) and not foreign else [f"the image {image}"]
    if ".." not in path and any(method == known and shape.fullmatch(path) for known, shape in _CALLS):
        return []
    return [f"{method} {path}"]


def _refused_in_configuration(configuration: Mapping[str, Any], limits: Limits) -> list[str]:
    host = configuration.get("HostConfig") or {}
    refused = _unknown(configuration, _CONFIGURATION) + _unknown(host, _HOST)
    if (configuration.get("Labels") or {}).get("ministack") != "ecs":
        refused.append("a container that is not a task")
    if not limits.has(str(configuration.get("Image") or "")):
        refused.append(f"Image {configuration.get('Image')}")
    if host.get("NetworkMode") != limits.network:
        refused.append(f"NetworkMode {host.get('NetworkMode')}")
    refused += [
        f"NetworkingConfig {name}"
        for name in _networks(configuration.get("NetworkingConfig") or {})
        if name != limits.network
    ]
    refused += [f"SecurityOpt {o}" for o in host.get("SecurityOpt") or () if o not in _SAFE_SECURITY_OPTIONS]
    refused += [
        f"PortBindings {port} of {binding.get('HostIp') or 'every address'}"
        for port, bindings in (host.get("PortBindings") or {}).items()
        for binding in bindings or ()
        if binding.get("HostIp") != "127.0.0.1"
    ]
    for mount in host.get("Mounts") or ():
        if mount.get("Type") != "volume":
            refused.append(f"Mounts {mount.get('Type')}")
        refused += [f"Mounts {entry}" for entry in _unknown(mount, _MOUNT)]
    return refused


def _networks(networking: Mapping[str, Any]) -> list[str]:
    """The names of networks. The SDK sends them with or without `EndpointsConfig` around them."""
    return list(networking.get("EndpointsConfig") or networking)


# --- how the rules are installed


def apply(limits: Limits) -> None:
    """Restrict the engine and ECS. Call it before MiniStack's application is loaded."""
    restrict_engine(limits)
    restrict_ecs(limits)


def restrict_engine(limits: Limits) -> None:
    """Check every request to the engine where the SDK sends it, so that no module of MiniStack avoids it."""
    from docker.api.client import APIClient
    from docker.errors import APIError

    send = APIClient.send

    def checked(self: Any, request: Any, **named: Any) -> Any:
        body = request.body or b""
        text = body if isinstance(body, bytes) else str(body).encode()
        if refused := refused_call(str(request.method), str(request.path_url), text, limits):
            logger.warning("refused a call to the engine: %s", "; ".join(refused))
            raise APIError(explanation(refused))
        return send(self, request, **named)

    APIClient.send = checked  # type: ignore[method-assign]


def restrict_ecs(limits: Limits) -> None:
    """Refuse a task when it is defined or requested, not when it fails to start."""
    from ministack.services import ecs

    def checking(handler: Callable[..., Any], find: Callable[[Any], list[str]]) -> Callable[..., Any]:
        def handle(data: dict[str, Any]) -> Any:
            if refused := find(data):
                return ecs.error_response_json("ClientException", explanation(refused), 400)
            return handler(data)

        return handle

    def in_request(data: dict[str, Any]) -> list[str]:
        recorded = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition") or "")) or {}
        return refused_in_overrides(data) + refused_in_definition(recorded, limits)

    actions = ecs._ACTION_MAP
    actions["RegisterTaskDefinition"] = checking(
        actions["RegisterTaskDefinition"], lambda data: refused_in_definition(data, limits)
    )
    for name in ("RunTask", "StartTask", "CreateService", "UpdateService", "CreateTaskSet"):
        if name in actions:
            actions[name] = checking(actions[name], in_request)

    def no_paths(*_: Any) -> Any:
        return ecs.error_response_json("ClientException", "ECS has actions, but no paths.", 400)

    # ECS uses JSON 1.1 only. MiniStack also has paths for its actions, which would bypass the checks.
    ecs._dispatch_path = no_paths


#: Handlers that MiniStack tries before it looks at the service that a request is signed for.
_ASYNC_HANDLERS = (
    "_handle_admin_config_request",
    "_handle_admin_reset",
    "_handle_cloudfront_dataplane_request",
    "_handle_cognito_body_request",
    "_handle_cognito_get_request",
    "_handle_execute_api_request",
    "_handle_lambda_url_request",
    "_handle_rds_data_request",
    "_handle_ses_messages_request",
    "_handle_ses_v2_request",
    "_handle_sns_sms_messages_request",
    "_handle_sqs_messages_request",
)
_SYNC_HANDLERS = (
    "_handle_elasticache_ca_request",
    "_handle_iot_ca_request",
    "_handle_lambda_download_request",
    "_handle_rds_ca_request",
    "_handle_transfer_sftp_ports_request",
    "_resolve_custom_domain_request",
)


def restrict_services(app: Any) -> None:
    """Serve only `SERVICES`. Of other services, load no module, restore no state, and handle no path.

    The variable SERVICES of MiniStack would leave their paths and their saved state.
    """
    modules = {
        module
        for name in SERVICES
        for module in (
            app.SERVICE_REGISTRY[name]["module"],
            *app.SERVICE_REGISTRY[name].get("sub_modules", ()),
        )
    }
    load = app._get_module

    def load_served(name: str) -> Any:
        if name not in modules:
            raise NotServed(
                f"This emulated AWS has only the services that the stack uses; {name} is not one of them."
            )
        return load(name)

    async def ignore_async(*_: Any, **__: Any) -> None:
        return None

    def ignore(*_: Any, **__: Any) -> None:
        return None

    app._get_module = load_served
    app.SERVICE_HANDLERS = {name: app.SERVICE_HANDLERS[name] for name in sorted(SERVICES)}
    app._state_map = {key: module for key, module in app._state_map.items() if module in modules}
    for names, nothing in ((_ASYNC_HANDLERS, ignore_async), (_SYNC_HANDLERS, ignore)):
        for name in names:
            getattr(app, name)  # fails in a version that has other handlers, which must be reviewed first
            setattr(app, name, nothing)


def restrict_unknown_actions(app: Any) -> None:
    """Let only the root make a call for which MiniStack knows no IAM action.

    MiniStack allows it to every key. A call of the Query protocol that is not a form is an example.
    """
    from ministack.core import iam_evaluator

    authenticate = app._authenticate_only

    def deny(service: str, headers: dict[str, str], query: dict[str, Any], request_id: str) -> Any:
        failure = authenticate(service, headers, query, request_id)
        if failure or iam_evaluator.is_root_access_key(app.extract_access_key_id(headers, query)):
            return failure
        error = iam_evaluator.AuthError("AccessDenied", "No IAM action is known for this request.")
        return app._credential_failure(service, "", request_id, error, headers)

    app._authenticate_only = deny


class NotServed(Exception):
    """A request is for a service that the stack does not use."""
