"""The whole stack: Terraform, containers of the image, a balancer, and enforced permissions.

The tests share one deployment and depend on their order; the last one destroys it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from botocore.exceptions import ClientError
from docker.errors import NotFound

from deploy import bucket_move, commands, emulated_aws, leftovers, prepare
from deploy.container_commands import run_in
from deploy.environments import POLICIES, Environment
from deploy.image import build, push
from deploy.service import Service, delete_task_definitions
from deploy.stack import Stack
from deploy.steps import Failed, Reporter, reason
from support.servers import ROOT, until
from support.traffic import HANG, NOTICED_WITHIN, Traffic

pytestmark = pytest.mark.timeout(900)

BACK_WITHIN = 30.0
# Between two looks at the stack: each asks AWS several times.
PAUSE = 0.25
# Of traffic that a fault of seconds must not disturb. The rolling deployment has traffic without such pauses.
SLOW = 0.1


def outputs(stack: Environment) -> dict[str, Any]:
    return Stack(stack, Reporter()).outputs()


def service(stack: Environment) -> Service:
    return Service(stack, "day02", "day02")


def tasks(engine: docker.DockerClient, stack: Environment) -> list[Any]:
    assert stack.emulated is not None
    return emulated_aws.tasks(engine, stack.emulated, every=False)


def healthy(stack: Environment) -> int:
    described = service(stack).describe()
    assert described is not None
    health = stack.client("elbv2").describe_target_health(
        TargetGroupArn=described["loadBalancers"][0]["targetGroupArn"]
    )
    states = [target["TargetHealth"]["State"] for target in health["TargetHealthDescriptions"]]
    return states.count("healthy") if len(states) == 2 else 0


def settled(engine: docker.DockerClient, stack: Environment) -> None:
    """Wait for two healthy tasks and no other."""
    until(
        lambda: healthy(stack) == 2 and len(tasks(engine, stack)) == 2, "two tasks, both healthy", 120, PAUSE
    )


# --- 1


def test_a_second_plan_is_empty(stack: Environment) -> None:
    """A second plan changes nothing."""
    described = service(stack).describe()
    assert described is not None
    image = stack.client("ecs").describe_task_definition(taskDefinition=described["taskDefinition"])[
        "taskDefinition"
    ]["containerDefinitions"][0]["image"]

    assert Stack(stack, Reporter()).plan_is_empty(image)


def test_the_image_that_runs_comes_from_the_registry(stack: Environment, engine: docker.DockerClient) -> None:
    """Both tasks run the image by its digest in the registry."""
    stored = {
        detail["imageDigest"]
        for detail in stack.client("ecr").describe_images(repositoryName="day02")["imageDetails"]
    }

    running = {task.attrs["Config"]["Image"] for task in tasks(engine, stack)}

    assert len(running) == 1
    assert running.pop().split("@")[1] in stored


def test_the_black_box_suite_passes_through_the_balancer(api: str) -> None:
    """The suite that needs only a base URL passes through the balancer."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("S3API_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/e2e", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**environment, "S3API_URL": api, "S3API_VERSIONED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-6000:]


