"""The deployer's policies refuse the resources of other projects. The emulated AWS decides as IAM does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy import emulated_aws, prepare
from deploy.environments import POLICIES, Environment
from deploy.steps import Reporter
from emulator.corrections.authorization import Check, checks, passed

HOME = "arn:aws:ec2:eu-west-1:000000000000"
OURS = [{"Key": "project_name", "Value": "day02"}]
REFUSED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


def tagged(kind: str, tags: list[dict[str, str]] = OURS) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tags}]


@pytest.fixture(scope="module")
def deployer(aws: Environment) -> Environment:
    return emulated_aws.deployer(aws, Reporter())


@pytest.fixture(params=["untagged", "of another project"])
def foreign(request: pytest.FixtureRequest, aws: Environment) -> Iterator[dict[str, str]]:
    """The network of another owner: kind of resource -> id."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    group = ec2.create_security_group(VpcId=vpc, GroupName="theirs", Description="theirs")["GroupId"]
    ids = {"vpc": vpc, "subnet": subnet, "gateway": gateway, "table": table, "group": group}
    if request.param == "of another project":
        ec2.create_tags(Resources=list(ids.values()), Tags=[{"Key": "project_name", "Value": "day03"}])
    yield ids
    ec2.delete_security_group(GroupId=group)
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_route_table(RouteTableId=table)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
    ec2.delete_vpc(VpcId=vpc)


def test_another_owners_network_stays_as_it_is(deployer: Environment, foreign: dict[str, str]) -> None:
    """No call of the deployer changes, extends, deletes or takes over a network that is not the project's."""
    ec2 = deployer.client("ec2")
    vpc, subnet, group = foreign["vpc"], foreign["subnet"], foreign["group"]
    table, gateway = foreign["table"], foreign["gateway"]
    tls = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    calls: dict[str, Callable[[], object]] = {
        "delete_vpc": lambda: ec2.delete_vpc(VpcId=vpc),
        "modify_vpc": lambda: ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsSupport={"Value": False}),
        "delete_subnet": lambda: ec2.delete_subnet(SubnetId=subnet),
        "create_subnet": lambda: ec2.create_subnet(
            VpcId=vpc, CidrBlock="10.9.2.0/24", TagSpecifications=tagged("subnet")
        ),
        "create_group": lambda: ec2.create_security_group(
            VpcId=vpc, GroupName="ours", Description="ours", TagSpecifications=tagged("security-group")
        ),
        "delete_group": lambda: ec2.delete_security_group(GroupId=group),
        "open_group": lambda: ec2.authorize_security_group_ingress(
            GroupId=group, IpPermissions=tls, TagSpecifications=tagged("security-group-rule")
        ),
        "delete_table": lambda: ec2.delete_route_table(RouteTableId=table),
        "create_route": lambda: ec2.create_route(
            RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway
        ),
        "attach_gateway": lambda: ec2.attach_internet_gateway(VpcId=vpc, InternetGatewayId=gateway),
        "delete_gateway": lambda: ec2.delete_internet_gateway(InternetGatewayId=gateway),
        "take_over_vpc": lambda: ec2.create_tags(Resources=[vpc], Tags=OURS),
        "take_over_subnet": lambda: ec2.create_tags(Resources=[subnet], Tags=OURS),
        "delete_tags": lambda: ec2.delete_tags(Resources=[vpc], Tags=[{"Key": "project_name"}]),
    }
    answered: dict[str, str] = {}
    for name, call in calls.items():
        try:
            call()
            answered[name] = "allowed"
        except ClientError as error:
            answered[name] = error.response["Error"]["Code"]

    assert set(answered.values()) <= REFUSED, answered


