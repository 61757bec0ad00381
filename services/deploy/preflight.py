"""Checks what a plan does not tell: may the account start the instances, and are names taken?"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from botocore.exceptions import ClientError

from deploy.environments import BILLING_REGION, Environment
from deploy.service import Service
from deploy.steps import Failed
from deploy.terraform_variables import FILE


def instance_type(environment: Environment) -> None:
    """Check that the account may start the instance type, before an apply waits ten minutes for instances.

    The type must have the architecture of the image, or no task starts ("exec format error").

    Accounts on the free plan may start only the types that are eligible for the free tier:
    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/free-tier-plans.html
    """
    wanted, architecture = environment.variables["instance_type"], environment.variables["architecture"]
    ec2 = environment.client("ec2")
    offered = ec2.describe_instance_type_offerings(Filters=[{"Name": "instance-type", "Values": [wanted]}])
    if not offered["InstanceTypeOfferings"]:
        raise Failed(
            f"{environment.region} has no {wanted}",
            f"Set another instance_type in envs/{environment.root.name}/{FILE}",
        )
    for entry in ec2.describe_instance_types(InstanceTypes=[wanted])["InstanceTypes"]:
        if entry["InstanceType"] == wanted and not _runs(entry, architecture):
            has = ", ".join(entry["ProcessorInfo"]["SupportedArchitectures"])
            raise Failed(
                f"{wanted} is {has}, and architecture is {architecture}",
                f"Set an architecture and an instance_type that agree in envs/{environment.root.name}/{FILE}",
            )
    if not _on_free_plan(environment):
        return
    pages = ec2.get_paginator("describe_instance_types").paginate(
        Filters=[{"Name": "free-tier-eligible", "Values": ["true"]}]
    )
    eligible = {entry["InstanceType"]: entry for page in pages for entry in page["InstanceTypes"]}
    if wanted not in eligible:
        fits = [name for name, entry in eligible.items() if _runs(entry, architecture)]
        raise Failed(
            f"this account is on the free plan, which does not include {wanted}",
            f"Set instance_type in envs/{environment.root.name}/{FILE} to one of {', '.join(sorted(fits))}, "
            "or upgrade the account to the paid plan",
        )


def same_architecture(environment: Environment, service: Service) -> None:
    """Raise if a deployment would change the architecture of a stack that runs.

    ECS could not place the new tasks on the instances, and `make refresh` replaces them only after it.
    """
    wanted, runs = environment.variables["architecture"], service.architecture()
    if runs not in {None, wanted}:
        raise Failed(
            f"the stack runs on {runs}, and a deployment cannot change that to {wanted}",
            f"Remove the stack and deploy it again; the files stay: make destroy ENV={environment.name}",
        )


def _runs(entry: dict[str, Any], architecture: str) -> bool:
    return architecture in entry["ProcessorInfo"]["SupportedArchitectures"]


def _on_free_plan(environment: Environment) -> bool:
    """Whether the account is on the free plan. An account from before July 2025 has no plan."""
    try:
        plan = environment.client("freetier", BILLING_REGION).get_account_plan_state()
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return False
        raise
    return bool(plan["accountPlanType"] == "FREE")


def made_by_hand(environment: Environment, state: Collection[str], options: str = "") -> None:
    """Raise if a resource exists that Terraform would create, as the course creates some by hand.

    `state` has the addresses in Terraform's state, and `options` those that `terraform import` needs.
    """
    found = [
        (address, id_)
        for address, find in _named(environment).items()
        if address not in state and (id_ := _existing(find))
    ]
    if found:
        commands = [f"    terraform import {options} '{address}' '{id_}'" for address, id_ in found]
        raise Failed(
            f"{len(found)} resources of the stack exist, and are not in its state:\n" + "\n".join(commands),
            f"To let this stack manage them, run these commands in envs/{environment.root.name} and deploy "
            f"again. Otherwise delete them, or choose other names in {FILE}",
        )


def _existing(find: Callable[[], str]) -> str | None:
    try:
        return find()
    except ClientError as error:
        if error.response["Error"]["Code"].removesuffix("Exception").endswith(("NotFound", "NoSuchEntity")):
            return None
        raise


def _named(environment: Environment) -> dict[str, Callable[[], str]]:
    """Resources whose name an account can have once: by address, a call that returns the id for an import."""
    project, role = environment.project, environment.variables["task_role_name"]
    topic = (
        f"arn:aws:sns:{BILLING_REGION}:{environment.account}:{environment.variables['billing_topic_name']}"
    )
    iam, sns = environment.client("iam"), environment.client("sns", BILLING_REGION)
    ecr, elb = environment.client("ecr"), environment.client("elbv2")
    return {
        "module.service.aws_iam_role.task": lambda: iam.get_role(RoleName=role)["Role"]["RoleName"],
        "module.billing_alarm.aws_sns_topic.this": lambda: sns.get_topic_attributes(TopicArn=topic)[
            "Attributes"
        ]["TopicArn"],
        "module.registry.aws_ecr_repository.this": lambda: ecr.describe_repositories(
            repositoryNames=[project]
        )["repositories"][0]["repositoryName"],
        "module.load_balancer.aws_lb.this": lambda: elb.describe_load_balancers(Names=[f"{project}-alb"])[
            "LoadBalancers"
        ][0]["LoadBalancerArn"],
        "module.load_balancer.aws_lb_target_group.this": lambda: elb.describe_target_groups(
            Names=[f"{project}-tg"]
        )["TargetGroups"][0]["TargetGroupArn"],
    }