def test_url_and_logs_say_what_scripts_read(
    stack: Environment, api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make url` prints only the URL, and `make logs` prints the log of the tasks."""
    assert commands.url(stack, commands.Quiet()) == api

    requests.get(f"{api}/", headers={"X-Request-Id": "read-by-make-logs"}, timeout=30).raise_for_status()

    def logged() -> bool:
        commands.logs(stack, commands.Quiet())
        return '"request_id":"read-by-make-logs"' in capsys.readouterr().out

    until(logged, "the log has the request", 60, pause=0.5)


def test_status_and_plan_say_what_runs_and_change_nothing(
    stack: Environment, engine: docker.DockerClient, api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make status` prints what runs, what it costs, and the drift. `make plan` prints changes."""
    commands.status(stack)
    said = capsys.readouterr().out

    assert f"url      {api}\n" in said
    assert "/day02@sha256:" in said
    commit = engine.images.get(stack.image).labels["org.opencontainers.image.revision"]
    assert f"commit   {commit}\n" in said
    assert f"bucket   {stack.bucket}\n" in said
    assert "cost     on AWS, about 56.88 USD a month without traffic" in said
    assert "COMPLETED" in said
    assert "targets  2 healthy\n" in said
    assert said.endswith("drift    none\n")

    commands.plan(stack, commands.Quiet())

    assert capsys.readouterr().out == ""


# --- 2

INSIDE = """
import json, sys, urllib.error, urllib.request
import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

bucket, other, endpoint = sys.argv[1:]
s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
said = {"me": boto3.client("sts", endpoint_url=endpoint).get_caller_identity()["Arn"]}

def attempt(what, call):
    try:
        call()
        said[what] = "allowed"
    except ClientError as error:
        said[what] = error.response["Error"]["Code"]

attempt("put", lambda: s3.put_object(Bucket=bucket, Key="inside", Body=b"x"))
attempt("get", lambda: s3.get_object(Bucket=bucket, Key="inside"))
attempt("list", lambda: s3.list_objects_v2(Bucket=bucket))
attempt("versions", lambda: s3.list_object_versions(Bucket=bucket))
attempt("versioning", lambda: s3.get_bucket_versioning(Bucket=bucket))
upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
attempt("parts", lambda: s3.list_parts(Bucket=bucket, Key="parts", UploadId=upload))
attempt("abort", lambda: s3.abort_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload))
attempt("delete", lambda: s3.delete_object(Bucket=bucket, Key="inside"))
attempt("get from another bucket", lambda: s3.get_object(Bucket=other, Key="secret"))
attempt("put into another bucket", lambda: s3.put_object(Bucket=other, Key="secret", Body=b"x"))
attempt("list another bucket", lambda: s3.list_objects_v2(Bucket=other))
attempt("delete a version", lambda: s3.delete_object(Bucket=bucket, Key="inside", VersionId="null"))
attempt("write the policy", lambda: s3.put_bucket_policy(Bucket=bucket, Policy="{}"))
attempt("read the policy", lambda: s3.get_bucket_policy(Bucket=bucket))
attempt("stop versioning", lambda: s3.put_bucket_versioning(
    Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}))
attempt("delete the bucket", lambda: s3.delete_bucket(Bucket=bucket))
attempt("list buckets", s3.list_buckets)
body = b"Action=ListUsers&Version=2010-05-08"
form = {"Content-Type": "application/x-www-form-urlencoded"}
request = AWSRequest("POST", endpoint + "/", data=body, headers=form)
credentials = boto3.session.Session().get_credentials().get_frozen_credentials()
SigV4Auth(credentials, "iam", "eu-west-1").add_auth(request)
try:
    urllib.request.urlopen(urllib.request.Request(endpoint + "/", body, dict(request.headers)))
    said["list users"] = "allowed"
except urllib.error.HTTPError as error:
    said["list users"] = "AccessDenied" if b"AccessDenied" in error.read() else str(error.code)
print(json.dumps(said))
"""


def test_the_task_role_reaches_its_bucket_and_nothing_else(
    stack: Environment, aws: Environment, engine: docker.DockerClient
) -> None:
    """Inside a task, the API's operations are allowed. Other buckets and other actions are denied."""
    assert stack.emulated is not None
    other = f"{stack.bucket}-other"
    root = aws.client("s3")
    root.create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    root.put_object(Bucket=other, Key="secret", Body=b"x")

    address = f"http://{stack.emulated.address}:4566"
    region = {"AWS_DEFAULT_REGION": "eu-west-1"}
    task = tasks(engine, stack)[0]
    ran = run_in(task, "python3", "-c", INSIDE, stack.bucket, other, address, environment=region)

    assert ran.status == 0, ran.output
    said = json.loads(ran.stdout)
    assert ":assumed-role/s3_access/" in said.pop("me")
    allowed = {what for what, outcome in said.items() if outcome == "allowed"}
    assert allowed == {"put", "get", "list", "versions", "versioning", "parts", "abort", "delete"}, said
    assert {outcome for what, outcome in said.items() if what not in allowed} == {"AccessDenied"}, said


