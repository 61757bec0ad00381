"""Attacks on the emulated AWS of `make deploy ENV=local`, by a web page and by a program on this machine.

It holds the engine's socket, so a client that controls its ECS controls the machine.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import boto3.session
import docker
import pytest
import requests
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from playwright.sync_api import Browser

from deploy import emulated_aws
from deploy.container_commands import run_in
from deploy.emulated_aws import IMAGE
from deploy.environments import EmulatedAws, Environment
from deploy.steps import Failed, Reporter
from guard.signatures import Claim, Request, text_to_sign
from s3api.bucket import correct
from support.chromium import running_chromium
from support.containers import of_cluster
from support.http_server import serving
from support.servers import until

pytestmark = pytest.mark.timeout(300)

REGION = "eu-west-1"
FOREIGN = "http://evil.test"
#: Keys that MiniStack accepts as the root's without the guard: a well-known pair, and any account number.
WELL_KNOWN = [("test", "test"), ("000000000000", "test"), ("123456789012", "anything")]
ESCAPE: dict[str, Any] = {
    "family": "escape",
    "networkMode": "host",
    "containerDefinitions": [
        {
            "name": "main",
            "image": "debian:trixie-slim",
            "privileged": True,
            "memory": 64,
            "mountPoints": [{"sourceVolume": "disk", "containerPath": "/host"}],
        }
    ],
    "volumes": [{"name": "disk", "host": {"sourcePath": "/"}}],
}


def emulated(aws: Environment) -> EmulatedAws:
    assert aws.emulated is not None
    return aws.emulated


def signed(
    keys: tuple[str, str],
    method: str,
    url: str,
    body: bytes = b"",
    *,
    service: str = "s3",
    query: bool = False,
    headers: dict[str, str] | None = None,
) -> tuple[str, dict[str, str]]:
    """The URL and the header fields of a request, signed by botocore."""
    # A presigned URL does not sign the body.
    request = AWSRequest(method, url, data=b"" if query else body, headers=dict(headers or {}))
    credentials = Credentials(*keys)
    if query:
        S3SigV4QueryAuth(credentials, service, REGION, expires=600).add_auth(request)
    elif service == "s3":
        S3SigV4Auth(credentials, service, REGION).add_auth(request)
    else:
        SigV4Auth(credentials, service, REGION).add_auth(request)
    return str(request.url), {name: str(value) for name, value in request.headers.items()}


def keys_of(aws: Environment) -> tuple[str, str]:
    return aws.credentials["AWS_ACCESS_KEY_ID"], aws.credentials["AWS_SECRET_ACCESS_KEY"]


@dataclass(frozen=True)
class Files:
    """A bucket with one file, which must be unchanged after each attack."""

    aws: Environment
    bucket: str

    @property
    def bucket_url(self) -> str:
        return f"{emulated(self.aws).url}/{self.bucket}"

    @property
    def url(self) -> str:
        return f"{self.bucket_url}/precious"

    def untouched(self) -> bool:
        s3 = self.aws.client("s3")
        versions = s3.list_object_versions(Bucket=self.bucket, Prefix="precious")
        kept = bool(s3.get_object(Bucket=self.bucket, Key="precious")["Body"].read() == b"precious")
        return kept and len(versions["Versions"]) == 1 and not versions.get("DeleteMarkers")

    def no_escape(self) -> bool:
        ecs = self.aws.client("ecs")
        return not ecs.list_task_definitions(familyPrefix="escape")["taskDefinitionArns"]


@pytest.fixture(scope="module")
def files(aws: Environment) -> Files:
    s3 = aws.client("s3")
    bucket = f"{aws.bucket}-attacked"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    correct(s3, bucket, origins=emulated(aws).origins, tls=False)
    s3.put_object(Bucket=bucket, Key="precious", Body=b"precious")
    return Files(aws, bucket)


# --- a program on this machine


def test_unsigned_requests_are_refused(files: Files) -> None:
    """Listing, reading, overwriting and deleting are refused without a signature."""
    answers = [
        requests.get(files.bucket_url, timeout=10),
        requests.get(files.url, timeout=10),
        requests.put(files.url, b"worse", timeout=10),
        requests.delete(files.url, timeout=10),
        requests.post(f"{files.bucket_url}?delete", b"<Delete/>", timeout=10),
        requests.post(files.bucket_url, {"key": "precious"}, files={"file": b"worse"}, timeout=10),
    ]

    assert [answer.status_code for answer in answers] == [403] * len(answers)
    assert not any(b"precious" in answer.content for answer in answers)
    assert files.untouched()


@pytest.mark.parametrize("keys", WELL_KNOWN)
@pytest.mark.parametrize("query", [False, True], ids=["header", "presigned"])
def test_well_known_keys_are_refused(files: Files, keys: tuple[str, str], query: bool) -> None:
    """The keys that MiniStack and LocalStack accept by default are refused in a header and in a URL."""
    for method, url, body in (
        ("GET", files.bucket_url, b""),
        ("GET", files.url, b""),
        ("PUT", files.url, b"worse"),
        ("DELETE", files.url, b""),
    ):
        target, headers = signed(keys, method, url, body, query=query)
        answer = requests.request(method, target, data=body, headers=headers, timeout=10)
        assert answer.status_code == 403, answer.text
        assert b"InvalidAccessKeyId" in answer.content

    assert files.untouched()


def test_a_wrong_secret_is_refused_for_every_kind_of_key(aws: Environment, files: Files) -> None:
    """The guard verifies the root's signatures, which MiniStack does not."""
    iam = aws.client("iam")
    iam.create_user(UserName="attacked")
    user = iam.create_access_key(UserName="attacked")["AccessKey"]
    role = iam.create_role(
        RoleName="attacked",
        AssumeRolePolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
            }
        ),
    )["Role"]["Arn"]
    session = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
    pairs = [keys_of(aws)[0], user["AccessKeyId"], session["AccessKeyId"]]

    for identity in pairs:
        target, headers = signed((identity, "wrong"), "GET", files.url)
        assert requests.get(target, headers=headers, timeout=10).status_code == 403
    # The key of a session is refused without the session's token.
    target, headers = signed((session["AccessKeyId"], session["SecretAccessKey"]), "GET", files.url)
    assert requests.get(target, headers=headers, timeout=10).status_code == 403

    known = client(aws, "sts", (user["AccessKeyId"], user["SecretAccessKey"])).get_caller_identity()
    assert known["Arn"].endswith(":user/attacked")
    iam.update_access_key(UserName="attacked", AccessKeyId=user["AccessKeyId"], Status="Inactive")
    with pytest.raises(ClientError) as refused:
        client(aws, "sts", (user["AccessKeyId"], user["SecretAccessKey"])).get_caller_identity()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def client(aws: Environment, service: str, keys: tuple[str, str]) -> Any:
    session: Any = boto3.session.Session(*keys, region_name=REGION)
    once: Any = {"total_max_attempts": 1}
    # boto3 still presigns with version 2 for some regions; the guard accepts only version 4.
    version = "s3v4" if service == "s3" else "v4"
    config = Config(retries=once, signature_version=version)
    return session.client(service, endpoint_url=emulated(aws).url, config=config)


