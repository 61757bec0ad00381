"""The container of the emulated AWS: starts, finds and stops it, and makes the user that deploys to it.

The package `emulator` is what runs inside the container.
"""

from __future__ import annotations

import io
import ipaddress
import json
import socket
import tarfile
import time
import urllib.error
import urllib.request
from configparser import Error as ConfigError
from contextlib import suppress
from dataclasses import replace
from typing import Any

import docker
from botocore.exceptions import ClientError
from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from deploy import iam_policies
from deploy.container_commands import run_in
from deploy.environments import EmulatedAws, Environment
from deploy.image import build
from deploy.steps import Failed, Reporter
from guard.keys import installed

IMAGE = "day02-aws:local"
AWS_PORT_INSIDE = 4566
STARTED_WITHIN = 60
STOPPED_WITHIN = 90
DEPLOYER = "deployer"
# The container reads the key of its root here (services/emulator/entrance.py).
_KEY_INSIDE = "run/keys/credentials"
_PERMISSIONS_INSIDE = "/run/permissions.jsonl"


def root_key(emulated: EmulatedAws) -> dict[str, str]:
    """The key of the root of the emulated AWS, made on first use. It has no rights anywhere else."""
    try:
        keys = installed(emulated.keys)
    except (OSError, ValueError, KeyError, ConfigError) as error:
        raise Failed(
            f"the key of the emulated AWS in {emulated.keys} cannot be read: {type(error).__name__}",
            f"Remove the key and its container: rm -r {emulated.keys}; docker rm -f {emulated.name}",
        ) from None
    return {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret.key}


def start(engine: docker.DockerClient, emulated: EmulatedAws, report: Reporter) -> EmulatedAws:
    """Start the container unless it runs; return its actual ports."""
    running = container(engine, emulated)
    if running is not None and running.status == "running":
        found = _with_ports_of(running, emulated)
        _wait(found)
        _check_key(found)
        report.say(f"already runs at {found.url}; the key of its root is in {emulated.keys / 'credentials'}")
        return found
    if running is not None:
        running.remove(force=True)
    for port, variable in (
        (emulated.aws_port, "AWS_PORT"),
        (emulated.api_port, "PORT"),
        (emulated.redirect_port, "REDIRECT_PORT"),
    ):
        _check_port(port, variable)
    build(engine, report, IMAGE, dockerfile="docker/aws/Dockerfile")
    network = _network(engine, emulated)
    root_key(emulated)
    made = engine.containers.create(
        IMAGE,
        name=emulated.name,
        hostname=emulated.name,  # the emulator finds itself and the tasks' network by this name
        ports=dict(emulated.published),
        environment={
            "MINISTACK_REGION": emulated.region,
            "TASK_AWS_ADDRESS": emulated.address,
            "TASK_NETWORK": emulated.subnet,
            "REGISTRY_HOST": f"127.0.0.1:{emulated.aws_port}",
            "GUARD_HOSTS": ",".join(
                f"{host}:{port}"
                for host, port in (
                    ("127.0.0.1", emulated.aws_port),
                    ("localhost", emulated.aws_port),
                    (emulated.address, AWS_PORT_INSIDE),
                    ("127.0.0.1", AWS_PORT_INSIDE),  # its own health check
                )
            ),
            "GUARD_ORIGINS": ",".join(emulated.origins),
            "TIME_SCALE": str(emulated.time_scale),
            "LEAST_START_SECONDS": str(emulated.start_seconds),
            "LOG_LEVEL": "WARNING",
        },
        volumes=["/var/run/docker.sock:/var/run/docker.sock", f"{emulated.volume}:/data"],
        network=network,
        networking_config={network: engine.api.create_endpoint_config(ipv4_address=emulated.address)},
    )
    # Not an environment variable, which `docker inspect` shows; not a mount, as the engine may be remote.
    made.put_archive("/", _archive(_KEY_INSIDE, (emulated.keys / "credentials").read_bytes()))
    made.start()
    _wait(emulated, made)
    _check_key(emulated)
    report.say(
        f"container {emulated.name} answers at {emulated.url}; its data is in volume {emulated.volume}"
    )
    report.say(f"the key of its root is in {emulated.keys / 'credentials'}")
    return emulated


def stop(engine: docker.DockerClient, emulated: EmulatedAws) -> None:
    """Stop and remove the container, after it has saved its state. The volume with the bucket stays."""
    running = container(engine, emulated)
    if running is not None:
        running.stop(timeout=STOPPED_WITHIN)
        running.remove(force=True)
    for network in engine.networks.list(names=[f"^{emulated.name}$"]):
        network.remove()


def purge(engine: docker.DockerClient, emulated: EmulatedAws) -> None:
    """Remove the container, the tasks, the network, and the volume with all data."""
    # The emulator goes first: it would replace the tasks.
    running = container(engine, emulated)
    if running is not None:
        running.remove(force=True, v=True)
    for task in tasks(engine, emulated):
        task.remove(force=True, v=True)
    for network in engine.networks.list(names=[f"^{emulated.name}$"]):
        network.remove()
    with suppress(NotFound):
        engine.volumes.get(emulated.volume).remove()


