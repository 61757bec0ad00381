"""What `make deploy`, `plan`, `status` and the other commands for a stack do, step by step."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace

from docker.errors import APIError, ImageNotFound

from deploy import (
    bucket_move,
    destroy_steps,
    emulated_aws,
    instances,
    leftovers,
    preflight,
    prepare,
    prices,
    rehearsal,
)
from deploy.environments import REHEARSALS, Environment
from deploy.image import build, docker_engine, push, revision
from deploy.service import Service, count_objects, delete_task_definitions
from deploy.smoke import Balancer, Unreachable, curl, smoke
from deploy.stack import NO_IMAGE, Stack
from deploy.status import show
from deploy.steps import Failed, Reporter, answer

LOG_MINUTES = 15
# Created first: the image must be pushed before the service can refer to it.
REGISTRY = "module.registry"


def prepare_all(environment: Environment, report: Reporter) -> Environment:
    """Check everything that can be checked before the stack is changed, and make what is missing."""
    with report.step("tools"):
        prepare.tools()
        engine = docker_engine()
    if environment.emulated:
        with report.step("the emulated AWS"):
            prepare.memory(engine)
            environment = _as_deployer(environment, report)
    with report.step("account, buckets, secrets, service-linked role"):
        environment = prepare.account(environment, report)
        Stack(environment, report).check_variables()
        if not environment.emulated:
            preflight.instance_type(environment)
        prepare.buckets_exist(environment)
        prepare.parameters(environment, report)
        prepare.service_linked_role(environment, report)
    return environment


def deploy(environment: Environment, report: Reporter) -> str:
    """Deploy this checkout; return its URL. It can be repeated after every failure."""
    environment = prepare_all(environment, report)
    if "API_TOKENS" in environment.secrets and not rehearsal.token(environment):
        raise Failed(
            f"{environment.name} asks for a token, and the smoke test has none",
            "Set S3API_TOKEN to a token that may list, read, write and delete",
        )
    with report.step(f"the data bucket {environment.bucket}, and what runs"):
        service = _service(environment)
        preflight.same_architecture(environment, service)
        bucket_move.check(environment, service)
        bucket_move.remember(environment, report)
    return release(environment, report)


def release(environment: Environment, report: Reporter) -> str:
    """Build and push the image, apply, wait for healthy tasks, and run the smoke test."""
    engine = docker_engine()
    with report.step("terraform init"):
        environment = bucket_move.with_previous(environment)
        stack = Stack(environment, report)
        stack.init()
        state = stack.addresses()
        preflight.made_by_hand(environment, state, stack.import_options())
        if not environment.emulated:
            preflight.firewall_rules(environment, report)
        outputs = stack.outputs()
    with report.step("build the image"):
        image_id = build(
            engine,
            report,
            environment.image,
            dockerfile=environment.dockerfile,
            arguments={"REVISION": revision()},
            architecture=environment.architecture,
        )
    if "repository_url" not in outputs:
        with report.step("terraform apply, the registry"):
            stack.apply(NO_IMAGE, targets=(REGISTRY,))
            outputs = stack.outputs()
    with report.step(f"push to {outputs['repository_url']}"):
        reference = push(engine, environment, image_id, outputs["repository_url"], report)
    service = _service(environment)
    log_group = f"/ecs/{environment.project}"
    previous = service.completed()
    bucket_move.allow_both(environment, stack, reference, report)
    with report.step("terraform apply"):
        if "min_tasks" in outputs:
            service.restore(int(outputs["min_tasks"]), report)
        stack.apply(reference, watch=service.watch(log_group))
        outputs = stack.outputs()
    with report.step("the new tasks"):
        service.restore(int(outputs["min_tasks"]), report)
        service.wait_until_completed(outputs["task_definition_arn"], log_group, report)
        service.wait_until_healthy(report)
    where = address(environment, outputs["url"])
    with report.step("smoke test"):
        way = balancer(environment, outputs)
        try:
            smoke(where, rehearsal.token(environment), report, way)
        except Unreachable:
            raise
        except Failed as failure:
            returned = service.bring_back(previous, log_group, report)
            then = failure.then or environment.read_log
            raise Failed(failure.why, f"{returned}. {then}") from None
    bucket_move.allow_one(environment, service, reference, report)
    command = curl(where, way)
    report.line(
        f"✓ {environment.name} answers at {where} ({report.seconds:.0f} s)\n\n"
        f"    {command} {where}/\n    {command} -F file=@README.md {where}/upload\n"
        f"    {command} {where}/list_files\n"
    )
    return where


def plan(environment: Environment, report: Reporter) -> None:
    """Print what `make deploy` would change in the settings, with the image that runs now. Change nothing."""
    environment = _running(environment)
    service = _service(environment)
    bucket_move.check(environment, service)
    stack = Stack(environment, report)
    with report.step("terraform init"):
        stack.init()
        outputs = stack.outputs()
    with report.step("terraform plan"):
        image = (
            service.image(outputs["task_definition_arn"]) if "task_definition_arn" in outputs else NO_IMAGE
        )
        for change in stack.changes(image):
            answer(change)


def status(environment: Environment) -> None:
    """Print the state of the stack on one screen. Change nothing."""
    environment = _running(environment)
    outputs = _outputs(environment, Quiet())
    service = _service(environment)
    show(environment, service, address(environment, outputs["url"]))
    stack = Stack(environment, Quiet())
    where = "on AWS, " if environment.emulated else ""
    answer(f"cost     {where}{prices.sentence(environment.region, stack.resources())}")
    drift = stack.changes(service.image(outputs["task_definition_arn"]))
    answer(f"drift    {', '.join(drift) if drift else 'none'}")


def refresh(environment: Environment, report: Reporter) -> None:
    """Replace the instances by ones of the newest launch template, and wait for the end."""
    environment = _running(environment)
    with report.step("replace the instances"):
        instances.refresh(environment, report)
    with report.step("the tasks"):
        _service(environment).wait_until_healthy(report)


def address(environment: Environment, url: str) -> str:
    """The URL of the API. On emulated AWS, without a domain, it is a port of this machine.

    No DNS server knows the load balancer's own name.
    """
    emulated = environment.emulated
    return f"http://127.0.0.1:{emulated.api_port}" if emulated and not emulated.domain else url


def balancer(environment: Environment, outputs: dict[str, str]) -> Balancer | None:
    """How to reach the load balancer under the URL of the API; None if the URL itself leads there."""
    emulated = environment.emulated
    if emulated is None:
        return Balancer(outputs["load_balancer_dns_name"])
    if not emulated.domain:
        return None
    as_root = replace(environment, credentials=emulated_aws.root_key(emulated))
    ca = emulated.keys / "ca.pem"
    ca.write_text(rehearsal.authority(as_root))
    return Balancer("127.0.0.1", {emulated.listener: emulated.api_port, 80: emulated.redirect_port}, ca)


def _as_deployer(environment: Environment, report: Reporter) -> Environment:
    """Start the emulated AWS and create in it what a deployment needs. Return the deployer's environment."""
    assert environment.emulated is not None
    emulated = emulated_aws.start(docker_engine(), environment.emulated, report)
    environment = replace(environment, emulated=emulated, credentials=emulated_aws.root_key(emulated))
    prepare.make_buckets(environment, report)
    environment = rehearsal.with_values(environment)
    return emulated_aws.deployer(environment, report)


