"""IAM checks that AWS makes and MiniStack does not.

AWS checks a call on each resource that it names, with the tags of that resource. It also checks whether the
caller may pass a role. MiniStack checks an EC2 call once, on one resource, without tags. It never checks
iam:PassRole.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

# The beginnings of ids and the names of resource types in ARNs: "Resource types defined by Amazon EC2" in the
# Service Authorization Reference.
_TYPES = {
    "fl": "vpc-flow-log",
    "igw": "internet-gateway",
    "lt": "launch-template",
    "rtb": "route-table",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "subnet": "subnet",
    "vpc": "vpc",
    "vpce": "vpc-endpoint",
}
# The type of the resource that an action makes, from the same page.
_MADE = {
    "AuthorizeSecurityGroupEgress": "security-group-rule",
    "AuthorizeSecurityGroupIngress": "security-group-rule",
    "CreateFlowLogs": "vpc-flow-log",
    "CreateInternetGateway": "internet-gateway",
    "CreateLaunchTemplate": "launch-template",
    "CreateRouteTable": "route-table",
    "CreateSecurityGroup": "security-group",
    "CreateSubnet": "subnet",
    "CreateVpc": "vpc",
    "CreateVpcEndpoint": "vpc-endpoint",
}
_ID = re.compile(rf"({'|'.join(sorted(_TYPES, key=len, reverse=True))})-[0-9a-f]{{8,17}}")
# Parameters that refer to a resource without acting on it, such as the target of a route or a revoked rule.
_NOT_ACTED_ON = (
    "Filter.",
    "GatewayId",
    "IpPermissions.",
    "LaunchTemplateData.",
    "SecurityGroupRuleId.",
    "TagSpecification.",
)
# Call -> parameter with a role -> service that takes the role ("iam:PassedToService" in the IAM User Guide).
_PASSED = {
    "ec2:CreateFlowLogs": {"DeliverLogsPermissionArn": "vpc-flow-logs.amazonaws.com"},
    "ecs:RegisterTaskDefinition": {
        "executionRoleArn": "ecs-tasks.amazonaws.com",
        "taskRoleArn": "ecs-tasks.amazonaws.com",
    },
    "iam:AddRoleToInstanceProfile": {"RoleName": "ec2.amazonaws.com"},
}

# Condition key of IAM's own calls -> parameter with its value ("Condition keys for AWS Identity and Access
# Management" in the Service Authorization Reference).
_IAM_KEYS = {"iam:AWSServiceName": "AWSServiceName", "iam:PolicyARN": "PolicyArn"}


# Services whose calls get extra checks or condition keys, which MiniStack does not have.
_CHECKED = {"acm", "application-autoscaling", "ec2", "ecs", "iam"}


@dataclass(frozen=True)
class Check:
    """One decision of IAM: may the caller do `action` on `resource`, with these condition keys?"""

    action: str
    resource: str
    context: Mapping[str, Any]


def checks(
    action: str,
    parameters: Mapping[str, str],
    tags: Mapping[str, list[dict[str, str]]],
    context: Mapping[str, Any],
    home: str,
) -> Iterator[Check]:
    """The decisions that AWS makes about a call to EC2, one for each resource.

    `tags`: id of a resource -> its tags. `context`: the condition keys of the request. `home`: the part of an
    ARN from `arn:` to the account.
    """
    name = action.removeprefix("ec2:")
    requested = {
        key: value for key, value in context.items() if not key.lower().startswith("aws:resourcetag/")
    }
    others = {
        key: value
        for key, value in requested.items()
        if not key.lower().startswith(("aws:requesttag/", "aws:tag"))
    }
    if made := _MADE.get(name):
        yield Check(action, f"{home}:{made}/*", requested)
        if requested != others:
            yield Check("ec2:CreateTags", f"{home}:{made}/*", {**requested, "ec2:CreateAction": name})
    for parameter, value in parameters.items():
        found = _ID.fullmatch(value)
        if found is None or parameter.startswith(_NOT_ACTED_ON):
            continue
        own = {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags.get(value, [])}
        keys = requested if name in {"CreateTags", "DeleteTags"} else others
        yield Check(action, f"{home}:{_TYPES[found[1]]}/{value}", {**keys, **own})


def passed(action: str, parameters: Mapping[str, str], account: str) -> Iterator[Check]:
    """The roles that a call passes to a service."""
    for name, service in _PASSED.get(action, {}).items():
        if role := parameters.get(name):
            arn = role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}"
            yield Check("iam:PassRole", arn, {"iam:PassedToService": service})


_parameters: ContextVar[Mapping[str, str]] = ContextVar("parameters")


def check_each_resource() -> None:
    """Let MiniStack make these checks."""
    from ministack.core import iam_actions, iam_evaluator
    from ministack.core.responses import get_account_id
    from ministack.services import acm, ec2

    from emulator import application_autoscaling

    tag_keys = iam_actions.request_tag_context
    enforce = iam_evaluator.enforce

    def remembered(service: str, action: str, body: bytes, query: Mapping[str, Any]) -> Any:
        _parameters.set(_plain(body, query))
        return tag_keys(service, action, body, query)

    def each(access_key: str, action: str, service: str, region: str, *rest: Any, **named: Any) -> Any:
        if service not in _CHECKED or action.startswith("ec2:Describe"):
            return enforce(access_key, action, service, region, *rest, **named)
        account, parameters = get_account_id(), _parameters.get({})
        context = dict(named.get("service_context") or {})
        if service == "acm":
            own = (acm._certificates.get(parameters.get("CertificateArn")) or {}).get("Tags", [])
            context |= {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in own}
        if service == application_autoscaling.NAME:
            own = application_autoscaling.tags_of(parameters)
            context |= {f"aws:ResourceTag/{name}": value for name, value in own.items()}
        if service == "iam":
            context |= {key: parameters[name] for key, name in _IAM_KEYS.items() if name in parameters}
        if service == "ecs" and (cluster := parameters.get("cluster")):
            home = f"arn:aws:ecs:{region}:{account}:cluster/"
            context["ecs:cluster"] = cluster if cluster.startswith("arn:") else home + cluster
        named["service_context"] = context
        wanted: list[Check] = []
        if service == "ec2":
            named_by_id = {**parameters, "RouteTableId": _route_table(ec2._route_tables, parameters)}
            wanted = list(checks(action, named_by_id, ec2._tags, context, f"arn:aws:ec2:{region}:{account}"))
        # MiniStack's own check knows no tags of networks, so it is made only where there is no better one.
        refused = None if wanted else enforce(access_key, action, service, region, *rest, **named)
        for check in [*wanted, *passed(action, parameters, account)]:
            refused = refused or enforce(
                access_key,
                check.action,
                service,
                region,
                resource_arn=check.resource,
                service_context=check.context,
            )
        return refused

    # Most calls to EC2 name the tags of a new resource so; MiniStack reads them in CreateTags only.
    iam_actions._TAG_MEMBERS |= {"TagSpecifications"}
    iam_actions.request_tag_context = remembered
    iam_evaluator.enforce = each


def _route_table(tables: Mapping[str, Any], parameters: Mapping[str, str]) -> str:
    """The route table of a call, which may name only its association with a subnet."""
    association = parameters.get("AssociationId")
    for id_, table in tables.items():
        if any(entry["RouteTableAssociationId"] == association for entry in table.get("Associations", [])):
            return str(id_)
    return parameters.get("RouteTableId", "")


def _plain(body: bytes, query: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a call: name -> value, of the query protocols and of the first level of JSON."""
    found = {
        name: str(value[0] if isinstance(value, list) else value) for name, value in query.items() if value
    }
    if body.startswith(b"{"):
        with contextlib.suppress(ValueError):
            found.update({name: value for name, value in json.loads(body).items() if isinstance(value, str)})
    return found
