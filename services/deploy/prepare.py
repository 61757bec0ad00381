"""Checks and makes what Terraform needs before it runs: tools, account, buckets, secrets, the role of ECS."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import docker
from botocore.exceptions import BotoCoreError, ClientError

from deploy.environments import REGION, Environment
from deploy.steps import Failed, Reporter
from run_local import ABORT_INCOMPLETE, BROWSERS

TERRAFORM_AT_LEAST = (1, 11)
MIB = 1024 * 1024
# Two tasks and their two replacements, each at its limit, and room for the emulated AWS and Terraform.
LOCAL_MEMORY = 4 * 384 * MIB + 1024 * MIB
_KEY_BYTES = 48
_ABSENT = {"404", "NoSuchBucket", "NotFound"}


def tools() -> None:
    """Check that Terraform is installed, and new enough to lock its state in S3."""
    if shutil.which("terraform") is None:
        raise Failed(
            "terraform is not installed", "Install Terraform 1.11 or newer: developer.hashicorp.com/terraform"
        )
    said = subprocess.run(
        ["terraform", "version", "-json"], capture_output=True, text=True, check=True
    ).stdout
    version = str(json.loads(said)["terraform_version"])
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
    report.say(f"{me['Arn']} in account {me['Account']}, region {REGION}")
    return environment.with_account(str(me["Account"]))


def buckets_exist(environment: Environment) -> None:
    """The data bucket is there, is the account's own and in the region; so is the state's, if any."""
    for name in _buckets(environment):
        region = _region_of(environment, name)
        if region is None:
            raise Failed(
                f"the bucket {name} does not exist",
                f"Make it, once and outside Terraform: make bucket ENV={environment.name}",
            )
        if region != REGION:
            raise Failed(
                f"the bucket {name} is in {region}, and the stack in {REGION}",
                f"Use one in {REGION}: BUCKET=day02-… STATE_BUCKET=day02-…-tfstate",
            )


def make_buckets(environment: Environment, report: Reporter) -> None:
    """Make the buckets where they are not, and put right what is not as it should be; no more."""
    for name in _buckets(environment):
        if _region_of(environment, name) is None:
            environment.client("s3").create_bucket(
                Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
            report.say(f"made {name}")
        changed = protect(
            environment.client("s3"),
            name,
            pages=name == environment.bucket,
            origins=environment.local.origins if environment.local else None,
            tls=environment.local is None,  # the emulator speaks plain HTTP, and enforces the policy
        )
        report.say(f"{name}: " + (", ".join(changed) if changed else "as it should be"))


def _buckets(environment: Environment) -> list[str]:
    return [environment.bucket, *([] if environment.local else [environment.state_bucket])]


def _region_of(environment: Environment, name: str) -> str | None:
    """The bucket's region, or None where there is no such bucket."""
    s3 = environment.client("s3")
    try:
        s3.head_bucket(Bucket=name)
        return str(s3.get_bucket_location(Bucket=name)["LocationConstraint"] or "us-east-1")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _ABSENT:
            return None
        if code in {"403", "AccessDenied"}:
            variable = "BUCKET" if name == environment.bucket else "STATE_BUCKET"
            raise Failed(
                f"the bucket {name} does not belong to the account {environment.account}, "
                "or you may not use it",
                f"If another account has taken the name, choose another: {variable}=day02-…. "
                "If the bucket is yours, ask for s3:ListBucket and s3:GetBucketLocation on it",
            ) from None
        if code in {"301", "PermanentRedirect"}:
            return "another region"
        raise


# --- what a bucket must be like


def tls_only(bucket: str) -> dict[str, Any]:
    """The statement that refuses whoever comes without TLS."""
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


CLOSED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}


def protect(
    s3: Any, bucket: str, *, pages: bool = True, origins: Sequence[str] | None = None, tls: bool = True
) -> list[str]:
    """Make a bucket as it should be; what had to be changed.

    Rules and statements of the owner's own stay. A bucket encrypted with another key stays so. `origins` are
    those whose pages may use presigned URLs; without them the bucket's own rules stay, if it has any.
    """
    changed: list[str] = []

    def ensure(what: str, right: bool, put: Callable[[], object]) -> None:
        if not right:
            put()
            changed.append(what)

    ensure(
        "versioned",
        s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled",
        lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
    )
    ensure(
        "encrypted",
        bool(_setting(s3.get_bucket_encryption, bucket, "ServerSideEncryptionConfiguration")),
        lambda: s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=ENCRYPTED),
    )
    ensure(
        "public access blocked",
        _setting(s3.get_public_access_block, bucket, "PublicAccessBlockConfiguration") == CLOSED,
        lambda: s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=CLOSED),
    )
    rules = _setting(s3.get_bucket_lifecycle_configuration, bucket, "Rules") or []
    others = [rule for rule in rules if rule.get("ID") != ABORT_INCOMPLETE["ID"]]
    ensure(
        "incomplete uploads aborted after a day",
        any(
            rule["Status"] == "Enabled"
            and (rule.get("Filter") or {"Prefix": ""}) == {"Prefix": ""}
            and rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation") == 1
            for rule in rules
        ),
        lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={"Rules": [*others, ABORT_INCOMPLETE]},
        ),
    )
    if pages:
        known = _setting(s3.get_bucket_cors, bucket, "CORSRules") or []
        rule = {**BROWSERS, "AllowedOrigins": list(origins)} if origins else BROWSERS
        ensure(
            "open to pages with presigned URLs",
            [entry["AllowedOrigins"] for entry in known] == [origins] if origins else bool(known),
            lambda: s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]}),
        )
    if tls:
        policy = json.loads(_setting(s3.get_bucket_policy, bucket, "Policy") or '{"Version": "2012-10-17"}')
        statement = tls_only(bucket)
        kept = [entry for entry in policy.get("Statement", []) if entry.get("Sid") != statement["Sid"]]
        ensure(
            "TLS only",
            statement in policy.get("Statement", []),
            lambda: s3.put_bucket_policy(
                Bucket=bucket, Policy=json.dumps({**policy, "Statement": [*kept, statement]})
            ),
        )
    return changed


def _setting(get: Callable[..., Any], bucket: str, key: str) -> Any:
    """A setting of a bucket, or None where it has none."""
    try:
        return get(Bucket=bucket).get(key)
    except ClientError as error:
        if error.response["Error"]["Code"].startswith(
            ("NoSuch", "ServerSideEncryptionConfigurationNotFound")
        ):
            return None
        raise


# --- secrets, and the role of ECS


def parameters(environment: Environment, report: Reporter) -> None:
    """Check the secrets that tasks read. Make a missing signing key; only the operator can make tokens."""
    ssm = environment.client("ssm")
    names = list(environment.secrets.values())
    found = ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": names}])
    there = {parameter["Name"] for parameter in found["Parameters"]}
    for variable, name in environment.secrets.items():
        if name in there:
            continue
        if variable != "SIGNING_KEY":
            raise Failed(
                f"the parameter {name} does not exist",
                "Make a token (python3 -m s3api token new --name … --verbs list,read) and store its entry: "
                f"aws ssm put-parameter --name {name} --type SecureString --value '[…]'",
            )
        ssm.put_parameter(Name=name, Type="SecureString", Value=secrets.token_urlsafe(_KEY_BYTES))
        report.say(f"made {name}")


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