def test_the_doctor_is_well_inside_a_task(
    stack: Environment, aws: Environment, engine: docker.DockerClient
) -> None:
    """With the task role, `s3api doctor` checks what the service does, and leaves nothing in the bucket."""
    root = aws.client("s3")
    ran = run_in(tasks(engine, stack)[0], "python3", "-m", "s3api", "doctor")
    said = ran.output
    listed = root.list_object_versions(Bucket=stack.bucket, Prefix=".s3api-doctor/")
    uploads = root.list_multipart_uploads(Bucket=stack.bucket, Prefix=".s3api-doctor/")

    assert ran.status == 0, said
    assert "FAILED" not in said
    assert "credentials: the task role, for" in said
    for check in ("list", "read", "write", "delete"):
        assert f"ok      {check}: allowed" in said, said
    assert not {"Versions", "DeleteMarkers"} & listed.keys()
    assert not uploads.get("Uploads")


# --- 5

EXITS = 'ENTRYPOINT ["python3", "-c", "raise SystemExit(\'this image is broken\')"]'
NEVER_HEALTHY = 'ENTRYPOINT ["python3", "-c", "import time; time.sleep(3600)"]'


def answering_500() -> str:
    """An image that answers 500 to everything except its liveness check."""
    program = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if self.path == '/livez' else 500)\n"
        "        self.send_header('Content-Length', '0')\n"
        "        self.end_headers()\n"
        "h.ThreadingHTTPServer(('', 5000), H).serve_forever()\n"
    )
    coded = base64.b64encode(program.encode()).decode()
    return f'ENTRYPOINT ["python3", "-c", "exec(__import__(\'base64\').b64decode(\'{coded}\'))"]'


def roll_out(environment: Environment, engine: docker.DockerClient) -> None:
    """The steps of `make deploy` from the image to the check, without Terraform, to save time."""
    report = Reporter()
    known = outputs(environment)
    image = build(engine, report, environment.image, dockerfile=environment.dockerfile)
    reference = push(engine, environment, image, known["repository_url"], report)
    ecs = environment.client("ecs")
    current = ecs.describe_task_definition(taskDefinition=known["task_definition_arn"])["taskDefinition"]
    kept = ("family", "taskRoleArn", "executionRoleArn", "networkMode", "volumes", "requiresCompatibilities")
    asked = ecs.register_task_definition(
        **{key: current[key] for key in kept},
        containerDefinitions=[{**current["containerDefinitions"][0], "image": reference}],
    )["taskDefinition"]["taskDefinitionArn"]
    ecs.update_service(cluster="day02", service="day02", taskDefinition=asked)
    until(lambda: steady(environment), "a steady service", 200, PAUSE)
    service(environment).wait_until_completed(asked, known["log_group_name"], report)


def steady(stack: Environment) -> bool:
    described = service(stack).describe()
    assert described is not None
    return [d["rolloutState"] for d in described["deployments"]] == ["COMPLETED"]


def make_deploy(environment: Environment, _engine: docker.DockerClient) -> None:
    commands.release(environment, Reporter())


@pytest.mark.parametrize(
    ("entrypoint", "cause", "deploy"),
    [
        pytest.param(EXITS, "this image is broken", make_deploy, id="exits at once"),
        pytest.param(NEVER_HEALTHY, "health check", roll_out, id="never healthy"),
        pytest.param(answering_500(), "L7STS 500", roll_out, id="answers 500"),
    ],
)
def test_a_broken_image_is_rolled_back(  # noqa: PLR0917 - pytest passes fixtures by name
    stack: Environment,
    engine: docker.DockerClient,
    api: str,
    dockerfile: tuple[Path, Environment],
    entrypoint: str,
    cause: str,
    deploy: Callable[[Environment, docker.DockerClient], None],
) -> None:
    """Its deployment fails and names the cause, no request fails, and the previous tasks still run."""
    path, environment = dockerfile
    path.write_text(f"FROM {stack.image}\n{entrypoint}\n")
    settled(engine, stack)
    before = {task.id for task in tasks(engine, stack)}

    with Traffic(api, readers=3, writers=1, pause=SLOW) as traffic, pytest.raises(Failed) as failed:
        deploy(environment, engine)

    assert "rolled back" in failed.value.why
    assert cause in failed.value.why
    assert traffic.failures == []
    assert traffic.made > 100
    assert before <= {task.id for task in tasks(engine, stack)}


