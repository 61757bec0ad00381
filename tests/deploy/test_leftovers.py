"""After a destroy, the services confirm what the tagging API lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deploy import leftovers
from deploy.environments import POLICIES, Environment

REGION = "eu-west-1"
HOME = f"{REGION}:000000000000"


def _ec2(
    kind: str, made: Callable[[Any], str], deleted: Callable[[Any, str], object]
) -> tuple[str, Callable[[Any], str], Callable[[Any, str], object]]:
    return (
        "ec2",
        lambda ec2: f"arn:aws:ec2:{HOME}:{kind}/{made(ec2)}",
        lambda ec2, arn: deleted(ec2, arn.rpartition("/")[2]),
    )


TEMPLATE = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.micro"}
# Type -> client, call that makes one and returns its ARN, call that deletes it.
RESOURCES: dict[str, tuple[str, Callable[[Any], str], Callable[[Any, str], object]]] = {
    "vpc": _ec2(
        "vpc",
        lambda ec2: ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"],
        lambda ec2, id_: ec2.delete_vpc(VpcId=id_),
    ),
    "internet gateway": _ec2(
        "internet-gateway",
        lambda ec2: ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"],
        lambda ec2, id_: ec2.delete_internet_gateway(InternetGatewayId=id_),
    ),
    "launch template": _ec2(
        "launch-template",
        lambda ec2: ec2.create_launch_template(LaunchTemplateName="left", LaunchTemplateData=TEMPLATE)[
            "LaunchTemplate"
        ]["LaunchTemplateId"],
        lambda ec2, id_: ec2.delete_launch_template(LaunchTemplateId=id_),
    ),
    "repository": (
        "ecr",
        lambda ecr: ecr.create_repository(repositoryName="left")["repository"]["repositoryArn"],
        lambda ecr, _: ecr.delete_repository(repositoryName="left"),
    ),
    "cluster": (
        "ecs",
        lambda ecs: ecs.create_cluster(clusterName="left")["cluster"]["clusterArn"],
        lambda ecs, arn: ecs.delete_cluster(cluster=arn),
    ),
    "log group": (
        "logs",
        lambda logs: logs.create_log_group(logGroupName="/left") and f"arn:aws:logs:{HOME}:log-group:/left",
        lambda logs, _: logs.delete_log_group(logGroupName="/left"),
    ),
    "topic": (
        "sns",
        lambda sns: sns.create_topic(Name="left")["TopicArn"],
        lambda sns, arn: sns.delete_topic(TopicArn=arn),
    ),
    "alarm": (
        "cloudwatch",
        lambda cloudwatch: (
            cloudwatch.put_metric_alarm(
                AlarmName="left",
                MetricName="x",
                Namespace="x",
                Statistic="Sum",
                Period=60,
                EvaluationPeriods=1,
                Threshold=1,
                ComparisonOperator="GreaterThanThreshold",
            )
            and f"arn:aws:cloudwatch:{HOME}:alarm:left"
        ),
        lambda cloudwatch, _: cloudwatch.delete_alarms(AlarmNames=["left"]),
    ),
    "target group": (
        "elbv2",
        lambda elb: elb.create_target_group(Name="left", Protocol="HTTP", Port=80, VpcId="vpc-1")[
            "TargetGroups"
        ][0]["TargetGroupArn"],
        lambda elb, arn: elb.delete_target_group(TargetGroupArn=arn),
    ),
}


@pytest.mark.parametrize("kind", RESOURCES)
def test_a_resource_exists_until_it_is_deleted(aws: Environment, kind: str) -> None:
    """The Describe call of each type says yes for a resource, and no once it is deleted."""
    client_name, make, delete = RESOURCES[kind]
    client = aws.client(client_name)
    arn = make(client)
    existed = leftovers.confirm(aws, REGION, arn)

    delete(client, arn)

    assert existed is True
    assert leftovers.confirm(aws, REGION, arn) is False


def test_a_task_definition_exists_until_it_is_deregistered(aws: Environment) -> None:
    """ECS keeps describing a deregistered task definition, as inactive."""
    assert aws.emulated is not None
    ecs = aws.client("ecs")
    image = f"127.0.0.1:{aws.emulated.aws_port}/left@sha256:{'0' * 64}"
    registered = ecs.register_task_definition(
        family="left", containerDefinitions=[{"name": "x", "image": image, "memory": 64}]
    )
    arn = registered["taskDefinition"]["taskDefinitionArn"]
    existed = leftovers.confirm(aws, REGION, arn)

    ecs.deregister_task_definition(taskDefinition=arn)

    assert existed is True
    assert leftovers.confirm(aws, REGION, arn) is False


def test_a_type_without_a_call_is_unconfirmed(aws: Environment) -> None:
    """A resource that nothing here can confirm is neither there nor gone."""
    assert leftovers.confirm(aws, REGION, f"arn:aws:kinesis:{HOME}:stream/other") is None


def test_a_deleted_resource_that_aws_still_lists_is_not_left(aws: Environment) -> None:
    """AWS lists deleted resources for hours (boto3 1704, 3341); none of them counts as left."""
    sns, tagging = aws.client("sns"), aws.client("resourcegroupstaggingapi")
    tags: Any = [{"Key": key, "Value": value} for key, value in aws.tags.items()]
    arn = sns.create_topic(Name="day02-listed", Tags=tags)["TopicArn"]

    def listed() -> set[str]:
        pages = tagging.get_paginator("get_resources").paginate()
        return {entry["ResourceARN"] for page in pages for entry in page["ResourceTagMappingList"]}

    before, exist_before = listed(), leftovers.find(aws).exist
    sns.delete_topic(TopicArn=arn)

    assert arn in before
    assert arn in exist_before
    assert arn in listed()
    assert arn not in leftovers.find(aws).exist


@pytest.mark.parametrize("service", ["ec2", "sns", "ecs", "logs"])
def test_what_may_not_be_described_is_unconfirmed(aws: Environment, service: str) -> None:
    """A user without permissions cannot say that a resource exists, nor that it does not."""
    iam = aws.client("iam")
    name = f"may-nothing-{service}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    denied = replace(
        aws,
        credentials={
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        },
    )
    resource = {"ec2": "vpc/vpc-0", "sns": "other", "ecs": "cluster/other", "logs": "log-group:/other"}

    assert leftovers.confirm(denied, REGION, f"arn:aws:{service}:{HOME}:{resource[service]}") is None


def test_every_type_in_the_policies_can_be_confirmed() -> None:
    """The deployer may make each call that confirms a type."""
    allowed = {
        action
        for path in POLICIES.glob("deployer-*.json")
        for statement in json.loads(path.read_text())["Statement"]
        for action in statement["Action"]
    }
    needed = {
        "acm:DescribeCertificate",
        "wafv2:GetWebACL",
        "autoscaling:DescribeAutoScalingGroups",
        "cloudwatch:DescribeAlarms",
        "ecr:DescribeRepositories",
        "ecs:DescribeCapacityProviders",
        "ecs:DescribeClusters",
        "ecs:DescribeServices",
        "ecs:DescribeTaskDefinition",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeTargetGroups",
        "logs:DescribeLogGroups",
        "sns:GetTopicAttributes",
        *(
            f"ec2:Describe{kind}"
            for kind in (
                "FlowLogs",
                "Instances",
                "InternetGateways",
                "LaunchTemplates",
                "NetworkInterfaces",
                "RouteTables",
                "SecurityGroupRules",
                "SecurityGroups",
                "Subnets",
                "Volumes",
                "VpcEndpoints",
                "Vpcs",
            )
        ),
    }

    assert needed - allowed == set()
