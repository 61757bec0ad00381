"""Every policy of the project, checked against AWS's Service Authorization Reference."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.environments import POLICIES
from infra import authorization
from infra.terraform import ROOTS, Workspace, managed

# Dependent actions of the reference that this project's use does not need, by the action that has them.
_PARAMETER = {
    "ssm:GetParameters"
}  # for an image that a launch template names as resolve:ssm:…; ours names its id
_OTHER_KINDS = {  # of resources that a web ACL can protect; ours protects a load balancer
    "amplify:AssociateWebACL",
    "amplify:DisassociateWebACL",
    "amplify:GetWebACLForResource",
    "apigateway:SetWebACL",
    "apprunner:AssociateWebAcl",
    "apprunner:DescribeWebAclForService",
    "apprunner:DisassociateWebAcl",
    "appsync:AssociateWebACL",
    "appsync:DisassociateWebACL",
    "appsync:GetWebACLForResource",
    "appsync:SetWebACL",
    "cognito-idp:AssociateWebACL",
    "cognito-idp:DisassociateWebACL",
    "cognito-idp:GetWebACLForResource",
    "ec2:AssociateVerifiedAccessInstanceWebAcl",
    "ec2:DisassociateVerifiedAccessInstanceWebAcl",
    "ec2:GetVerifiedAccessInstanceWebAcl",
    # They act on groups of rules that accounts share.
    "wafv2:GetPermissionPolicy",
    "wafv2:PutPermissionPolicy",
}
NOT_NEEDED = {
    # A flow log's format can name fields of ECS; ours has the default format.
    "ec2:CreateFlowLogs": {"ecs:ListClusters", "ecs:ListContainerInstances", "ecs:ListServices"},
    "ec2:CreateLaunchTemplate": _PARAMETER,
    "ec2:CreateLaunchTemplateVersion": _PARAMETER,
    # Private DNS names are of interface endpoints; ours is a gateway endpoint.
    "ec2:CreateVpcEndpoint": {"route53:AssociateVPCWithHostedZone"},
    "ec2:DescribeLaunchTemplateVersions": _PARAMETER,
    "ec2:RunInstances": _PARAMETER,
    "wafv2:AssociateWebACL": _OTHER_KINDS,
    "wafv2:DisassociateWebACL": _OTHER_KINDS,
    "wafv2:GetWebACLForResource": _OTHER_KINDS,
}


def _policy(name: str) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text())
    return policy


def test_the_deployers_policies_are_as_the_reference_says() -> None:
    """Each action exists, acts on the resources it is granted on, and has the actions it depends on."""
    names = sorted(path.stem for path in POLICIES.glob("deployer-*.json"))

    assert names
    assert list(authorization.problems([_policy(name) for name in names], NOT_NEEDED)) == []


def test_every_exception_is_used() -> None:
    """A dependent action that is excused is one that the reference asks for."""
    asked = {
        action: {needs for type_ in known["resource_types"].values() for needs in type_["dependent_actions"]}
        for action in NOT_NEEDED
        if (known := authorization.described(action))
    }

    assert set(asked) == set(NOT_NEEDED)
    assert set().union(*NOT_NEEDED.values()) <= set().union(*asked.values())


def test_the_policy_of_make_bucket_is_as_the_reference_says() -> None:
    """The person who makes the buckets has what `make bucket` calls."""
    assert list(authorization.problems([_policy("buckets")], {})) == []


@pytest.mark.parametrize("root", ROOTS)
def test_the_roles_are_as_the_reference_says(workspace: Workspace, root: str) -> None:
    """The policies of each role: tasks, execution, instances, flow logs."""
    roles: dict[str, list[dict[str, Any]]] = {}
    for address, resource in managed(workspace.destroy_plan(root)).items():
        if resource["type"] == "aws_iam_role_policy":
            before = resource["change"]["before"]
            roles.setdefault(before["role"], []).append(json.loads(before["policy"]))
        assert resource["type"] not in {"aws_iam_policy", "aws_iam_user_policy"}, address

    assert len(roles) == (4 if root == "envs/prod" else 3)
    for policies in roles.values():
        assert list(authorization.problems(policies, {})) == []


@pytest.mark.parametrize("root", ROOTS)
def test_policies_of_resources_are_as_the_reference_says(workspace: Workspace, root: str) -> None:
    """The policies of topics, endpoints and buckets: their actions exist and know the conditions."""
    found = {
        address: json.loads(policy)
        for address, resource in managed(workspace.destroy_plan(root)).items()
        if resource["type"] not in {"aws_iam_role_policy", "aws_appautoscaling_policy"}
        and isinstance(policy := resource["change"]["before"].get("policy"), str)
        and '"Statement"' in policy
    }

    assert {address.split(".")[-2] for address in found} >= {"aws_vpc_endpoint", "aws_sns_topic_policy"}
    for address, policy in found.items():
        for statement in policy["Statement"]:
            assert list(authorization.useless(statement)) == [], address


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        # An earlier version had this statement, and so could not associate a web ACL with a load balancer.
        pytest.param(
            {
                "Action": ["elasticloadbalancing:SetWebAcl"],
                "Resource": "arn:aws:elasticloadbalancing:*:*:loadbalancer/app/day02*",
            },
            "elasticloadbalancing:SetWebAcl acts on no resource",
            id="no-resource",
        ),
        pytest.param(
            {"Action": ["s3:ListObjects"], "Resource": "*"}, "s3:ListObjects does not exist", id="no-action"
        ),
        pytest.param(
            {"Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::day02-data"},
            "no action acts on arn:aws:s3:::day02-data",
            id="wrong-resource",
        ),
        pytest.param(
            {"Action": ["ecs:CreateCluster"], "Resource": "arn:aws:ecs:*:*:service/day02*"},
            "ecs:CreateCluster needs a cluster",
            id="wrong-type",
        ),
        pytest.param(
            {
                "Action": ["ecs:DeregisterTaskDefinition"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:ResourceTag/project_name": "day02"}},
            },
            "ecs:DeregisterTaskDefinition knows no aws:ResourceTag/project_name",
            id="unknown-condition",
        ),
        pytest.param(
            {
                "Action": ["iam:PassRole"],
                "Resource": "arn:aws:iam::*:role/day02*",
                "Condition": {"StringEquals": {"iam:PassedTo": "ec2.amazonaws.com"}},
            },
            "iam:PassRole knows no iam:PassedTo",
            id="misspelt-condition",
        ),
        pytest.param(
            {"Action": ["wafv2:CreateWebACL"], "Resource": "arn:aws:wafv2:*:*:regional/webacl/day02*"},
            "wafv2:CreateWebACL needs wafv2:TagResource",
            id="dependent-action",
        ),
        pytest.param(
            {"Action": ["ec2:DeleteVpc"], "Resource": "*"},
            "ec2:DeleteVpc on * could be held to",
            id="too-wide",
        ),
    ],
)
def test_the_check_finds_what_aws_would_refuse(statement: dict[str, Any], expected: str) -> None:
    """Each kind of fault is found, and told with the action."""
    policy = {"Statement": [{"Sid": "Faulty", **statement}]}

    found = list(authorization.problems([policy], {}))

    assert any(expected in problem for problem in found), found
