"""Roles and policies: who may assume a role, and which actions it has."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest

from infra.terraform import CHECKOUT, ROOTS, Workspace, after, managed

STORE = CHECKOUT / "services" / "s3api" / "s3_store.py"


def _documented() -> dict[str, set[str]]:
    """The actions in the docstring of the storage module, by resource."""
    docstring = ast.get_docstring(ast.parse(STORE.read_text())) or ""
    listed = docstring.split("IAM actions", 1)[1]
    actions: dict[str, set[str]] = {"bucket": set(), "objects": set()}
    for action, scope in re.findall(r"^\s+(s3:\w+)\s+on the (bucket|objects)", listed, re.MULTILINE):
        actions[scope].add(action)
    return actions


def _statements(workspace: Workspace, root: str) -> list[dict[str, Any]]:
    policy = after(workspace.plans(root)["create"])["module.service.aws_iam_role_policy.task"]["policy"]
    statements: list[dict[str, Any]] = json.loads(policy)["Statement"]
    return statements


@pytest.mark.parametrize("root", ROOTS)
def test_task_role_has_the_actions_of_the_store(workspace: Workspace, root: str) -> None:
    """The role's policy has exactly the actions in the docstring, separately for bucket and objects."""
    granted: dict[str, set[str]] = {"bucket": set(), "objects": set()}
    for statement in _statements(workspace, root):
        granted["objects" if statement["Resource"].endswith("/*") else "bucket"].update(statement["Action"])

    assert granted == _documented()


@pytest.mark.parametrize("root", ROOTS)
def test_task_role_reaches_one_bucket(workspace: Workspace, root: str) -> None:
    """The role allows nothing beyond the data bucket."""
    statements = _statements(workspace, root)

    buckets = {statement["Resource"].removesuffix("/*") for statement in statements}

    assert {statement["Effect"] for statement in statements} == {"Allow"}
    assert buckets == {"arn:aws:s3:::day02-data"}


@pytest.mark.parametrize("root", ROOTS)
def test_endpoint_lets_through_what_the_role_allows(workspace: Workspace, root: str) -> None:
    """The endpoint's policy allows what the role may do in the bucket."""
    policy = after(workspace.plans(root)["create"])["module.network.aws_vpc_endpoint.s3"]["policy"]
    data = next(statement for statement in json.loads(policy)["Statement"] if statement["Sid"] == "Data")

    assert set(data["Action"]) == set().union(*_documented().values())


@pytest.mark.parametrize("root", ROOTS)
def test_no_role_has_every_action(workspace: Workspace, root: str) -> None:
    """No policy of the stack grants an action by wildcard."""
    policies = [
        values["policy"]
        for address, values in after(workspace.plans(root)["create"]).items()
        if "aws_iam_role_policy." in address and "policy" in values  # unknown until the log group exists
    ]

    assert policies
    for policy in policies:
        for statement in json.loads(policy)["Statement"]:
            actions = statement["Action"]
            assert not any("*" in action for action in ([actions] if isinstance(actions, str) else actions))


# --- who may assume a role or publish to a topic


def _policies(workspace: Workspace, root: str) -> dict[str, dict[str, Any]]:
    """Every policy of the applied stack, by the resource's address and the attribute."""
    found: dict[str, dict[str, Any]] = {}
    for address, change in managed(workspace.destroy_plan(root)).items():
        for attribute in ("policy", "assume_role_policy"):
            text = change["change"]["before"].get(attribute)
            if isinstance(text, str) and text.startswith("{"):
                policy: dict[str, Any] = json.loads(text)
                if "Statement" in policy:
                    found[f"{address}.{attribute}"] = policy
    return found