def test_a_new_resource_carries_the_projects_tag(deployer: Environment) -> None:
    """A VPC is made only with the project's tag, and keeps that tag."""
    ec2 = deployer.client("ec2")
    for tags in ([], [{"Key": "project_name", "Value": "day03"}]):
        specified = {"TagSpecifications": tagged("vpc", tags)} if tags else {}
        with pytest.raises(ClientError) as refused:
            ec2.create_vpc(CidrBlock="10.8.0.0/16", **specified)
        assert refused.value.response["Error"]["Code"] in REFUSED

    vpc = ec2.create_vpc(CidrBlock="10.8.0.0/16", TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]

    with pytest.raises(ClientError):
        ec2.create_tags(Resources=[vpc], Tags=[{"Key": "project_name", "Value": "day03"}])
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "Name", "Value": "ours"}])
    ec2.delete_vpc(VpcId=vpc)


def test_an_untagged_group_can_only_be_emptied(aws: Environment, deployer: Environment) -> None:
    """AWS makes the default group of a VPC untagged. The tag that it gets gives no right to open a group."""
    theirs, ours = aws.client("ec2"), deployer.client("ec2")
    vpc = theirs.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    group = theirs.create_security_group(GroupName="theirs", Description="x", VpcId=vpc)["GroupId"]
    rule: Any = [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "203.0.113.0/24"}]}
    ]
    theirs.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    project = {"Key": "project_name", "Value": "day02"}
    try:
        with pytest.raises(ClientError):
            ours.create_tags(Resources=[group], Tags=[project])
        ours.create_tags(Resources=[group], Tags=[project, {"Key": "Name", "Value": "day02-unused"}])
        calls: list[Callable[[], object]] = [
            lambda: ours.authorize_security_group_ingress(GroupId=group, IpPermissions=rule),
            lambda: ours.delete_security_group(GroupId=group),
            lambda: ours.create_tags(Resources=[group], Tags=[{"Key": "Name", "Value": "day02-open"}]),
            lambda: ours.delete_tags(Resources=[group], Tags=[{"Key": "Name"}]),
        ]
        for call in calls:
            with pytest.raises(ClientError) as refused:
                call()
            assert refused.value.response["Error"]["Code"] in REFUSED
        ours.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
    finally:
        theirs.delete_security_group(GroupId=group)
        theirs.delete_vpc(VpcId=vpc)


def test_secrets_are_replaced_and_never_read(aws: Environment, deployer: Environment) -> None:
    """The deployer writes a parameter of the project, and reads none."""
    ssm = deployer.client("ssm")
    ssm.put_parameter(Name="/day02/written", Type="SecureString", Value="hidden")
    reads: list[Callable[[], object]] = [
        lambda: ssm.get_parameter(Name="/day02/written", WithDecryption=True),
        lambda: ssm.get_parameters(Names=["/day02/written"]),
        lambda: ssm.get_parameters_by_path(Path="/day02"),
    ]
    for read in reads:
        with pytest.raises(ClientError) as refused:
            read()
        assert refused.value.response["Error"]["Code"] in REFUSED
    aws.client("ssm").delete_parameter(Name="/day02/written")


def test_a_role_of_another_project_is_not_passed(aws: Environment, deployer: Environment) -> None:
    """A task definition cannot have a role whose name is not the project's."""
    ecs = deployer.client("ecs")
    container = {"name": "main", "image": "none", "memory": 64}
    arn = "arn:aws:iam::000000000000:role/administrator"

    with pytest.raises(ClientError) as refused:
        ecs.register_task_definition(family="day02-x", taskRoleArn=arn, containerDefinitions=[container])

    assert refused.value.response["Error"]["Code"] in REFUSED
    assert "iam:PassRole" in str(refused.value) or "ecs:RegisterTaskDefinition" in str(refused.value)
    assert aws.client("ecs").list_task_definitions(familyPrefix="day02-x")["taskDefinitionArns"] == []


