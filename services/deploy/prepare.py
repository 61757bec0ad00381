"""The prerequisites of Terraform: checks tools and account; makes buckets, a signing key, the role of ECS."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable

import docker
from botocore.exceptions import BotoCoreError, ClientError

from deploy import terraform_variables
from deploy.environments import Environment
from deploy.steps import Failed, Reporter
from s3api import bucket

TERRAFORM_AT_LEAST = (1, 11)
MIB = 1024 * 1024
# Two tasks and their two replacements, each at its limit, and room for the emulated AWS and Terraform.
LOCAL_MEMORY = 4 * 384 * MIB + 1024 * MIB
_KEY_BYTES = 48
MAX_DAYS = 36_500
_ABSENT = {"404", "NoSuchBucket", "NotFound"}


def tools() -> None:
    """Check that Terraform is installed, and new enough to lock its state in S3."""
    if shutil.which("terraform") is None:
        raise Failed(
            "terraform is not installed", "Install Terraform 1.11 or newer: developer.hashicorp.com/terraform"
        )
    output = subprocess.run(
        ["terraform", "version", "-json"], capture_output=True, text=True, check=True
    ).stdout
    version = str(json.loads(output)["terraform_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < TERRAFORM_AT_LEAST:
        raise Failed(f"Terraform {version} is too old", "Install 1.11 or newer")


def memory(engine: docker.DockerClient) -> None:
    """Check that this machine has memory for the tasks at their limits. On AWS, the plan checks it."""
    total = int(engine.info()["MemTotal"])
    if total < LOCAL_MEMORY:
        raise Failed(
            f"Docker has {total // MIB} MiB of memory, and the tasks may take {LOCAL_MEMORY // MIB}",
            "Give Docker more memory in its settings",
        )


def account(environment: Environment, report: Reporter) -> Environment:
    """Find the identity and the account that deploy."""
    try:
        me = environment.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise Failed(
            f"AWS does not accept your credentials: {error}",
            "Log in (aws sso login) or set AWS_PROFILE, and try again",
        ) from None
    report.say(f"{me['Arn']} in account {me['Account']}, region {environment.region}")
    return environment.with_account(str(me["Account"]))


def buckets_exist(environment: Environment, *, access_logs: bool = True) -> None:
    """Check that the buckets exist in this account and region. A removal needs none for access logs."""
    for name in _buckets(environment):
        if name == environment.access_logs_bucket and not access_logs:
            continue
        region = _region_of(environment, name)
        if region is None:
            raise Failed(
                f"the bucket {name} does not exist",
                f"Make it, once and outside Terraform: {environment.command('bucket')}",
            )
        if region != environment.region:
            if name == environment.access_logs_bucket:
                raise Failed(
                    f"the bucket {name} is in {region}, and the load balancer in {environment.region}",
                    f"Set another access_logs_bucket_name in envs/{environment.root.name}/"
                    f"{terraform_variables.FILE}, and make it: {environment.command('bucket')}",
                )
            raise Failed(
                f"the bucket {name} is in {region}, and the stack in {environment.region}",
                f"Use one in {environment.region}: BUCKET={environment.project_tag}-… "
                f"STATE_BUCKET={environment.project_tag}-…-tfstate",
            )


def make_buckets(environment: Environment, report: Reporter) -> None:
    """Make the missing buckets, and correct only the settings that are wrong.

    prod has one for the load balancer's access logs, too.

    OLD_VERSION_DAYS   the days after which old versions are removed; by default a rule of the bucket stays
    """
    given = os.environ.get("OLD_VERSION_DAYS", "")
    if given and not (given.isdecimal() and 0 < int(given) <= MAX_DAYS):
        raise Failed(f"OLD_VERSION_DAYS={given} is not a number of days", "Choose one: OLD_VERSION_DAYS=90")
    for name in _buckets(environment):
        if _region_of(environment, name) is None:
            # S3 refuses us-east-1, its default, as a constraint.
            elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": environment.region}}
            environment.client("s3").create_bucket(
                Bucket=name, **({} if environment.region == "us-east-1" else elsewhere)
            )
            report.say(f"made {name}")
        elif name == environment.access_logs_bucket:
            _encrypted_for_the_balancer(environment, name)
        changed = bucket.correct(
            environment.client("s3"),
            name,
            pages=name == environment.bucket,
            origins=environment.emulated.origins if environment.emulated else environment.pages,
            tls=environment.emulated is None,  # the emulator speaks plain HTTP, and enforces the policy
            old_version_days=int(given) if given else None,
        )
        if name == environment.access_logs_bucket:
            changed += _let_balancer_write(environment, name)
        report.say(f"{name}: " + (", ".join(changed) if changed else "as it should be"))
    if environment.access_logs_bucket is None and "access_logs_bucket_name" in _declared(environment):
        report.say(
            "access_logs_bucket_name has no value. To make that bucket too, set it in "
            f"envs/{environment.root.name}/{terraform_variables.FILE} and run this again"
        )


def _encrypted_for_the_balancer(environment: Environment, name: str) -> None:
    """Raise if the bucket encrypts with a key of KMS: the load balancer writes only with SSE-S3.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    try:
        answer = environment.client("s3").get_bucket_encryption(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ServerSideEncryptionConfigurationNotFoundError":
            return
        raise
    for rule in answer["ServerSideEncryptionConfiguration"]["Rules"]:
        algorithm = rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "AES256")
        if algorithm != "AES256":
            raise Failed(
                f"the bucket {name} encrypts with {algorithm}, and a load balancer writes its access logs "
                "only to a bucket that encrypts with SSE-S3 (AES256)",
                "Set AES256 as its default encryption (aws s3api put-bucket-encryption), or set another "
                f"access_logs_bucket_name in envs/{environment.root.name}/{terraform_variables.FILE}",
            )