def allowed_buckets(aws: Environment) -> tuple[set[str], set[str]]:
    """The data buckets that the tasks' role names, and those that the policy of the S3 endpoint names."""
    document = aws.client("iam").get_role_policy(RoleName="s3_access", PolicyName="data-bucket")
    [endpoint] = aws.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    in_role, in_endpoint = (
        set(re.findall(r"s3:::(day02-[a-z0-9-]+)", text))
        for text in (json.dumps(document["PolicyDocument"]), endpoint["PolicyDocument"])
    )
    return in_role, in_endpoint


def test_a_move_to_another_bucket_loses_no_request(
    stack: Environment, aws: Environment, engine: docker.DockerClient, api: str
) -> None:
    """Both buckets are allowed until the old tasks have stopped, and then only the new one.

    The next test moves back.
    """
    other = replace(stack, bucket=f"{stack.bucket}-new")
    prepare.make_buckets(replace(aws, bucket=other.bucket), Reporter())
    settled(engine, stack)
    seen: list[set[str]] = []

    with Traffic(api, readers=3, writers=1, pause=SLOW) as traffic, ThreadPoolExecutor() as threads:
        traffic.until(100)
        deployment = threads.submit(commands.release, other, Reporter())
        while not deployment.done():
            in_role, in_endpoint = allowed_buckets(aws)
            seen.append(in_role & in_endpoint)
            wait([deployment], timeout=0.5)
        deployment.result()
        traffic.until(traffic.made + 100)

    assert traffic.failures == []
    assert service(stack).buckets_in_use() == {other.bucket}
    assert {stack.bucket, other.bucket} in seen
    assert allowed_buckets(aws) == ({other.bucket}, {other.bucket})
    with pytest.raises(Failed, match=f"the tasks use the bucket {other.bucket}"):
        bucket_move.check(replace(stack, default_bucket=True), service(stack))
    assert Stack(other, Reporter()).plan_is_empty(service(stack).image(outputs(stack)["task_definition_arn"]))


def test_an_interrupted_destroy_can_be_deployed_again(
    stack: Environment, engine: docker.DockerClient
) -> None:
    """A destroy that stopped after it had scaled the service to zero leaves a stack that deploys again."""
    service(stack).scale_to_zero(Reporter())

    commands.release(stack, Reporter())

    settled(engine, stack)


# --- 3


def test_a_killed_task_is_replaced(stack: Environment, engine: docker.DockerClient, api: str) -> None:
    """Only its current requests are lost, no acknowledged upload is, and two tasks serve again in 30 s."""
    settled(engine, stack)
    victim = tasks(engine, stack)[0]
    with Traffic(api, readers=6, writers=2, pause=SLOW) as traffic:
        traffic.until(500)
        victim.kill("SIGKILL")
        killed = time.monotonic()
        with suppress(NotFound):  # the emulator has removed it
            victim.wait()  # its workers answer until the kernel has ended them
        dead = time.monotonic()
        until(
            lambda: healthy(stack) == 2 and victim.id not in {t.id for t in tasks(engine, stack)},
            "two again",
            60,
            PAUSE,
        )
        back = time.monotonic() - killed
        traffic.until(traffic.made + 500)

    assert [fate for fate in traffic.failures if fate.begun > dead + NOTICED_WITHIN] == []
    assert len(traffic.failures) <= traffic.clients
    assert back <= BACK_WITHIN
    assert traffic.lost() == []
    print(f"{len(traffic.failures)} of {traffic.made} requests lost, two tasks again after {back:.1f} s")