@pytest.mark.parametrize("root", ROOTS)
def test_each_service_acts_for_this_account_alone(workspace: Workspace, root: str) -> None:
    """A statement that trusts a service names the account and the resource for which the service acts.

    Otherwise another account could have the service use this role or topic: the confused deputy,
    docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html. EC2 names no source when it hands out the
    role of an instance, which must be an instance of the same account.
    """
    trusting: dict[str, Any] = {}
    for address, policy in _policies(workspace, root).items():
        for statement in policy["Statement"]:
            principal = statement.get("Principal")
            if isinstance(principal, dict) and "Service" in principal:
                trusting[f"{address} {principal['Service']}"] = statement.get("Condition", {})
    exempt = {"module.cluster.aws_iam_role.instance.assume_role_policy ec2.amazonaws.com"}

    assert exempt < set(trusting)
    assert root != "envs/prod" or any("vpc-flow-logs" in name for name in trusting)
    for name, condition in trusting.items():
        if name not in exempt:
            assert condition.get("StringEquals", {}).get("aws:SourceAccount") == "123456789012", name
            assert ":123456789012:" in condition.get("ArnLike", {}).get("aws:SourceArn", ""), name


@pytest.mark.parametrize("root", ROOTS)
def test_instances_read_no_parameter_and_no_image(workspace: Workspace, root: str) -> None:
    """The instance role has no managed policy, and its own policies allow these actions and no others.

    The sources are "Creating an IAM role with minimal Session Manager permissions"
    (docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html),
    and the policy that AWS's CDK gives to container instances (aws-cdk, aws-ecs/lib/cluster.ts).
    """
    resources = managed(workspace.destroy_plan(root))
    inline = [
        statement
        for address, policy in _policies(workspace, root).items()
        if address.startswith("module.cluster.aws_iam_role_policy.")
        for statement in policy["Statement"]
    ]
    allowed: dict[str, str] = {}
    for statement in inline:
        actions = statement["Action"]
        held_to = [statement["Resource"], *statement.get("Condition", {}).get("ArnEquals", {}).values()]
        for action in [actions] if isinstance(actions, str) else actions:
            allowed[action] = held_to[-1]
    cluster = next(arn for arn in allowed.values() if ":cluster/" in arn)

    assert [address for address in resources if "policy_attachment" in address] == []
    assert cluster.startswith("arn:aws:ecs:eu-west-1:123456789012:cluster/day02")
    assert allowed == {
        "ecs:DeregisterContainerInstance": cluster,
        "ecs:DiscoverPollEndpoint": "*",
        "ecs:Poll": cluster,
        "ecs:RegisterContainerInstance": cluster,
        "ecs:StartTelemetrySession": cluster,
        "ecs:SubmitAttachmentStateChanges": cluster,
        "ecs:SubmitContainerStateChange": cluster,
        "ecs:SubmitTaskStateChange": cluster,
        "ssm:UpdateInstanceInformation": "arn:aws:ec2:eu-west-1:123456789012:instance/*",
        "ssmmessages:CreateControlChannel": "*",
        "ssmmessages:CreateDataChannel": "*",
        "ssmmessages:OpenControlChannel": "*",
        "ssmmessages:OpenDataChannel": "*",
    }


@pytest.mark.parametrize("root", ROOTS)
def test_parameters_are_read_by_name(workspace: Workspace, root: str) -> None:
    """Every role that reads parameters may read only named ones of this account."""
    held_to: list[str] = []
    for policy in _policies(workspace, root).values():
        for statement in policy["Statement"]:
            actions, resources = statement["Action"], statement.get("Resource", [])
            actions = [actions] if isinstance(actions, str) else actions
            if any(action.startswith("ssm:GetParameter") for action in actions):
                held_to += [resources] if isinstance(resources, str) else resources

    assert held_to
    assert all(re.fullmatch(r"arn:aws:ssm:eu-west-1:123456789012:parameter/[\w/-]+", arn) for arn in held_to)


def test_secret_values_are_nowhere(workspace: Workspace) -> None:
    """Secrets are referred to by ARN. No data source reads them, so no plan and no state contains one."""
    read: set[str] = set()
    for root in ROOTS:
        calls = workspace.destroy_plan(root)["configuration"]["root_module"]["module_calls"]
        resources = calls["service"]["module"]["resources"]
        read.update(resource["address"] for resource in resources if resource["mode"] == "data")

    assert read == {
        "data.aws_caller_identity.current",
        "data.aws_region.current",
        "data.aws_s3_bucket.data",
    }
