"""The documentation of the infrastructure agrees with the code."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy import iam_policies
from deploy.environments import POLICIES
from infra import terraform_docs
from infra.terraform import CHECKOUT, MODULES, ROOTS, Workspace, managed

EXAMPLE = re.compile(r"^```hcl\n(.*?)^```", re.DOTALL | re.MULTILINE)

# The examples together are one stack. This plans and applies it with a mocked provider.
RUN_EXAMPLE = """
mock_provider "aws" {
  source = "../../tests/infra/mocks"
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "../../tests/infra/mocks"

  override_data {
    target = module.billing_alarm.data.aws_region.current
    values = { name = "us-east-1" }
  }
}

run "example" {}
"""


def test_generated_files_are_fresh(workspace: Workspace) -> None:
    """The READMEs' tables, the deployer's policy and the diagram are what the generator writes."""
    stale = [path.relative_to(CHECKOUT).as_posix() for path in terraform_docs.stale(workspace)]

    assert stale == [], "run: make docs"


def test_examples_of_the_readmes_make_one_stack(workspace: Workspace) -> None:
    """The examples of the modules' READMEs can be planned and applied together."""
    examples = {module: EXAMPLE.findall((CHECKOUT / module / "README.md").read_text()) for module in MODULES}
    directory = workspace.path / "envs/readme"
    (directory / "tests").mkdir(parents=True)
    (directory / "main.tf").write_text("\n".join(block for blocks in examples.values() for block in blocks))
    (directory / "providers.tf").write_text('provider "aws" {\n  region = "eu-west-1"\n}\n')
    (directory / "tests" / "example.tftest.hcl").write_text(RUN_EXAMPLE)
    result = workspace.test("envs/readme")

    assert [module for module, blocks in examples.items() if not blocks] == []
    assert result.errors == []
    assert result.statuses == {"example": "pass"}


def test_diagram_is_a_picture() -> None:
    """The diagram is self-contained: it needs no font, image or script from elsewhere."""
    svg = (CHECKOUT / "docs/infrastructure/day02.svg").read_text()

    assert svg.startswith("<svg")
    assert re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?(?!#)", svg) == []
    assert "<script" not in svg


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", ["create", "change", "replace", "destroy"])
def test_deployer_may_do_what_a_plan_needs(workspace: Workspace, root: str, kind: str) -> None:
    """The actions of every type of resource in any plan are listed and in the policy."""
    types = {change["type"] for change in managed(workspace.plans(root)[kind]).values()}
    allowed = {action for statement in _deployers_statements() for action in statement["Action"]}

    assert types - set(iam_policies.RESOURCES) == set()
    assert iam_policies.needed(types) - allowed == set()


def test_deployer_may_read_what_the_data_sources_read(workspace: Workspace) -> None:
    """The actions of every type of data source in any root are listed."""
    types: set[str] = set()
    for root in ROOTS:
        calls = workspace.destroy_plan(root)["configuration"]["root_module"]["module_calls"]
        resources = [resource for call in calls.values() for resource in call["module"]["resources"]]
        types |= {resource["type"] for resource in resources if resource["mode"] == "data"}

    assert types == set(iam_policies.DATA)


def test_deployer_has_nothing_that_no_plan_needs(workspace: Workspace) -> None:
    """No type of resource is listed that no root uses, because its actions would be granted without need."""
    types = {change["type"] for root in ROOTS for change in managed(workspace.plans(root)["create"]).values()}

    assert set(iam_policies.RESOURCES) == types


def test_policies_fit_iam() -> None:
    """A managed policy has at most 6,144 characters, without white space (IAM User Guide, "IAM quotas")."""
    sizes = {path.name: len(re.sub(r"\s", "", path.read_text())) for path in POLICIES.glob("*.json")}

    assert len(sizes) == 4
    assert {name: size for name, size in sizes.items() if size > 6_144} == {}


def _deployers_statements() -> list[dict[str, Any]]:
    policies = [json.loads(path.read_text()) for path in sorted(POLICIES.glob("deployer-*.json"))]
    return [statement for policy in policies for statement in policy["Statement"]]


def test_deployers_policy_is_least_privilege() -> None:
    """It has no wildcard for an action, and never reaches the files or a bucket's settings."""
    statements = _deployers_statements()
    s3 = {
        action: statement["Resource"]
        for statement in statements
        for action in statement["Action"]
        if action.startswith("s3:")
    }
    state = "arn:aws:s3:::day02*-tfstate/*"

    assert not any("*" in action for statement in statements for action in statement["Action"])
    assert s3 == {
        "s3:DeleteObject": state,
        "s3:GetBucketLocation": "arn:aws:s3:::day02*",
        "s3:GetObject": state,
        "s3:ListBucket": "arn:aws:s3:::day02*",
        "s3:PutObject": state,
    }