# --- 4 and 7


@contextmanager
def watching_memory(
    engine: docker.DockerClient, stack: Environment
) -> Iterator[dict[str, tuple[int, int, bool]]]:
    """Record the peak memory of each task, its limit, and whether the kernel killed it."""
    seen: dict[str, tuple[int, int, bool]] = {}
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for task in tasks(engine, stack):
                try:
                    usage = task.stats(stream=False)["memory_stats"]
                    killed = bool(engine.api.inspect_container(task.id)["State"]["OOMKilled"])
                except (docker.errors.APIError, KeyError, ValueError):
                    continue  # it has just ended: an error, or an empty answer
                if "usage" in usage:
                    cache = usage["stats"].get("total_inactive_file", usage["stats"].get("inactive_file", 0))
                    used = max(usage["usage"] - cache, seen.get(task.id, (0, 0, False))[0])
                    seen[task.id] = (used, usage["limit"], killed or seen.get(task.id, (0, 0, False))[2])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(30)


def test_a_rolling_deployment_loses_no_request(
    stack: Environment, engine: docker.DockerClient, api: str, dockerfile: tuple[Path, Environment]
) -> None:
    """During 10,000 requests, including uploads of 50 MB, none fails and no task exceeds its memory."""
    path, environment = dockerfile
    path.write_text(f"FROM {stack.image}\nLABEL release={time.time()}\n")
    settled(engine, stack)
    before = {task.id for task in tasks(engine, stack)}

    with (
        watching_memory(engine, stack) as memory,
        Traffic(api, readers=8, writers=2, big_writers=2) as traffic,
    ):
        traffic.until(1_000)
        commands.release(environment, Reporter())
        traffic.until(10_000)

    limit = 384 * 1024 * 1024
    most = max(used for used, _, _ in memory.values())
    assert traffic.failures == []
    assert traffic.made >= 10_000
    assert sum(name.startswith("traffic/big") for name in traffic.stored) >= 4
    assert traffic.lost() == []
    assert not before & {
        task.id for task in tasks(engine, stack) if task.status == "running" and healthy(stack) < 2
    }
    assert {task_limit for _, task_limit, _ in memory.values()} == {limit}
    assert not any(killed for _, _, killed in memory.values())
    assert most < limit
    print(f"{traffic.made} requests, {traffic.big} of 50 MB, 0 failed; a task used at most {most >> 20} MiB")


# --- 6


def test_a_hung_task_is_replaced(stack: Environment, engine: docker.DockerClient, api: str) -> None:
    """A task that hangs loses its current requests, and none after the checks have failed."""
    settled(engine, stack)
    victim = tasks(engine, stack)[0]
    with Traffic(api, readers=6, writers=2, timeout=10, pause=SLOW) as traffic:
        traffic.until(300)
        run_in(victim, "python3", "-c", HANG)
        hung = time.monotonic()
        until(lambda: victim.name not in running_names(stack) and healthy(stack) == 2, "two again", 90, PAUSE)
        replaced = time.monotonic() - hung
        traffic.until(traffic.made + 500)

    # A check begins within 3 s, the next 1 s after its failure; both fail after 3 s. 1 s is for delays.
    noticed = 2 * 3 + 3 + 2
    late = [fate for fate in traffic.failures if fate.begun > hung + noticed]
    assert late == []
    assert len(traffic.failures) <= traffic.clients * 2
    print(f"{len(traffic.failures)} of {traffic.made} requests lost, two tasks again after {replaced:.1f} s")
    victim.kill("SIGKILL")


def running_names(stack: Environment) -> set[str]:
    arns = stack.client("ecs").list_tasks(cluster="day02", desiredStatus="RUNNING")["taskArns"]
    return {f"ministack-ecs-{arn.rsplit('/', 1)[-1][:8]}-api" for arn in arns}


# --- 8


