"""Moves a stack to another bucket: both are allowed until no task uses the old one."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from botocore.exceptions import ClientError

from deploy import terraform_variables
from deploy.environments import Environment
from deploy.service import STOPPED_WITHIN, Service
from deploy.stack import Stack
from deploy.steps import Failed, Reporter

# What names the buckets that tasks may use: the policy of the S3 endpoint, and that of the tasks' role.
POLICIES = ("module.network.aws_vpc_endpoint.s3", "module.service.aws_iam_role_policy.task")
# AWS says that a changed policy of an endpoint takes effect after a few minutes:
# https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
ENDPOINT_CHANGED_WITHIN = 180
PAUSE = 1
_POLICY_NAME = "data-bucket"
_BUCKET = re.compile(r"arn:aws:s3:::([a-z0-9.-]+)")
_ASSIGNMENT = re.compile(r"^data_bucket_name\s*=.*$", re.MULTILINE)


def check(environment: Environment, service: Service) -> None:
    """Raise if a deployment would move the stack to another bucket although the operator has named none."""
    runs = service.bucket()
    if not environment.default_bucket or runs in {None, environment.bucket}:
        return
    if environment.emulated:
        remedy = f"To keep it, name it: make deploy ENV={environment.name} BUCKET={runs}"
    else:
        remedy = f'To keep it, add data_bucket_name = "{runs}" to {_file(environment)}'
    raise Failed(
        f"the tasks use the bucket {runs}, and nothing names it, so {environment.bucket} would replace it",
        f"{remedy}. To move: make deploy ENV={environment.name} BUCKET={environment.bucket}",
    )


def remember(environment: Environment, report: Reporter) -> None:
    """Store the operator's choice of a bucket in the environment's file, for the next deployment.

    `local` stores nothing, because its root is that of `day02`.
    """
    chosen = environment.bucket
    if environment.emulated or environment.default_bucket or _stored(environment) == chosen:
        return
    path = environment.root / terraform_variables.FILE
    line = f'data_bucket_name = "{chosen}"'
    text, found = _ASSIGNMENT.subn(line, path.read_text())
    path.write_text(text if found else f"{text.rstrip()}\n{line}\n")
    terraform_variables.values.cache_clear()
    if _stored(environment) != chosen:
        raise Failed(
            f"{_file(environment)} names {chosen}, and something that Terraform reads later names another",
            "Remove data_bucket_name from the other files of variables",
        )
    report.say(f"{_file(environment)} now has {line}; commit it")


def with_previous(environment: Environment) -> Environment:
    """The environment with the other buckets that the tasks may use now.

    A deployment takes none of them away before its end: ECS can still return to the tasks that use them.
    """
    iam = environment.client("iam")
    role = environment.variables["task_role_name"]
    try:
        document = iam.get_role_policy(RoleName=role, PolicyName=_POLICY_NAME)["PolicyDocument"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchEntity":
            return environment
        raise
    allowed = {
        name
        for statement in document["Statement"]
        for name in _BUCKET.findall(str(statement["Resource"]))
        if name != environment.bucket
    }
    return replace(environment, previous_buckets=tuple(sorted(allowed)))


def allow_both(environment: Environment, stack: Stack, image: str, report: Reporter) -> None:
    """Allow the new bucket in addition to the previous ones, before any task uses it.

    The wait is the same when the policies were changed by an earlier deployment that was interrupted: nothing
    tells when AWS uses them. The emulated AWS has no endpoint that packets pass.
    """
    if environment.previous_buckets:
        with report.step(f"allow {environment.bucket} and {', '.join(environment.previous_buckets)}"):
            stack.apply(image, targets=POLICIES)
            if environment.emulated is None:
                report.say(f"waiting {ENDPOINT_CHANGED_WITHIN} s until the S3 endpoint uses its new policy")
                time.sleep(ENDPOINT_CHANGED_WITHIN)


def allow_one(environment: Environment, service: Service, image: str, report: Reporter) -> None:
    """Allow only the environment's bucket again, once every task of another one has stopped."""
    if not environment.previous_buckets:
        return
    with report.step(f"allow {environment.bucket} only"):
        deadline = time.monotonic() + STOPPED_WITHIN
        while others := service.buckets_in_use() - {environment.bucket}:
            if time.monotonic() > deadline:
                raise Failed(
                    f"after {STOPPED_WITHIN} s tasks still use {', '.join(sorted(others))}, "
                    "so it stays allowed",
                    f"The new tasks serve. Run make deploy ENV={environment.name} again when the others "
                    "have stopped",
                )
            time.sleep(PAUSE)
        Stack(replace(environment, previous_buckets=()), report).apply(image, targets=POLICIES)


def _stored(environment: Environment) -> str | None:
    name: str | None = environment.variables["data_bucket_name"]
    return name


def _file(environment: Environment) -> str:
    return f"envs/{environment.root.name}/{terraform_variables.FILE}"
