"""The task role may do what the storage module says it does, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest

from infra.terraform import CHECKOUT, ROOTS, Workspace, after

STORE = CHECKOUT / "services" / "s3api" / "s3_store.py"


def _documented() -> dict[str, set[str]]:
    """The actions listed in the storage module's docstring, by what they act on."""
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
    """The role's policy is the list in the docstring, both ways, bucket and objects apart."""
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
    """What the role may do in the bucket, the endpoint's policy does not stop."""
    policy = after(workspace.plans(root)["create"])["module.network.aws_vpc_endpoint.s3"]["policy"]
    data = next(statement for statement in json.loads(policy)["Statement"] if statement["Sid"] == "Data")

    assert set(data["Action"]) == set().union(*_documented().values())


@pytest.mark.parametrize("root", ROOTS)
def test_no_role_has_every_action(workspace: Workspace, root: str) -> None:
    """No policy of the stack grants an action by wildcard."""
    policies = [
        values["policy"]
        for address, values in after(workspace.plans(root)["create"]).items()
        if "aws_iam_role_policy." in address and "policy" in values  # unknown until the log group is made
    ]

    assert policies
    for policy in policies:
        for statement in json.loads(policy)["Statement"]:
            actions = statement["Action"]
            assert not any("*" in action for action in ([actions] if isinstance(actions, str) else actions))


def test_secret_values_are_nowhere(workspace: Workspace) -> None:
    """Secrets are referred to by ARN: no data source reads them, so no plan and no state holds one."""
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