def test_a_request_names_one_key(aws: Environment) -> None:
    """The root's key in the list of signed fields, where MiniStack would read it, is refused."""
    user = user_without_rights(aws, "climber")
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    body, host = b"Action=ListUsers&Version=2010-05-08", f"127.0.0.1:{emulated(aws).aws_port}"
    fields = {"host": host, "x-amz-date": moment, "content-type": "application/x-www-form-urlencoded"}
    names = [f"Credential={keys_of(aws)[0]}/x", *fields]
    claim = Claim(f"{user[0]}/{moment[:8]}/{REGION}/iam/aws4_request", moment, "", "", names)
    sent = [(name.encode(), value.encode()) for name, value in fields.items()]
    text = text_to_sign(claim, Request("POST", b"/", b"", sent), hashlib.sha256(body).hexdigest())
    signature = calculated(user[1], moment, "iam", text)
    parts = [f"SignedHeaders={';'.join(names)}", f"Credential={claim.credential}", f"Signature={signature}"]
    fields["authorization"] = f"AWS4-HMAC-SHA256 {', '.join(parts)}"

    answer = requests.post(f"http://{host}/", body, headers=fields, timeout=10)

    assert answer.status_code == 400, answer.text
    assert "more than one access key" in answer.text


def test_a_call_that_iam_does_not_know_is_denied(aws: Environment) -> None:
    """A call in a body that is not a form is denied. MiniStack executes it without a check of the action."""
    url, body = f"{emulated(aws).url}/", b"Action=ListUsers&Version=2010-05-08"
    target, headers = signed(user_without_rights(aws, "formless"), "POST", url, body, service="iam")

    answer = requests.post(target, body, headers=headers, timeout=10)

    assert answer.status_code == 403, answer.text
    assert b"<UserName>" not in answer.content


