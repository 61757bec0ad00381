"""The environments, their differences, and the boto3 clients for their AWS."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3.session
import botocore.session
from botocore.config import Config

from deploy import terraform_variables
from deploy.steps import Failed
from s3api.bucket import origins_in

CHECKOUT = Path(__file__).resolve().parents[2]
BILLING_REGION = "us-east-1"
POLICIES = Path(__file__).with_name("iam")
WORK = CHECKOUT / ".data" / "deploy"

# Docker's names of the architectures that the instances can have.
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}

# The Terraform root of each environment, in envs.
ROOTS = {"local": "day02", "day02": "day02", "prod": "prod"}
# The names of the emulated AWS of each environment that can be rehearsed.
REHEARSALS = {name: f"day02-aws-rehearsal-{name}" for name in ROOTS if name != "local"}

# The SSM parameters in each root's main.tf, after the prefix of names. A test compares them.
SECRETS = {
    "day02": {"SIGNING_KEY": "signing_key"},
    "prod": {"API_TOKENS": "api_tokens", "SIGNING_KEY": "signing_key"},
}

# The API's name in the rehearsal of prod.
DOMAIN = "files.example.com"

# On emulated AWS, the variables that an operator sets for AWS. Those of prod need `rehearsal.with_values`.
EMULATED_VALUES: Mapping[str, Mapping[str, str]] = {"day02": {"billing_email": "billing@example.com"}}


@dataclass(frozen=True)
class EmulatedAws:
    """The emulated AWS: its container, network and volume, and its ports of 127.0.0.1.

    `address` is its address in `subnet`. The SDKs accept a task's credentials only from 169.254.170.2 and
    169.254.170.23, so a machine can run two of them. `start_seconds` is the least time that a task gets to
    become healthy. `policies` is a directory with other policies for its deployer than those of
    `iam_policies`. `keys` is the directory with the key of its root, in the form that AWS tools read.

    `listener` is the port of the load balancer's listener, and `api_port` the port of 127.0.0.1 that leads to
    it. `redirect_port` leads to the load balancer's port 80; 0 means that port 80 is not published. `domain`
    is the name of the API, if it has one. `values` are values of Terraform variables. `pages` are the origins
    of other web pages that may use presigned URLs.
    """

    name: str = "day02-aws"
    subnet: str = "169.254.170.0/28"
    address: str = "169.254.170.2"
    aws_port: int = 4566
    api_port: int = 5000
    region: str = "eu-west-1"
    time_scale: int = 10
    start_seconds: int = 20
    policies: Path | None = None
    keys: Path = WORK / "keys"
    listener: int = 5000
    redirect_port: int = 0
    domain: str = ""
    values: Mapping[str, str] = field(default_factory=lambda: EMULATED_VALUES["day02"])
    pages: Sequence[str] = ()

    @property
    def volume(self) -> str:
        return f"{self.name}-data"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.aws_port}"

    @property
    def origins(self) -> list[str]:
        """The origins of the web pages that may use presigned URLs: the API's own, and `pages`."""
        own = [f"http://{host}:{self.api_port}" for host in ("127.0.0.1", "localhost")]
        return [*([f"https://{self.domain}"] if self.domain else own), *self.pages]

    @property
    def published(self) -> Mapping[str, tuple[str, int]]:
        """The ports of the container, and where this machine publishes them."""
        ports = {4566: self.aws_port, self.listener: self.api_port}
        if self.redirect_port:
            ports[80] = self.redirect_port
        return {f"{inside}/tcp": ("127.0.0.1", outside) for inside, outside in ports.items()}