def used_by_deployer(aws: Environment, engine: docker.DockerClient) -> set[str]:
    """The actions that the deployer has used so far."""
    assert aws.emulated is not None
    used = emulated_aws.permissions(engine, aws.emulated)
    of_buckets = {key for key, action, _ in used if action == "s3:CreateBucket"}  # the user of `make bucket`
    return {
        action
        for key, action, allowed in used
        if allowed and key.startswith("AKIA") and key not in of_buckets
    }


def test_the_policy_says_what_the_deployer_uses(
    stack: Environment, aws: Environment, engine: docker.DockerClient
) -> None:
    """The whole deployment, from the first check to the rollbacks, used only actions of the policy."""
    policy = {
        action
        for path in POLICIES.glob("deployer-*.json")
        for statement in json.loads(path.read_text())["Statement"]
        for action in statement["Action"]
    }

    used = used_by_deployer(aws, engine)

    assert stack.credentials["AWS_ACCESS_KEY_ID"].startswith("AKIA")
    assert used - policy <= {"sts:GetCallerIdentity"}
    assert len(used) > 60
    print(f"{len(used)} of the policy's {len(policy)} actions were used")


def policies_without(action: str) -> dict[str, str]:
    """The deployer's policies without one action: name -> JSON."""
    policies = {path.stem: json.loads(path.read_text()) for path in POLICIES.glob("deployer-*.json")}
    for policy in policies.values():
        for statement in policy["Statement"]:
            statement["Action"] = [entry for entry in statement["Action"] if entry != action]
        policy["Statement"] = [statement for statement in policy["Statement"] if statement["Action"]]
    return {name: json.dumps(policy) for name, policy in policies.items()}


@contextmanager
def without(aws: Environment, action: str) -> Iterator[None]:
    """The deployer has the policies without one action, for a while."""
    iam = aws.client("iam")

    def put(policies: dict[str, str]) -> None:
        for name, policy in policies.items():
            iam.put_user_policy(UserName=emulated_aws.DEPLOYER, PolicyName=name, PolicyDocument=policy)

    put(policies_without(action))
    try:
        yield
    finally:
        put({path.stem: path.read_text() for path in POLICIES.glob("deployer-*.json")})


@pytest.mark.parametrize("action", ["ecs:DescribeServices", "iam:GetRolePolicy"])
def test_terraform_without_one_permission_names_it(stack: Environment, aws: Environment, action: str) -> None:
    """Without one action of the deployer's policy, a plan fails and names the action."""
    with without(aws, action), pytest.raises(Failed) as failed:
        Stack(stack, Reporter()).plan_is_empty("sha256:" + "0" * 64)

    assert f"the deployer may not {action}" in failed.value.why


def test_the_other_steps_without_one_permission_name_it(stack: Environment, aws: Environment) -> None:
    """The policy is also enforced for the steps outside Terraform."""

    steps: dict[str, Callable[[], object]] = {
        "ssm:DescribeParameters": lambda: prepare.parameters(stack, Reporter()),
        "ecs:ListTaskDefinitions": lambda: delete_task_definitions(replace(stack, name="prod")),
        "tag:GetResources": lambda: leftovers.find(stack),
        "elasticloadbalancing:DescribeTargetHealth": lambda: service(stack).wait_until_healthy(Reporter()),
    }
    for action, step in steps.items():
        with without(aws, action), pytest.raises(ClientError) as refused:
            step()
        assert action in reason(refused.value).why


# --- the end


