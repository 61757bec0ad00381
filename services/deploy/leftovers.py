"""What a destroy left: tagged resources, each confirmed by the service that it belongs to.

The tagging API lists deleted resources for hours (github.com/boto/boto3/issues/1704 and 3341,
github.com/aws/aws-cli/issues/4173), so it only says where to look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.environments import BILLING_REGION, Environment

#: Returns whether the resource with this ARN exists. An error that says it does not counts as no.
Exists = Callable[[Any, str], bool]


@dataclass(frozen=True)
class Leftovers:
    """ARNs of resources that exist, and of those that no call here can confirm."""

    exist: list[str]
    unconfirmed: list[str]


def find(environment: Environment) -> Leftovers:
    """The resources with the tags of the stack."""
    exist: list[str] = []
    unconfirmed: list[str] = []
    for region, arn in _tagged(environment):
        confirmed = confirm(environment, region, arn)
        if confirmed is None:
            unconfirmed.append(arn)
        elif confirmed:
            exist.append(arn)
    return Leftovers(sorted(exist), sorted(unconfirmed))


def _tagged(environment: Environment) -> set[tuple[str, str]]:
    """The region and ARN of each resource that the tagging API lists."""
    filters = [{"Key": key, "Values": [value]} for key, value in environment.tags.items()]
    found: set[tuple[str, str]] = set()
    for region in {environment.region, BILLING_REGION}:
        pages = environment.client("resourcegroupstaggingapi", region).get_paginator("get_resources")
        for page in pages.paginate(TagFilters=filters):
            found.update((region, entry["ResourceARN"]) for entry in page["ResourceTagMappingList"])
    return found


def confirm(environment: Environment, region: str, arn: str) -> bool | None:
    """Whether a resource exists; None where no call says so: its type is unknown, or the call is denied."""
    service, resource = arn.split(":")[2], arn.split(":", 5)[5]
    kind = resource.replace(":", "/").partition("/")[0]
    known = _CONFIRM.get((service, kind)) or _CONFIRM.get((service, ""))
    if known is None:
        return None
    client, exists = known
    try:
        return exists(environment.client(client, region), arn)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if _says_absent(code):
            return False
        if code in _DENIED:
            return None
        raise


# The words of EC2, of SNS, and of the other services.
_DENIED = {"UnauthorizedOperation", "AuthorizationError", "AccessDenied", "AccessDeniedException"}


def _says_absent(code: str) -> bool:
    # ECS has no error of its own for a task definition that does not exist, and WAF has other words.
    return code.endswith(("NotFound", "NotFoundException")) or code in {
        "ClientException",
        "WAFNonexistentItemException",
    }


def _id(arn: str) -> str:
    """The last segment of an ARN: an id, or the name of a group."""
    return arn.rpartition("/")[2]


def _ec2(operation: str, parameter: str, answer: str, *, gone: tuple[str, ...] = ()) -> tuple[str, Exists]:
    """A resource of EC2. `gone` are the states in which EC2 still describes a deleted one."""

    def exists(client: Any, arn: str) -> bool:
        found = getattr(client, operation)(**{parameter: [_id(arn)]})[answer]
        return any(entry.get("State", entry.get("state")) not in gone for entry in found)

    return "ec2", exists


def _instance(client: Any, arn: str) -> bool:
    found = client.describe_instances(InstanceIds=[_id(arn)])["Reservations"]
    return any(
        instance["State"]["Name"] != "terminated" for entry in found for instance in entry["Instances"]
    )


def _active(entries: list[dict[str, Any]]) -> bool:
    """Whether one is active. ECS keeps deleted resources as inactive for a while."""
    return any(entry["status"] == "ACTIVE" for entry in entries)


def _log_group(client: Any, arn: str) -> bool:
    name = arn.split(":log-group:", 1)[1].removesuffix(":*")
    found = client.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return any(group["logGroupName"] == name for group in found)


def _alarm(client: Any, arn: str) -> bool:
    return bool(client.describe_alarms(AlarmNames=[arn.rpartition(":")[2]])["MetricAlarms"])


def _group(client: Any, arn: str) -> bool:
    return bool(client.describe_auto_scaling_groups(AutoScalingGroupNames=[_id(arn)])["AutoScalingGroups"])


def _web_acl(client: Any, arn: str) -> bool:
    _, _, name, identity = arn.split(":", 5)[5].split("/")
    return bool(client.get_web_acl(Name=name, Id=identity, Scope="REGIONAL")["WebACL"])


_CONFIRM: dict[tuple[str, str], tuple[str, Exists]] = {
    ("acm", "certificate"): (
        "acm",
        lambda client, arn: bool(client.describe_certificate(CertificateArn=arn)["Certificate"]),
    ),
    ("autoscaling", "autoScalingGroup"): ("autoscaling", _group),
    ("cloudwatch", "alarm"): ("cloudwatch", _alarm),
    ("ec2", "instance"): ("ec2", _instance),
    ("ec2", "internet-gateway"): _ec2("describe_internet_gateways", "InternetGatewayIds", "InternetGateways"),
    ("ec2", "launch-template"): _ec2("describe_launch_templates", "LaunchTemplateIds", "LaunchTemplates"),
    ("ec2", "network-interface"): _ec2(
        "describe_network_interfaces", "NetworkInterfaceIds", "NetworkInterfaces"
    ),
    ("ec2", "route-table"): _ec2("describe_route_tables", "RouteTableIds", "RouteTables"),
    ("ec2", "security-group"): _ec2("describe_security_groups", "GroupIds", "SecurityGroups"),
    ("ec2", "security-group-rule"): _ec2(
        "describe_security_group_rules", "SecurityGroupRuleIds", "SecurityGroupRules"
    ),
    ("ec2", "subnet"): _ec2("describe_subnets", "SubnetIds", "Subnets"),
    ("ec2", "volume"): _ec2("describe_volumes", "VolumeIds", "Volumes", gone=("deleting", "deleted")),
    ("ec2", "vpc"): _ec2("describe_vpcs", "VpcIds", "Vpcs"),
    ("ec2", "vpc-endpoint"): _ec2(
        "describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints", gone=("deleting", "deleted", "Deleted")
    ),
    ("ec2", "vpc-flow-log"): _ec2("describe_flow_logs", "FlowLogIds", "FlowLogs"),
    ("ecr", "repository"): (
        "ecr",
        lambda client, arn: bool(
            client.describe_repositories(repositoryNames=[arn.partition("repository/")[2]])["repositories"]
        ),
    ),
    ("ecs", "capacity-provider"): (
        "ecs",
        lambda client, arn: _active(
            client.describe_capacity_providers(capacityProviders=[arn])["capacityProviders"]
        ),
    ),
    ("ecs", "cluster"): (
        "ecs",
        lambda client, arn: _active(client.describe_clusters(clusters=[arn])["clusters"]),
    ),
    ("ecs", "service"): (
        "ecs",
        lambda client, arn: _active(
            client.describe_services(cluster=arn.split("/")[1], services=[arn])["services"]
        ),
    ),
    ("ecs", "task-definition"): (
        "ecs",
        lambda client, arn: _active([client.describe_task_definition(taskDefinition=arn)["taskDefinition"]]),
    ),
    ("elasticloadbalancing", "listener"): (
        "elbv2",
        lambda client, arn: bool(client.describe_listeners(ListenerArns=[arn])["Listeners"]),
    ),
    ("elasticloadbalancing", "loadbalancer"): (
        "elbv2",
        lambda client, arn: bool(client.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]),
    ),
    ("elasticloadbalancing", "targetgroup"): (
        "elbv2",
        lambda client, arn: bool(client.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]),
    ),
    ("logs", "log-group"): ("logs", _log_group),
    ("sns", ""): ("sns", lambda client, arn: bool(client.get_topic_attributes(TopicArn=arn)["Attributes"])),
    ("wafv2", "regional"): ("wafv2", _web_acl),
}
