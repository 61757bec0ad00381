"""The rehearsal of prod: its root, unchanged, deployed to an emulated AWS of its own by `make rehearse`.

The tests share one deployment and depend on their order; the last one removes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from botocore.exceptions import ClientError
from docker.errors import NotFound

from deploy import commands, destroy_steps, emulated_aws, leftovers, prepare, rehearsal
from deploy.environments import DOMAIN, Environment, rehearsed
from deploy.smoke import through
from deploy.stack import NO_IMAGE, Stack
from deploy.steps import Failed, Reporter
from local_servers import free_port
from support.containers import remove_pushed_images
from support.servers import ROOT, need, until

pytestmark = pytest.mark.timeout(900)

LOCK = "prod/terraform.tfstate.tflock"


@pytest.fixture(scope="module")
def prod(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Prod on emulated AWS, used as the deployer, before its first apply.

    It has the address of `make deploy ENV=local`: the tests' other emulated AWS has the only other one that
    the SDKs accept.
    """
    need(shutil.which("terraform"), "terraform is not on the PATH")
    found = rehearsed("prod", {})
    assert found.emulated is not None
    emulated = replace(
        found.emulated,
        name="day02-aws-test-prod",
        subnet="169.254.170.0/28",
        address="169.254.170.2",
        aws_port=free_port(),
        api_port=free_port(),
        redirect_port=free_port(),
        keys=tmp_path_factory.mktemp("keys"),
    )
    emulated_aws.purge(engine, emulated)  # left by a run that was killed
    environment = replace(found, emulated=emulated, work=tmp_path_factory.mktemp("deploy"))
    try:
        yield commands.prepare_all(environment, Reporter())
    finally:
        with suppress(NotFound):  # pytest shows it after a failure
            print(engine.containers.get(emulated.name).logs(tail=100).decode())
        emulated_aws.purge(engine, emulated)
        remove_pushed_images(engine, f"127.0.0.1:{emulated.aws_port}/day02-prod")


def as_root(environment: Environment) -> Environment:
    assert environment.emulated is not None
    return replace(environment, credentials=emulated_aws.root_key(environment.emulated))


@pytest.fixture(scope="module")
def second(prod: Environment, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack of another deployer, on another machine."""
    stack = Stack(replace(prod, work=tmp_path_factory.mktemp("second")), Reporter())
    stack.init()
    return stack


def is_locked(prod: Environment) -> bool:
    try:
        as_root(prod).client("s3").head_object(Bucket=prod.state_bucket, Key=LOCK)
    except ClientError:
        return False
    return True


def has_network(prod: Environment) -> bool:
    """Whether the VPC of the stack exists: the first resource of the deployment's main part."""
    ours = [{"Name": "tag:project_name", "Values": [prod.project_tag]}]
    return bool(as_root(prod).client("ec2").describe_vpcs(Filters=ours)["Vpcs"])


def test_of_two_deployments_one_names_the_other(prod: Environment, second: Stack) -> None:
    """While a deployment applies, the state in S3 is locked. Another one fails and names the holder."""
    failures: list[BaseException] = []

    def deploy() -> None:
        try:
            commands.release(prod, Reporter())
        except BaseException as error:
            failures.append(error)

    first = threading.Thread(target=deploy)
    first.start()
    try:
        # The registry is applied before, and the state is not locked between the two parts.
        until(
            lambda: (has_network(prod) and is_locked(prod)) or not first.is_alive(),
            "the lock of the first deployment's main part",
            600,
            0.25,
        )
        with pytest.raises(Failed) as failed:
            second.plan_is_empty(NO_IMAGE)
    finally:
        first.join()

    assert failures == []
    assert f"@{os.uname().nodename}" in failed.value.why
    assert "is deploying" in failed.value.why
    assert not is_locked(prod)


def test_a_second_plan_is_empty(prod: Environment) -> None:
    """With the image that runs, a plan changes nothing."""
    commands.check_second_plan(prod, Reporter())


def test_the_stack_is_that_of_prod(prod: Environment) -> None:
    """Certificate, redirect, firewall, scaling, alarms and access logs are there, by AWS's own answers."""
    root = as_root(prod)
    elb, scaling, alarms = (
        root.client("elbv2"),
        root.client("application-autoscaling"),
        root.client("cloudwatch"),
    )
    [balancer] = elb.describe_load_balancers(Names=["day02-prod-alb"])["LoadBalancers"]
    arn = balancer["LoadBalancerArn"]
    listeners = {entry["Port"]: entry for entry in elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]}
    [record] = [
        entry
        for entry in root.client("route53").list_resource_record_sets(HostedZoneId=values(prod)["zone_id"])[
            "ResourceRecordSets"
        ]
        if entry["Name"] == f"{DOMAIN}."
    ]
    acl = root.client("wafv2").get_web_acl_for_resource(ResourceArn=arn)["WebACL"]
    [target] = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    policies = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    names = {alarm["AlarmName"] for alarm in alarms.describe_alarms()["MetricAlarms"]}
    logs = root.client("s3").list_objects_v2(Bucket=values(prod)["access_logs_bucket_name"])["Contents"]

    assert set(listeners) == {80, 443}
    assert listeners[443]["Protocol"] == "HTTPS"
    assert listeners[80]["DefaultActions"][0]["RedirectConfig"]["StatusCode"] == "HTTP_301"
    assert record["AliasTarget"]["DNSName"].rstrip(".").endswith(balancer["DNSName"])
    assert acl["Name"] == "day02-prod-waf"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 6)
    assert {policy["PolicyName"] for policy in policies} == {"day02-prod-cpu", "day02-prod-requests"}
    assert {"day02-prod-tasks-missing", "day02-prod-elb-5xx", "day02-prod-s3-unreachable"} <= names
    assert [entry["Key"] for entry in logs] == ["day02-prod/AWSLogs/000000000000/ELBAccessLogTestFile"]