def bucket(environment: Environment, report: Reporter) -> None:
    """Make the buckets for files, for Terraform's state and, in prod, for access logs.

    Change only settings that are wrong.
    """
    if environment.emulated:
        with report.step("the emulated AWS"):
            emulated = emulated_aws.start(docker_engine(), environment.emulated, report)
            environment = replace(environment, emulated=emulated, credentials=emulated_aws.root_key(emulated))
    with report.step("buckets"):
        environment = prepare.account(environment, report)
        prepare.make_buckets(environment, report)


def url(environment: Environment, report: Reporter) -> str:
    environment = _running(environment)
    return address(environment, _outputs(environment, report)["url"])


def logs(environment: Environment, report: Reporter) -> None:
    """Print the log of the tasks of the last `LOG_MINUTES` minutes."""
    environment = _running(environment)
    group = _outputs(environment, report)["log_group_name"]
    log_client = environment.client("logs")
    since = int((time.time() - LOG_MINUTES * 60) * 1000)
    for page in log_client.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since):
        for event in page["events"]:
            answer(f"{event['logStreamName'].rsplit('/', 1)[-1][:8]} {event['message']}")


def unlock(environment: Environment, report: Reporter, variables: Mapping[str, str] = os.environ) -> None:
    """Release the lock of Terraform's state that an interrupted deployment left behind."""
    lock = variables.get("LOCK", "")
    if not lock:
        raise Failed(
            "LOCK has no value",
            f"The message about the lock has its id: {environment.command('unlock')} LOCK=<id>",
        )
    stack = Stack(_running(environment), report)
    with report.step("terraform init"):
        stack.init()
    with report.step("terraform force-unlock"):
        stack.unlock(lock)


def rehearse(environment: Environment, report: Reporter) -> str:
    """Deploy a root to an emulated AWS of its own, check it, and remove everything. Return a sentence.

    After a failure the emulated AWS continues to run, so that the cause can be found. The next rehearsal
    begins with a new one.
    """
    engine, emulated = docker_engine(), environment.emulated
    assert emulated is not None
    for name in REHEARSALS.values():  # they share ports and addresses
        emulated_aws.purge(engine, replace(emulated, name=name))
    environment = prepare_all(environment, report)
    release(environment, report)
    check_second_plan(environment, report)
    environment = unprotect(environment, report)
    said = destroy(environment, report, destroy_steps.agreed(environment))
    emulated_aws.purge(engine, emulated)
    return (
        f"{environment.root.name} was deployed to emulated AWS and removed: {said} ({report.seconds:.0f} s)"
    )