def _let_balancer_write(environment: Environment, name: str) -> list[str]:
    """Add the statement that lets the load balancer write its logs, unless it is there. Say what was changed.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    s3 = environment.client("s3")
    account = environment.account or environment.client("sts").get_caller_identity()["Account"]
    statement = {
        "Sid": "AccessLogs",
        "Effect": "Allow",
        "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{name}/{environment.project}/AWSLogs/{account}/*",
    }
    try:
        policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
            raise
        policy = {"Version": "2012-10-17", "Statement": []}
    if statement in policy["Statement"]:
        return []
    others = [known for known in policy["Statement"] if known.get("Sid") != statement["Sid"]]
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({**policy, "Statement": [*others, statement]}))
    return ["the load balancer may write"]


def _declared(environment: Environment) -> str:
    return (environment.root / "variables.tf").read_text()


def _buckets(environment: Environment) -> list[str]:
    logs = environment.access_logs_bucket
    return [environment.bucket, environment.state_bucket, *([logs] if logs else [])]


def _region_of(environment: Environment, name: str) -> str | None:
    """The bucket's region, or None if it does not exist."""
    s3 = environment.client("s3")
    try:
        s3.head_bucket(Bucket=name)
        return str(s3.get_bucket_location(Bucket=name)["LocationConstraint"] or "us-east-1")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _ABSENT:
            return None
        if code in {"403", "AccessDenied"}:
            variable = {
                environment.bucket: "BUCKET",
                environment.access_logs_bucket: "access_logs_bucket_name",
            }.get(name, "STATE_BUCKET")
            raise Failed(
                f"the bucket {name} does not belong to the account {environment.account}, "
                "or you may not use it",
                f"If another account has taken the name, choose another: "
                f"{variable}={environment.project_tag}-…. "
                "If the bucket is yours, ask for s3:ListBucket and s3:GetBucketLocation on it",
            ) from None
        if code in {"301", "PermanentRedirect"}:
            return "another region"
        raise


# --- secrets, and the role of ECS


def parameters(environment: Environment, report: Reporter) -> None:
    """Check the secrets that tasks read. Make a missing signing key; only the operator can make tokens."""
    ssm = environment.client("ssm")
    there = existing_parameters(environment, environment.secrets.values())
    for variable, name in environment.secrets.items():
        if name in there:
            continue
        if variable != "SIGNING_KEY":
            raise Failed(
                f"the parameter {name} does not exist",
                "Make a token (.venv/bin/s3api token new --name … --verbs list,read,write,delete) and store "
                f"its entry: aws ssm put-parameter --region {environment.region} --name {name} "
                "--type SecureString --value '[…]'",
            )
        ssm.put_parameter(Name=name, Type="SecureString", Value=secrets.token_urlsafe(_KEY_BYTES))
        report.say(f"made {name}")


def existing_parameters(environment: Environment, names: Iterable[str]) -> set[str]:
    """Those of the SSM parameters that exist. One page may lack some of them, and have a token for the next.

    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DescribeParameters.html
    """
    pages = environment.client("ssm").get_paginator("describe_parameters")
    wanted = [{"Key": "Name", "Option": "Equals", "Values": list(names)}]
    return {entry["Name"] for page in pages.paginate(ParameterFilters=wanted) for entry in page["Parameters"]}


def service_linked_role(environment: Environment, report: Reporter) -> None:
    """Make the service-linked role of ECS unless the account has it. Terraform does not manage it."""
    try:
        environment.client("iam").create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if code == "EntityAlreadyExists" or (code == "InvalidInput" and "taken" in message):
            return
        raise
    report.say("made AWSServiceRoleForECS")