def test_the_buckets_policy_makes_buckets_and_reads_no_file(aws: Environment) -> None:
    """`make bucket` runs with `buckets.json` alone; the same user reads, writes and deletes nothing."""
    iam = aws.client("iam")
    iam.create_user(UserName="buckets")
    iam.put_user_policy(
        UserName="buckets", PolicyName="buckets", PolicyDocument=(POLICIES / "buckets.json").read_text()
    )
    key = iam.create_access_key(UserName="buckets")["AccessKey"]
    maker = replace(
        aws,
        bucket="day02-made",
        credentials={
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        },
    )
    s3, root = maker.client("s3"), aws.client("s3")
    try:
        prepare.make_buckets(maker, Reporter())
        prepare.make_buckets(maker, Reporter())
        root.put_object(Bucket="day02-made", Key="file", Body=b"kept")

        calls: list[Callable[[], object]] = [
            lambda: s3.get_object(Bucket="day02-made", Key="file"),
            lambda: s3.put_object(Bucket="day02-made", Key="file", Body=b"other"),
            lambda: s3.delete_object(Bucket="day02-made", Key="file"),
            lambda: s3.delete_bucket(Bucket="day02-made"),
            lambda: s3.create_bucket(
                Bucket="another", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            ),
        ]
        for call in calls:
            with pytest.raises(ClientError) as refused:
                call()
            assert refused.value.response["Error"]["Code"] in REFUSED

        assert root.get_object(Bucket="day02-made", Key="file")["Body"].read() == b"kept"
        assert root.get_bucket_versioning(Bucket="day02-made")["Status"] == "Enabled"
    finally:
        iam.delete_access_key(UserName="buckets", AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName="buckets", PolicyName="buckets")
        iam.delete_user(UserName="buckets")
        for version in root.list_object_versions(Bucket="day02-made").get("Versions", []):
            root.delete_object(Bucket="day02-made", Key=version["Key"], VersionId=version["VersionId"])
        root.delete_bucket(Bucket="day02-made")


# --- what the emulated AWS checks


def test_an_action_is_checked_on_what_it_makes_and_on_what_it_takes() -> None:
    """CreateSubnet is checked on the new subnet, its tags, and the VPC (Service Authorization Reference)."""
    parameters = {"Action": "CreateSubnet", "VpcId": "vpc-0123456789abcdef0", "CidrBlock": "10.0.0.0/24"}
    context = {"aws:RequestTag/project_name": "day02", "aws:TagKeys": ["project_name"]}

    found = list(checks("ec2:CreateSubnet", parameters, {"vpc-0123456789abcdef0": OURS}, context, HOME))

    assert found == [
        Check("ec2:CreateSubnet", f"{HOME}:subnet/*", context),
        Check("ec2:CreateTags", f"{HOME}:subnet/*", {**context, "ec2:CreateAction": "CreateSubnet"}),
        Check(
            "ec2:CreateSubnet", f"{HOME}:vpc/vpc-0123456789abcdef0", {"aws:ResourceTag/project_name": "day02"}
        ),
    ]


def test_what_a_call_refers_to_without_acting_on_it_is_not_checked() -> None:
    """A route acts on its table, not on its gateway; a filter acts on nothing."""
    parameters = {
        "RouteTableId": "rtb-0123456789abcdef0",
        "GatewayId": "igw-0123456789abcdef0",
        "Filter.1.Value.1": "vpc-0123456789abcdef0",
    }

    found = list(checks("ec2:CreateRoute", parameters, {}, {}, HOME))

    assert [check.resource for check in found] == [f"{HOME}:route-table/rtb-0123456789abcdef0"]


def test_roles_are_passed_to_the_service_that_takes_them() -> None:
    """Each role of a task definition is passed to ECS tasks."""
    role = "arn:aws:iam::000000000000:role/day02"

    assert list(passed("ecs:RegisterTaskDefinition", {"taskRoleArn": role}, "000000000000")) == [
        Check("iam:PassRole", role, {"iam:PassedToService": "ecs-tasks.amazonaws.com"})
    ]
    assert list(passed("iam:AddRoleToInstanceProfile", {"RoleName": "day02"}, "000000000000")) == [
        Check("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})
    ]