def check_second_plan(environment: Environment, report: Reporter) -> None:
    """Raise unless a plan with the image that runs changes nothing."""
    with report.step("a second plan"):
        stack = Stack(environment, report)
        service = _service(environment)
        image = service.image(stack.outputs()["task_definition_arn"])
        if changes := stack.changes(image):
            raise Failed("a second plan is not empty:\n" + "\n".join(f"    {change}" for change in changes))


def unprotect(environment: Environment, report: Reporter) -> Environment:
    """Take the protection against deletion away, as docs/runbook.md says, if the root has it."""
    assert environment.emulated is not None
    with report.step("deletion protection"):
        try:
            destroy_steps.unprotected(environment)
        except Failed:
            report.say("AWS refuses to delete the load balancer until the protection is taken away")
        else:
            return environment
        values = {**environment.emulated.values, "deletion_protection": "false"}
        environment = replace(environment, emulated=replace(environment.emulated, values=values))
        stack = Stack(environment, report)
        service = _service(environment)
        stack.apply(service.image(stack.outputs()["task_definition_arn"]))
    return environment


def destroy(environment: Environment, report: Reporter, variables: Mapping[str, str] = os.environ) -> str:
    """Remove the stack, keep the bucket, and return a sentence about what is left.

    It can be repeated after every failure.
    """
    images = destroy_steps.confirmed(environment, variables)
    with report.step("tools"):
        prepare.tools()
    if environment.emulated:
        with report.step("the emulated AWS"):
            environment = _as_deployer(environment, report)
    with report.step("account"):
        environment = prepare.account(environment, report)
        prepare.buckets_exist(environment, access_logs=False)
    stack = Stack(environment, report)
    with report.step("terraform init"):
        stack.check_variables()
        stack.init()
        outputs = stack.outputs()
    with report.step("deletion protection"):
        destroy_steps.unprotected(environment)
    with destroy_steps.naming_what_remains(environment):
        return _remove(environment, stack, outputs, images, report)


def _remove(
    environment: Environment, stack: Stack, outputs: dict[str, str], images: str, report: Reporter
) -> str:
    """The steps of `destroy_steps.STEPS`, in that order."""
    with report.step(destroy_steps.SCALE):
        if "service_name" in outputs:
            Service(environment, outputs["cluster_name"], outputs["service_name"]).scale_to_zero(report)
    with report.step(destroy_steps.IMAGES):
        if images == destroy_steps.DELETE:
            report.say(f"{destroy_steps.delete_images(environment)} deleted")
        else:
            report.say("kept")
    with report.step(destroy_steps.DESTROY):
        stack.destroy(keep=() if images == destroy_steps.DELETE else (REGISTRY,))
    with report.step(destroy_steps.DEFINITIONS):
        report.say(f"{delete_task_definitions(environment)} removed")
    with report.step(destroy_steps.AUDIT):
        left = leftovers.find(environment)
        for arn in left.unconfirmed:
            report.say(f"AWS still lists {arn}; nothing here can confirm that it exists")
        kept = f":repository/{environment.project}" if images == destroy_steps.KEEP else None
        exist = [arn for arn in left.exist if kept is None or not arn.endswith(kept)]
        if exist:
            raise Failed(
                f"{len(exist)} left:\n" + "\n".join(f"    {arn}" for arn in exist),
                f"Run {environment.command('destroy')} again",
            )
        said = f"0 left, bucket {environment.bucket} kept, {count_objects(environment)} objects"
    if environment.emulated:
        engine = docker_engine()
        with report.step(destroy_steps.STOP):
            _forget_tags(outputs.get("repository_url", ""))
            emulated_aws.stop(engine, environment.emulated)
            running = emulated_aws.tasks(engine, environment.emulated)
            if running:
                raise Failed(f"{len(running)} tasks still run", f"Run {environment.command('destroy')} again")
    report.line(f"✓ {said} ({report.seconds:.0f} s)")
    return said


def _forget_tags(repository: str) -> None:
    """Remove the tags of the deleted registry, but not the images: builds may use them."""
    engine = docker_engine()
    for image in engine.images.list(name=repository) if repository else ():
        for tag in image.tags:
            if tag.startswith(f"{repository}:"):
                try:
                    engine.images.remove(tag, noprune=True)
                except (ImageNotFound, APIError):
                    continue  # a container still uses it


def _running(environment: Environment) -> Environment:
    if environment.emulated:
        return rehearsal.with_values(emulated_aws.running(docker_engine(), environment))
    return prepare.account(environment, Quiet())


def _service(environment: Environment) -> Service:
    """The service. Cluster and service have the name of the project, also before there are outputs."""
    return Service(environment, environment.project, environment.project)


def _outputs(environment: Environment, report: Reporter) -> dict[str, str]:
    stack = Stack(environment, report)
    stack.init()
    outputs = stack.outputs()
    if "url" not in outputs:
        raise Failed(f"{environment.name} is not deployed", environment.command("deploy"))
    return outputs


class Quiet(Reporter):
    """Prints no steps. For commands whose output is read by scripts."""

    def line(self, text: str) -> None:
        pass
