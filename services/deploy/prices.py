"""List prices of AWS, and what the resources of a stack cost a month without traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# The prices of this region, in USD without tax, as AWS published them on this day. The linked pages decide.
REGION = "eu-west-1"
PUBLISHED = "2026-11-24"
HOURS = 730

# https://aws.amazon.com/ec2/pricing/on-demand/, 2026-11-24: an hour of Linux
INSTANCES: Mapping[str, float] = {
    "t2.micro": 0.0126,
    "t3.micro": 0.0114,
    "t3.small": 0.0228,
    "t3.medium": 0.0456,
    "t4g.micro": 0.0092,
    "t4g.small": 0.0184,
    "t4g.medium": 0.0368,
}
# https://aws.amazon.com/elasticloadbalancing/pricing/, 2026-11-24: an hour of an Application Load Balancer
BALANCER = 0.0252
# https://aws.amazon.com/vpc/pricing/, 2026-11-24: an hour of a public IPv4 address
ADDRESS = 0.005
# https://aws.amazon.com/ebs/pricing/, 2026-11-24: a GB-month of gp3
DISK_GB = 0.088
# https://aws.amazon.com/waf/pricing/, 2026-11-24: a month of a web ACL, and of a rule in it
ACL, RULE = 5.0, 1.0
# https://aws.amazon.com/cloudwatch/pricing/, 2026-11-24: a month of a metric that an alarm watches
ALARM = 0.10

# Target tracking, and the managed scaling of a capacity provider, make two alarms each, outside Terraform.
_SCALING_ALARMS = 2


class UnknownPriceError(Exception):
    """There is no price for something in the stack, so there is no sum."""


@dataclass(frozen=True)
class Resource:
    """A resource in Terraform's state: its type, and the values of its attributes."""

    type: str
    values: Mapping[str, Any]


def a_month(region: str, resources: Iterable[Resource]) -> dict[str, float]:
    """What the resources cost a month without traffic, in USD, by kind. Groups have their minimum size."""
    if region != REGION:
        raise UnknownPriceError(f"no price known for {region}")
    by_type: dict[str, list[Mapping[str, Any]]] = {}
    for resource in resources:
        by_type.setdefault(resource.type, []).append(resource.values)
    balancers, groups = by_type.get("aws_lb", []), by_type.get("aws_autoscaling_group", [])
    [template] = by_type["aws_launch_template"] if groups else [{}]
    instances = sum(int(group["min_size"]) for group in groups)
    kind = template.get("instance_type", "")
    if instances and kind not in INSTANCES:
        raise UnknownPriceError(
            f"no price known for {kind} in {region}; see https://aws.amazon.com/ec2/pricing/on-demand/"
        )
    disk_gb = sum(
        int(disk["volume_size"])
        for device in template.get("block_device_mappings", ())
        for disk in device["ebs"]
    )
    addresses = instances + sum(len(balancer["subnets"]) for balancer in balancers)
    costs = {
        "instances": instances * INSTANCES.get(kind, 0) * HOURS,
        "load balancer": len(balancers) * BALANCER * HOURS,
        "public addresses": addresses * ADDRESS * HOURS,
        "disks": instances * disk_gb * DISK_GB,
        "firewall": sum(ACL + RULE * len(acl["rule"]) for acl in by_type.get("aws_wafv2_web_acl", [])),
        "alarms": ALARM * _metrics_of_alarms(by_type),
    }
    return {name: round(usd, 2) for name, usd in costs.items() if usd}


def _metrics_of_alarms(by_type: Mapping[str, list[Mapping[str, Any]]]) -> int:
    """The number of metrics that alarms watch. An alarm on an expression has several."""
    own = sum(
        sum(bool(query["metric"]) for query in alarm.get("metric_query") or ()) or 1
        for alarm in by_type.get("aws_cloudwatch_metric_alarm", [])
    )
    scaled = len(by_type.get("aws_appautoscaling_policy", []))
    for provider in by_type.get("aws_ecs_capacity_provider", []):
        [group] = provider["auto_scaling_group_provider"]
        scaled += sum(scaling["status"] == "ENABLED" for scaling in group["managed_scaling"])
    return own + _SCALING_ALARMS * scaled


def sentence(region: str, resources: Iterable[Resource]) -> str:
    """The estimate in one line, or which price is not known."""
    try:
        costs = a_month(region, resources)
    except UnknownPriceError as error:
        return str(error)
    parts = ", ".join(f"{name} {usd:.2f}" for name, usd in costs.items())
    return (
        f"about {sum(costs.values()):.2f} USD a month without traffic ({parts}); "
        f"an estimate by the list prices of {PUBLISHED}, without tax, logs, storage and custom metrics"
    )