def values(prod: Environment) -> Any:
    assert prod.emulated is not None
    return prod.emulated.values


def test_the_state_is_in_s3(prod: Environment) -> None:
    """The emulated S3 has it, and nothing is left in the folder of the root."""
    head = as_root(prod).client("s3").head_object(Bucket=prod.state_bucket, Key="prod/terraform.tfstate")

    assert head["ContentLength"] > 10_000
    assert list(prod.root.glob("*.tfstate*")) == []


@pytest.fixture
def reached(prod: Environment) -> tuple[str, str, Path]:
    """The URL of the API, the host:port that it leads to, and the file of the CA."""
    balancer = commands.balancer(prod, {})
    assert balancer is not None
    assert balancer.ca is not None
    return f"https://{DOMAIN}", f"{balancer.host}:{balancer.port(443)}", balancer.ca


def test_the_black_box_suite_passes_through_https(prod: Environment, reached: tuple[str, str, Path]) -> None:
    """The suite passes by the API's own name, with a certificate that is checked, and with a token."""
    url, address, ca = reached
    environment = {name: value for name, value in os.environ.items() if not name.startswith("S3API_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/e2e", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={
            **environment,
            "S3API_URL": url,
            "S3API_CONNECT_TO": address,
            "S3API_CA": str(ca),
            "S3API_TOKEN": rehearsal.token(prod) or "",
            "S3API_VERSIONED": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    services = prod.client("ecs").describe_services(cluster=prod.project, services=[prod.project])
    happened = [event["message"] for event in services["services"][0]["events"][:10]]
    assert ran.returncode == 0, (ran.stdout[-6000:], happened)


def test_a_request_without_a_token_is_refused(prod: Environment, reached: tuple[str, str, Path]) -> None:
    """Prod answers nothing but its health to a client without a token."""
    opener = through(commands.balancer(prod, {}))

    with pytest.raises(OSError, match="401"):
        opener.open(f"{reached[0]}/list_files", timeout=30)


def test_a_protected_stack_is_not_destroyed(prod: Environment) -> None:
    """Without its name, and while the load balancer is protected, `make destroy` changes nothing."""
    before = leftovers.find(as_root(prod)).exist

    with pytest.raises(Failed, match="nothing was changed") as unconfirmed:
        commands.destroy(prod, Reporter(), {})
    with pytest.raises(Failed, match="protected against deletion"):
        commands.destroy(prod, Reporter(), destroy_steps.agreed(prod))

    assert "CONFIRM=day02-prod" in unconfirmed.value.then
    assert leftovers.find(as_root(prod)).exist == before


def test_destroy_removes_it(prod: Environment, engine: docker.DockerClient) -> None:
    """Once the protection is taken away, everything goes. What the operator has outside the stack stays."""
    assert prod.emulated is not None
    # `make destroy` has given the deployer another key.
    deployer = emulated_aws.deployer(as_root(prod), Reporter())
    unprotected = commands.unprotect(deployer, Reporter())

    said = commands.destroy(unprotected, Reporter(), destroy_steps.agreed(prod))

    assert said.startswith(f"0 left, bucket {prod.bucket} kept")
    emulated_aws.start(engine, prod.emulated, Reporter())
    root = as_root(prod)
    records = root.client("route53").list_resource_record_sets(HostedZoneId=values(prod)["zone_id"])
    assert {record["Type"] for record in records["ResourceRecordSets"]} == {"NS", "SOA"}
    assert root.client("acm").list_certificates()["CertificateSummaryList"] == []
    assert root.client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"] == []
    prepare.buckets_exist(root)