def tasks(engine: docker.DockerClient, emulated: EmulatedAws, *, every: bool = True) -> list[Any]:
    """The containers of the ECS tasks: all of them, or only those that run."""
    found: list[Any] = engine.containers.list(
        all=every, ignore_removed=True, filters={"label": "ministack=ecs", "network": emulated.name}
    )
    return found


def container(engine: docker.DockerClient, emulated: EmulatedAws) -> Any | None:
    try:
        return engine.containers.get(emulated.name)
    except NotFound:
        return None


def running(engine: docker.DockerClient, environment: Environment) -> Environment:
    """The environment with the actual ports of its running container and the key of its root."""
    assert environment.emulated is not None
    found = container(engine, environment.emulated)
    if found is None or found.status != "running":
        raise Failed("the emulated AWS does not run", "Start it: make deploy ENV=local")
    emulated = _with_ports_of(found, environment.emulated)
    _check_key(emulated)
    return replace(environment, emulated=emulated, credentials=root_key(emulated))


def _deployers_policies(environment: Environment) -> dict[str, str]:
    assert environment.emulated is not None
    if directory := environment.emulated.policies:
        policies = {path.stem: path.read_text() for path in directory.glob("*.json")}
    else:
        policies = iam_policies.documents({**environment.variables, **environment.emulated.values})
    return {name: text for name, text in sorted(policies.items()) if name.startswith("deployer-")}


def deployer(environment: Environment, report: Reporter) -> Environment:
    """The environment as seen by a user with the deployer's policies and no other permission."""
    assert environment.emulated is not None
    iam = replace(environment, credentials=root_key(environment.emulated)).client("iam")
    try:
        iam.create_user(UserName=DEPLOYER)
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityAlreadyExists":
            raise
    for name, document in _deployers_policies(environment).items():
        iam.put_user_policy(UserName=DEPLOYER, PolicyName=name, PolicyDocument=document)
    for key in iam.list_access_keys(UserName=DEPLOYER)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=DEPLOYER, AccessKeyId=key["AccessKeyId"])
    key = iam.create_access_key(UserName=DEPLOYER)["AccessKey"]
    report.say(f"from here on as user {DEPLOYER}, with the deployer's policies only")
    return replace(
        environment,
        credentials={
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        },
    )


def permissions(engine: docker.DockerClient, emulated: EmulatedAws) -> list[tuple[str, str, bool]]:
    """The actions used since the start: the access key, the action, and whether it was allowed."""
    running: Any = engine.containers.get(emulated.name)
    ran = run_in(running, "cat", _PERMISSIONS_INSIDE)
    if ran.status != 0:
        raise Failed(
            "the emulated AWS has recorded no permissions", f"Read its log: docker logs {emulated.name}"
        )
    entries = [json.loads(line) for line in ran.stdout.splitlines()]
    return [(key, action, allowed) for key, action, _, allowed in entries]


def _network(engine: docker.DockerClient, emulated: EmulatedAws) -> str:
    if not engine.networks.list(names=[f"^{emulated.name}$"]):
        # The emulator treats the first address as this machine's and the others as those of tasks.
        gateway = str(ipaddress.IPv4Network(emulated.subnet)[1])
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=emulated.subnet, gateway=gateway)])
        try:
            engine.networks.create(emulated.name, ipam=pool)
        except APIError as error:
            raise Failed(
                f"cannot make the network {emulated.subnet}, in which tasks get their credentials: "
                f"{error.explanation}",
                "Another network may use these addresses: find it with `docker network ls` and remove it",
            ) from None
    return emulated.name


def _check_port(port: int, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Failed(
                f"port {port} of 127.0.0.1 is taken",
                f"Run the same command with another: {variable}={port + 1}",
            ) from None


def _with_ports_of(running: Any, emulated: EmulatedAws) -> EmulatedAws:
    published = running.attrs["HostConfig"]["PortBindings"]
    return replace(
        emulated,
        aws_port=int(published["4566/tcp"][0]["HostPort"]),
        api_port=int(published[f"{emulated.listener}/tcp"][0]["HostPort"]),
        redirect_port=int(published["80/tcp"][0]["HostPort"]) if "80/tcp" in published else 0,
    )


def _check_key(emulated: EmulatedAws) -> None:
    """Check that the running container has the key in the file."""
    known = Environment("local", "", "", emulated=emulated, credentials=root_key(emulated))
    try:
        known.client("sts").get_caller_identity()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        raise Failed(
            f"the emulated AWS does not know the key in {emulated.keys}",
            "It was started with a key that is lost, or by an older version. Stop it and deploy again; "
            f"its data stays: docker stop --time {STOPPED_WITHIN} {emulated.name}",
        ) from None


def _archive(name: str, content: bytes) -> bytes:
    """A tar archive of one file that only its owner may read."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o600
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _wait(emulated: EmulatedAws, made: Any = None) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{emulated.url}/_guard/ready", timeout=2):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return  # an older version, whose key will not match
            time.sleep(0.1)
        except OSError:
            time.sleep(0.1)
        if made is not None:
            made.reload()
            if made.status == "exited":
                break
    said = made.logs(tail=20).decode(errors="replace") if made is not None else ""
    raise Failed(
        f"the emulated AWS does not answer at {emulated.url}: {said[-1500:]}",
        f"Read its log: docker logs {emulated.name}",
    )