@dataclass(frozen=True)
class Environment:
    """One environment to deploy to.

    `work` is the directory for Terraform's downloads and plans; None is the root. `account` is the number of
    the AWS account. Once it is known, S3 refuses every request to a bucket that another account owns. `pages`
    are the origins of the web pages that may use presigned URLs; if there are none, the rules of the bucket
    decide. `default_bucket` says that neither the operator nor a file has named the data bucket.
    `previous_buckets` are others that tasks may use too, during a move.
    """

    name: str
    bucket: str
    state_bucket: str
    image: str = "s3api:deploy"
    dockerfile: str = "docker/Dockerfile"
    work: Path | None = None
    emulated: EmulatedAws | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    account: str = ""
    pages: Sequence[str] = ()
    default_bucket: bool = False
    previous_buckets: Sequence[str] = ()

    @property
    def root(self) -> Path:
        return CHECKOUT / "envs" / ROOTS[self.name]

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags that the root gives to all resources."""
        return {"project_name": self.project_tag, "environment": ROOTS[self.name]}

    @property
    def variables(self) -> Mapping[str, Any]:
        """The values of the Terraform variables that this package reads too."""
        return terraform_variables.values(self.root)

    @property
    def region(self) -> str:
        return str(self.variables["region"])

    @property
    def project(self) -> str:
        """The prefix of the names of all resources."""
        return str(self.variables["name"])

    @property
    def project_tag(self) -> str:
        """The value of the tag `project_name` of all resources."""
        return str(self.variables["project_name"])

    @property
    def access_logs_bucket(self) -> str | None:
        """The bucket for the load balancer's access logs, if the root has one and a file names it."""
        values = self.emulated.values if self.emulated else self.variables
        name: str | None = values.get("access_logs_bucket_name")
        return name

    @property
    def secrets(self) -> Mapping[str, str]:
        return {variable: f"/{self.project}/{name}" for variable, name in SECRETS[ROOTS[self.name]].items()}

    @property
    def is_rehearsal(self) -> bool:
        return self.emulated is not None and self.name != "local"

    def command(self, command: str) -> str:
        """The call of `make` that does this to the environment, for a message.

        A rehearsal has one command: the others would reach the environment of that name on AWS.
        """
        return f"make {'rehearse' if self.is_rehearsal else command} ENV={self.name}"

    @property
    def read_log(self) -> str:
        """How to read the log of the tasks, for a message."""
        if self.emulated and self.is_rehearsal:
            return f"The emulated AWS still runs at {self.emulated.url}, with the key in {self.emulated.keys}"
        return f"Read the log of the API: {self.command('logs')}"

    @property
    def aws_variables(self) -> Mapping[str, str]:
        """The environment variables that make every AWS SDK use the emulated AWS and its key. Empty for AWS.

        The provider and the backend of Terraform read them. Terraform sees no other difference between the
        emulated AWS and AWS. The SDKs read no files of the operator, because these could name an account.
        https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        if self.emulated is None:
            return {}
        return {
            **self.credentials,
            "AWS_ENDPOINT_URL": self.emulated.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def architecture(self) -> str | None:
        """The architecture of the instances in Docker's words. None is this machine's own, for `local`."""
        return None if self.emulated else ARCHITECTURES[self.variables["architecture"]]

    def session(self) -> boto3.session.Session:
        key, secret = (self.credentials.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        if self.emulated:
            return _emulated_session(key, secret, self.region)
        return boto3.session.Session(key, secret, region_name=self.region)

    def client(self, service: str, region: str | None = None) -> Any:
        region, owner = region or self.region, self.account if service == "s3" else ""
        if self.emulated:
            return _emulated_client(self.session(), service, region, self.emulated.url, owner)
        return _client(self.session(), service, region, None, owner)

    def with_account(self, account: str) -> Environment:
        """The environment with its account and its buckets.

        The variable `data_bucket_name` names the data bucket. Without it, names contain the account's number.
        """
        named = self.bucket or self.variables["data_bucket_name"]
        return replace(
            self,
            account=account,
            bucket=named or f"{self.project}-{account}",
            default_bucket=self.default_bucket or not named,
            state_bucket=self.state_bucket or f"{self.project}-{account}-tfstate",
        )


@functools.cache
def _emulated_session(key: str | None, secret: str | None, region: str) -> boto3.session.Session:
    """One session for the same credentials: each session parses the description of a service anew.

    It ignores AWS_PROFILE, because the emulated AWS knows none of the operator's profiles.
    """
    core = botocore.session.Session({"profile": (None, None, None, None)})
    return boto3.session.Session(key, secret, region_name=region, botocore_session=core)


def _client(session: boto3.session.Session, service: str, region: str, url: str | None, owner: str) -> Any:
    """A client. If the owner of its buckets is known, it refuses those of another account."""
    client = session.client(
        service,  # type: ignore[call-overload]  # boto3's stubs know each service by a literal
        region_name=region,
        endpoint_url=url,
        config=Config(
            s3={"addressing_style": "path"} if url else {},
            retries={"mode": "standard", "total_max_attempts": 4},
        ),
    )
    if owner:
        expect_owner(client, owner)
    return client


#: One client for the same session, because it takes up to 25 ms of processor time to make one.
_emulated_client = functools.cache(_client)


def expect_owner(client: Any, account: str) -> None:
    """Make S3 refuse this client's requests to a bucket that another account owns.

    The names of the buckets can be guessed, and a name belongs to the first account that takes it:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
    """

    def add(params: dict[str, Any], model: Any, **_: object) -> None:
        if model.input_shape and "ExpectedBucketOwner" in model.input_shape.members:
            params.setdefault("ExpectedBucketOwner", account)

    client.meta.events.register("before-parameter-build.s3", add)


def environment(name: str, variables: Mapping[str, str] = os.environ) -> Environment:
    """The environment of that name, with the operator's settings from environment variables.

    BUCKET, STATE_BUCKET   the names of the buckets; `make deploy` stores BUCKET as `data_bucket_name`
    CORS_ORIGINS           the origins of the web pages that may use presigned URLs
    PORT, AWS_PORT         the ports of 127.0.0.1, for `local`
    """
    if name not in ROOTS:
        raise Failed(f"there is no environment '{name}'", f"ENV= is one of {', '.join(ROOTS)}")
    bucket, state_bucket = variables.get("BUCKET", ""), variables.get("STATE_BUCKET", "")
    values = terraform_variables.values(CHECKOUT / "envs" / ROOTS[name])
    prefix = f"{values['project_name']}-"
    if state_bucket and not (state_bucket.startswith(prefix) and state_bucket.endswith("-tfstate")):
        raise Failed(
            f"the bucket '{state_bucket}' is not {prefix}…-tfstate, where a deployer may keep the state",
            f"Choose another name: STATE_BUCKET={prefix}…-tfstate",
        )
    if bucket and not bucket.startswith(prefix):
        raise Failed(
            f"the bucket '{bucket}' does not begin with {prefix}", f"Choose another name: BUCKET={prefix}…"
        )
    try:
        pages = origins_in(variables.get("CORS_ORIGINS", ""))
    except ValueError as error:
        raise Failed(f"CORS_ORIGINS {error}", "Name the origins, with commas between them") from None
    if name != "local":
        return Environment(name, bucket, state_bucket, pages=pages)
    emulated = EmulatedAws(
        aws_port=_port(variables, "AWS_PORT", EmulatedAws.aws_port),
        api_port=_port(variables, "PORT", EmulatedAws.api_port),
        region=values["region"],
        listener=values["port"],
        pages=pages,
    )
    return Environment(
        name,
        bucket or f"{values['name']}-local",
        f"{values['name']}-local-tfstate",
        work=WORK,
        emulated=emulated,
        default_bucket=not bucket,  # data_bucket_name in the file of day02 is its bucket on AWS
    )


def rehearsed(name: str, variables: Mapping[str, str] = os.environ) -> Environment:
    """The environment of that name on an emulated AWS of its own, which is removed after the rehearsal.

    PORT, AWS_PORT, REDIRECT_PORT   the ports of 127.0.0.1
    """
    on_aws = environment(name, {})
    if on_aws.emulated:
        raise Failed(f"{name} is on emulated AWS already", "make rehearse ENV=prod, or ENV=day02")
    work = WORK / f"rehearsal-{name}"
    bucket = f"{on_aws.project}-rehearsal"
    logs = {"access_logs_bucket_name": f"{bucket}-logs"} if name == "prod" else {}
    emulated = EmulatedAws(
        name=REHEARSALS[name],
        subnet="169.254.170.16/28",
        address="169.254.170.23",
        aws_port=_port(variables, "AWS_PORT", 4576),
        api_port=_port(variables, "PORT", 5443),
        redirect_port=_port(variables, "REDIRECT_PORT", 5080) if name == "prod" else 0,
        # As on AWS: the first tasks start while Terraform makes the other resources. A rehearsal expects no
        # task to fail, so it does not wait for this time.
        start_seconds=60,
        region=on_aws.region,
        keys=work / "keys",
        listener=on_aws.variables["port"],
        domain=DOMAIN if name == "prod" else "",
        values={**EMULATED_VALUES.get(name, {}), **logs},
    )
    return Environment(
        name, bucket, f"{bucket}-tfstate", image="s3api:rehearsal", work=work, emulated=emulated
    )


def _port(variables: Mapping[str, str], name: str, default: int) -> int:
    given = variables.get(name) or str(default)
    if not given.isdigit() or not 0 < int(given) < 65_536:
        raise Failed(f"{name}={given} is not a port", f"Choose a number from 1 to 65535: {name}={default}")
    return int(given)