def test_a_form_is_held_to_who_signed_it(files: Files) -> None:
    """A user who may not write cannot write by a form. MiniStack handles every form as the root's."""
    form = {
        who: client(files.aws, "s3", keys).generate_presigned_post(files.bucket, "form")
        for who, keys in (("root", keys_of(files.aws)), ("user", user_without_rights(files.aws, "former")))
    }

    answers = {
        who: requests.post(
            files.bucket_url, data=given["fields"], files={"file": b"x"}, timeout=10
        ).status_code
        for who, given in form.items()
    }

    files.aws.client("s3").delete_object(Bucket=files.bucket, Key="form")
    assert answers == {"root": 204, "user": 403}


def test_a_form_of_a_role_is_held_to_its_objects(files: Files) -> None:
    """A form can write exactly the objects that its signer may write, as the task's role does."""
    iam, sts = files.aws.client("iam"), files.aws.client("sts")
    allowed = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{files.bucket}/own/*"}
    trusted = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
    policy, trust = (json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (allowed, trusted))
    role = iam.create_role(RoleName="former", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName="former", PolicyName="own", PolicyDocument=policy)
    keys = sts.assume_role(RoleArn=role, RoleSessionName="former")["Credentials"]
    session: Any = boto3.session.Session(
        keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name=REGION
    )
    s3 = session.client("s3", endpoint_url=emulated(files.aws).url, config=Config(signature_version="s3v4"))

    answers = {}
    for key in ("own/file", "other/file"):
        form = s3.generate_presigned_post(files.bucket, key)
        sent = requests.post(files.bucket_url, data=form["fields"], files={"file": b"x"}, timeout=10)
        answers[key] = sent.status_code

    files.aws.client("s3").delete_object(Bucket=files.bucket, Key="own/file")
    assert answers == {"own/file": 204, "other/file": 403}


def user_without_rights(aws: Environment, name: str) -> tuple[str, str]:
    iam = aws.client("iam")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def calculated(secret: str, moment: str, service: str, text: str) -> str:
    """The signature of a text."""
    key = f"AWS4{secret}".encode()
    for step in (moment[:8], REGION, service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_ministack/reset"),
        ("POST", "/_ministack/reset?init=1"),
        ("POST", "//_ministack/reset"),
        ("POST", "/%5fministack/reset"),
        ("POST", "/_ministack/config"),
        ("GET", "/_ministack/health"),
        ("GET", "/_ministack/ready"),
        ("GET", "/_localstack/health"),
        ("GET", "/health"),
        ("GET", "/_emulator/permissions"),
        ("GET", "/_alb/day02/"),
        ("GET", "/_aws/execute-api/x/y"),
    ],
)
def test_administration_is_closed_to_everyone(files: Files, method: str, path: str) -> None:
    """The emulator cannot be reset over HTTP, not even with the root's signature."""
    url = emulated(files.aws).url + path
    target, headers = signed(keys_of(files.aws), method, url)

    assert requests.request(method, url, timeout=10).status_code == 403
    assert requests.request(method, target, headers=headers, timeout=10).status_code == 403
    assert files.untouched()


@pytest.mark.parametrize(
    "fields",
    [
        {"Host": "evil.test"},
        {"Host": "evil.test:4566"},
        {"Host": "day02-attacked.s3.localhost"},
        {"Origin": FOREIGN},
        {"Origin": "null"},
    ],
)
def test_another_host_or_origin_is_refused_even_when_signed(files: Files, fields: dict[str, str]) -> None:
    """A valid signature does not help, and a preflight gets no permission."""
    target, headers = signed(keys_of(files.aws), "GET", files.url, headers=fields)
    wanted = {"Access-Control-Request-Method": "PUT", "Origin": FOREIGN, **fields}

    got = requests.get(target, headers={**headers, **fields}, timeout=10)
    preflight = requests.options(files.url, headers=wanted, timeout=10)

    assert (got.status_code, preflight.status_code) == (403, 403)
    assert "Access-Control-Allow-Origin" not in {**got.headers, **preflight.headers}


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("lambda", lambda c: c.list_functions()),
        ("codebuild", lambda c: c.list_projects()),
        ("rds", lambda c: c.describe_db_instances()),
        ("eks", lambda c: c.list_clusters()),
        ("elasticache", lambda c: c.describe_cache_clusters()),
        ("batch", lambda c: c.describe_job_queues()),
        ("glue", lambda c: c.get_jobs()),
        ("opensearch", lambda c: c.list_domain_names()),
        ("cloudformation", lambda c: c.list_stacks()),
        ("stepfunctions", lambda c: c.list_state_machines()),
        ("dynamodb", lambda c: c.list_tables()),
    ],
)
def test_services_that_the_stack_does_not_use_are_closed(
    aws: Environment, service: str, call: Callable[[Any], object]
) -> None:
    """They are closed even for the root: a dozen of them start containers or programs."""
    with pytest.raises(ClientError) as refused:
        call(client(aws, service, keys_of(aws)))

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_another_services_action_under_the_name_of_a_served_one_is_closed(aws: Environment) -> None:
    """It is refused although MiniStack evaluates X-Amz-Target before the service in the signature."""
    url, body = f"{emulated(aws).url}/", b"{}"
    fields = {"X-Amz-Target": "CodeBuild_20161006.ListProjects", "Content-Type": "application/x-amz-json-1.1"}
    target, headers = signed(keys_of(aws), "POST", url, body, service="ecs", headers=fields)

    answer = requests.post(target, body, headers=headers, timeout=10)

    assert answer.status_code == 400
    assert "Unsupported service: codebuild" in answer.text


# --- the engine


def test_no_caller_gets_a_task_that_reaches_the_machine(files: Files) -> None:
    """Even the root is refused, with every reason; a well-known key is already refused by the guard."""
    with pytest.raises(ClientError) as refused:
        files.aws.client("ecs").register_task_definition(**ESCAPE)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client(files.aws, "ecs", ("test", "test")).register_task_definition(**ESCAPE)

    error = refused.value.response["Error"]
    assert error["Code"] == "ClientException"
    for named in (
        "networkMode host",
        "volume disk: host.sourcePath",
        "privileged",
        "image debian:trixie-slim",
    ):
        assert named in error["Message"]
    assert files.no_escape()


def test_ecs_has_no_paths_beside_its_actions(files: Files) -> None:
    """A task definition at a path is refused. MiniStack has such paths, AWS does not."""
    url, body = f"{emulated(files.aws).url}/taskdefinitions", json.dumps(ESCAPE).encode()
    target, headers = signed(keys_of(files.aws), "POST", url, body, service="ecs")

    assert requests.post(target, body, headers=headers, timeout=10).status_code == 400
    assert files.no_escape()


def test_an_instance_is_no_container(aws: Environment, engine: docker.DockerClient) -> None:
    """No container starts for an EC2 instance. MiniStack would run a registered image of that name."""
    ec2 = aws.client("ec2")
    image = ec2.register_image(Name="box", ImageLocation="debian:trixie-slim")["ImageId"]

    with pytest.raises(ClientError, match="refuses"):
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)

    assert engine.containers.list(all=True, filters={"label": "ministack=ec2"}) == []


WITHOUT_ECS = """
import sys
import docker
from emulator import restrictions
name = sys.argv[1]
restrictions.restrict_engine(restrictions.Limits("127.0.0.1:4566", name))
client = docker.from_env()
client.containers.list()
for ask in (
    lambda: client.containers.run("debian:trixie-slim", "id", volumes=["/:/host"], privileged=True),
    lambda: client.images.pull("debian:trixie-slim"),
    lambda: client.volumes.create("x"),
    lambda: client.containers.get(name).exec_run("id"),
):
    try:
        ask()
        print("allowed")
    except docker.errors.APIError as error:
        assert "refuses" in str(error), error
        print("refused")
"""


def test_the_engine_is_closed_from_within(aws: Environment, engine: docker.DockerClient) -> None:
    """Calls to the engine are refused in every part of MiniStack, also for tasks in an older saved state."""
    running: Any = engine.containers.get(emulated(aws).name)

    ran = run_in(running, "python3", "-c", WITHOUT_ECS, emulated(aws).name)

    assert ran.status == 0, ran.output
    assert ran.stdout.split() == ["refused"] * 4  # the emulator warns of each on the standard error


def test_the_registry_wants_a_token(aws: Environment, engine: docker.DockerClient) -> None:
    """Pushes and pulls are refused without a token, and with MiniStack's password for every client."""
    url = f"{emulated(aws).url}/v2/"
    aws.client("ecr").create_repository(repositoryName="guarded")
    uri = f"127.0.0.1:{emulated(aws).aws_port}/guarded"
    engine.images.get("debian:trixie-slim").tag(uri, "x")
    wrong = {"username": "AWS", "password": "ministack-auth-token"}

    events = list(engine.api.push(uri, "x", stream=True, decode=True, auth_config=wrong))

    engine.images.remove(f"{uri}:x", noprune=True)
    assert any("error" in event for event in events), events
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, auth=("AWS", "ministack-auth-token"), timeout=10).status_code == 401
    assert requests.post(f"{url}guarded/blobs/uploads/", timeout=10).status_code == 401
    assert aws.client("ecr").list_images(repositoryName="guarded")["imageIds"] == []
    aws.client("ecr").delete_repository(repositoryName="guarded", force=True)


ASK = """
import os, sys, urllib.error, urllib.request
url, token = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
for headers in (
    {"Authorization": token},
    {"Authorization": "another"},
    {},
    {"Authorization": token, "Origin": "http://evil.test"},
    {"Authorization": token, "Host": "evil.test"},
):
    try:
        print(urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


def test_a_tasks_credentials_are_the_tasks_alone(
    aws: Environment, engine: docker.DockerClient, task_image: str
) -> None:
    """This machine gets none at either address of the emulator, even with the right URL and token."""
    local, ecs = emulated(aws), aws.client("ecs")
    ecs.create_cluster(clusterName="attacked")
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "ecs-tasks.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    role = aws.client("iam").create_role(
        RoleName="asked", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    registered = ecs.register_task_definition(
        family="attacked",
        taskRoleArn=role,
        containerDefinitions=[
            {
                "name": "main",
                "image": task_image,
                "memory": 64,
                "entryPoint": ["python3", "-c", "import time; time.sleep(600)"],
                "stopTimeout": 2,
            }
        ],
    )["taskDefinition"]["taskDefinitionArn"]
    task = ecs.run_task(cluster="attacked", taskDefinition=registered)["tasks"][0]["taskArn"]

    def started() -> list[Any]:
        return of_cluster(emulated_aws.tasks(engine, local), "attacked")

    running = until(lambda: next(iter(started()), None), "the task", 120, 0.1)
    environment = dict(entry.split("=", 1) for entry in running.attrs["Config"]["Env"])
    url = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    headers = {"Authorization": environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}

    from_here = [
        requests.get(
            url.replace(f"{local.address}:4566", f"127.0.0.1:{local.aws_port}"), headers=headers, timeout=10
        ),
        requests.get(url, headers=headers, timeout=10),
    ]
    ran = run_in(running, "python3", "-c", ASK)

    ecs.stop_task(cluster="attacked", task=task)
    until(lambda: not started(), "the task's end", 120, 0.1)
    ecs.delete_cluster(cluster="attacked")
    assert [answer.status_code for answer in from_here] == [403, 403]
    assert ran.status == 0, ran.output
    assert ran.stdout.split() == ["200", "403", "403", "403", "403"]


def test_the_key_is_its_owners_alone(aws: Environment, engine: docker.DockerClient) -> None:
    """It is in a private file and not in the output of `docker inspect`. Ports are on 127.0.0.1 only."""
    local = emulated(aws)
    running = engine.containers.get(local.name)
    shown = json.dumps([running.attrs, engine.images.get(IMAGE).attrs])
    host = running.attrs["NetworkSettings"]["Ports"]

    assert stat.S_IMODE((local.keys / "credentials").stat().st_mode) == 0o600
    assert stat.S_IMODE(local.keys.stat().st_mode) == 0o700
    assert not any(part in shown for part in keys_of(aws))
    assert {binding["HostIp"] for bindings in host.values() for binding in bindings or ()} == {"127.0.0.1"}
    assert keys_of(aws)[1] not in repr(aws)


# --- a page in a browser

ATTACK = """
async attacks => {
  const said = {};
  for (const [name, {url, ...options}] of Object.entries(attacks)) {
    try {
      const answer = await fetch(url, options);
      said[name] = answer.type === "opaque" ? "unreadable" : `${answer.status} ${await answer.text()}`;
    } catch (error) {
      said[name] = "blocked";
    }
  }
  return said;
}
"""


class EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>A page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def foreign_page() -> Iterator[str]:
    """A page on another origin of this machine, as any web site is for the emulator."""
    with serving(EmptyPage) as port:
        yield f"http://localhost:{port}/"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium(
        "--host-resolver-rules=MAP evil.test 127.0.0.1",  # a name after DNS rebinding
        # The newest browsers ask the user before a page may reach this machine. Older ones do not.
        "--disable-features=LocalNetworkAccessChecks",
    ) as browser:
        yield browser


def attacks_on(files: Files) -> dict[str, dict[str, Any]]:
    """What a page tries: without a signature, with the well-known keys, and with a presigned URL."""
    root = emulated(files.aws).url
    escape = json.dumps(ESCAPE).encode()
    ecs = {
        "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition",
        "Content-Type": "application/x-amz-json-1.1",
    }
    tried: dict[str, dict[str, Any]] = {
        "reset": {"url": f"{root}/_ministack/reset", "method": "POST", "mode": "no-cors"},
        "list": {"url": files.bucket_url},
        "read": {"url": files.url},
        "overwrite": {"url": files.url, "method": "PUT", "body": "worse"},
        "delete": {"url": files.url, "method": "DELETE"},
        "ecs as a form": {
            "url": f"{root}/taskdefinitions",
            "method": "POST",
            "mode": "no-cors",
            "body": escape,
        },
    }
    for name, method, url, body, service, fields in (
        ("signed list", "GET", files.bucket_url, b"", "s3", {}),
        ("signed overwrite", "PUT", files.url, b"worse", "s3", {}),
        ("signed delete", "DELETE", files.url, b"", "s3", {}),
        ("signed escape", "POST", f"{root}/", escape, "ecs", ecs),
    ):
        target, headers = signed(("test", "test"), method, url, body, service=service, headers=fields)
        tried[name] = {"url": target, "method": method, "headers": headers, "body": body}
    for name, method, keys in (
        ("presigned read", "GET", ("test", "test")),
        ("presigned overwrite", "PUT", ("test", "test")),
        ("presigned delete", "DELETE", ("test", "test")),
        ("a URL of the root's", "GET", keys_of(files.aws)),
    ):
        target, _ = signed(keys, method, files.url, query=True)
        tried[name] = {"url": target, "method": method, **({"body": b"worse"} if method == "PUT" else {})}
    for attempt in tried.values():
        body = attempt.pop("body", b"")
        if body:
            attempt["body"] = body if isinstance(body, str) else body.decode()
    return tried


def test_a_foreign_page_can_do_nothing(files: Files, chromium: Browser, foreign_page: str) -> None:
    """It can read no answer and change nothing. MiniStack without the guard allows all of this."""
    page = chromium.new_page()
    page.goto(foreign_page)

    said = page.evaluate(ATTACK, attacks_on(files))

    page.close()
    assert set(said.values()) <= {"blocked", "unreadable"}, said
    assert files.untouched()
    assert files.no_escape()


def test_a_page_under_a_rebound_name_can_do_nothing(files: Files, chromium: Browser) -> None:
    """For the browser, page and emulator have the same origin.

    The emulator does not accept that host name.
    """
    port = emulated(files.aws).aws_port
    page = chromium.new_page()
    page.goto(f"{FOREIGN}:{port}/")
    attacks = {
        name: {**attempt, "url": attempt["url"].replace("127.0.0.1", "evil.test"), "mode": "same-origin"}
        for name, attempt in attacks_on(files).items()
    }

    said = page.evaluate(ATTACK, attacks)

    page.close()
    assert all(answer.startswith("403 ") for answer in said.values()), said
    assert files.untouched()
    assert files.no_escape()


def test_the_services_own_page_uses_presigned_urls(files: Files, chromium: Browser) -> None:
    """The guard allows it: the same browser and the same URL, from the origin of the API."""
    page = chromium.new_page()
    origin = emulated(files.aws).origins[0]
    page.route(f"{origin}/", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(f"{origin}/")
    read, _ = signed(keys_of(files.aws), "GET", files.url, query=True)
    write, _ = signed(keys_of(files.aws), "PUT", f"{files.bucket_url}/other", query=True)

    said = page.evaluate(
        ATTACK, {"read": {"url": read}, "write": {"url": write, "method": "PUT", "body": "fine"}}
    )

    page.close()
    assert said == {"read": "200 precious", "write": "200 "}
    files.aws.client("s3").delete_object(Bucket=files.bucket, Key="other")


# --- state of an older version

PUT_INTO_STATE = """
import json, pathlib, sys
path = pathlib.Path("/data/state/ecs.json")
state = path.read_text()
assert "harmless" in state
family, image = sys.argv[1:]
state = state.replace(image, "debian:trixie-slim").replace('"harmless"', '"harmless", "privileged": true')
path.write_text(state)
"""


def test_what_older_state_holds_is_refused_and_the_key_survives_a_restart(
    files: Files, engine: docker.DockerClient, task_image: str, tmp_path: Any
) -> None:
    """A privileged task definition in the saved state does not run. A lost key gives a helpful error."""
    aws, local = files.aws, emulated(files.aws)
    ecs = aws.client("ecs")
    ecs.create_cluster(clusterName="older")
    ecs.register_task_definition(
        family="older", containerDefinitions=[{"name": "harmless", "image": task_image, "memory": 64}]
    )
    emulated_aws.stop(engine, local)
    engine.containers.run(
        IMAGE,
        ["-c", PUT_INTO_STATE, "older", task_image],
        entrypoint="python3",
        volumes=[f"{local.volume}:/data"],
        remove=True,
    )
    emulated_aws.start(engine, local, Reporter())

    with pytest.raises(ClientError) as refused:
        ecs.run_task(cluster="older", taskDefinition="older")
    with pytest.raises(ClientError, match="privileged"):
        ecs.create_service(cluster="older", serviceName="older", taskDefinition="older", desiredCount=1)
    with pytest.raises(Failed) as lost:
        emulated_aws.start(engine, replace(local, keys=tmp_path / "keys"), Reporter())

    ecs.delete_cluster(cluster="older")
    assert "container harmless: privileged" in refused.value.response["Error"]["Message"]
    assert "image debian:trixie-slim" in refused.value.response["Error"]["Message"]
    assert "does not know the key" in lost.value.why
    assert f"docker stop --time {emulated_aws.STOPPED_WITHIN} {local.name}" in lost.value.then
    assert (
        files.aws.client("s3").get_object(Bucket=files.bucket, Key="precious")["Body"].read() == b"precious"
    )