def inventory(aws: Environment) -> list[str]:
    """The resources of the stack, listed by each service: the emulator does not support tags everywhere."""
    ec2, elb, iam = aws.client("ec2"), aws.client("elbv2"), aws.client("iam")
    ours = [{"Name": "tag:project_name", "Values": ["day02"]}]
    groups = ec2.describe_security_groups(Filters=ours)["SecurityGroups"]
    templates = ec2.describe_launch_templates()["LaunchTemplates"]
    autoscaling = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    names = [vpc["VpcId"] for vpc in ec2.describe_vpcs(Filters=ours)["Vpcs"]]
    names += [subnet["SubnetId"] for subnet in ec2.describe_subnets(Filters=ours)["Subnets"]]
    names += [group["GroupName"] for group in groups]
    names += [endpoint["VpcEndpointId"] for endpoint in ec2.describe_vpc_endpoints()["VpcEndpoints"]]
    names += [template["LaunchTemplateName"] for template in templates]
    names += [group["AutoScalingGroupName"] for group in autoscaling]
    names += [balancer["LoadBalancerArn"] for balancer in elb.describe_load_balancers()["LoadBalancers"]]
    names += [group["TargetGroupArn"] for group in elb.describe_target_groups()["TargetGroups"]]
    names += [role["RoleName"] for role in iam.list_roles()["Roles"] if role["RoleName"].startswith("day02")]
    names += [role["RoleName"] for role in iam.list_roles()["Roles"] if role["RoleName"] == "s3_access"]
    names += [profile["InstanceProfileName"] for profile in iam.list_instance_profiles()["InstanceProfiles"]]
    names += [group["logGroupName"] for group in aws.client("logs").describe_log_groups()["logGroups"]]
    names += [topic["TopicArn"] for topic in aws.client("sns", "us-east-1").list_topics()["Topics"]]
    repositories = aws.client("ecr").describe_repositories()["repositories"]
    names += [repo["repositoryArn"] for repo in repositories if repo["repositoryName"] == "day02"]
    names += [arn for arn in aws.client("ecs").list_clusters()["clusterArns"] if "day02" in arn]
    names += aws.client("ecs").list_task_definitions(familyPrefix="day02")["taskDefinitionArns"]
    return sorted(names)


def test_a_deployment_without_one_permission_names_it(
    tmp_path: Path, engine: docker.DockerClient, dockerfile: tuple[Path, Environment]
) -> None:
    """`make deploy` without one permission fails, names it, and changes no task."""
    path, environment = dockerfile
    path.write_text(f"FROM {environment.image.removesuffix('-other')}\nLABEL release={time.time()}\n")
    settled(engine, environment)
    before = {task.id for task in tasks(engine, environment)}

    with pytest.raises(Failed) as failed:
        commands.deploy(limited_to(tmp_path, environment, "ecs:UpdateService"), Reporter())

    assert "the deployer may not ecs:UpdateService" in failed.value.why
    assert {task.id for task in tasks(engine, environment)} == before


def limited_to(directory: Path, environment: Environment, action: str) -> Environment:
    """The environment of a deployer who has the policies without one action."""
    assert environment.emulated is not None
    for name, policy in policies_without(action).items():
        (directory / f"{name}.json").write_text(policy)
    return replace(environment, emulated=replace(environment.emulated, policies=directory))


def test_destroy_leaves_the_files_and_nothing_else(
    tmp_path: Path, stack: Environment, aws: Environment, engine: docker.DockerClient
) -> None:
    """Without one permission, it stops and names it. With all of them, it removes the whole stack.

    Each service is asked for resources that are left. The bucket and its objects stay.
    """
    assert stack.emulated is not None
    tagged, before = leftovers.find(aws).exist, inventory(aws)
    root = aws.client("s3")
    root.put_object(Bucket=stack.bucket, Key="kept", Body=b"kept")
    reduced = limited_to(tmp_path, stack, "ec2:DeleteVpc")

    with pytest.raises(Failed) as failed:
        commands.destroy(reduced, Reporter())
    said = commands.destroy(stack, Reporter())

    assert "the deployer may not ec2:DeleteVpc" in failed.value.why

    assert tagged
    assert len(before) >= 18, before
    objects = int(said.split(", ")[-1].split()[0])
    assert said == f"0 left, bucket {stack.bucket} kept, {objects} objects"
    assert emulated_aws.tasks(engine, stack.emulated) == []
    assert emulated_aws.container(engine, stack.emulated) is None
    again = emulated_aws.start(engine, stack.emulated, Reporter())
    assert again.aws_port == stack.emulated.aws_port
    assert inventory(aws) == []
    assert root.get_object(Bucket=stack.bucket, Key="kept")["Body"].read() == b"kept"
    assert objects >= 1
