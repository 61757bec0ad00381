"""Every module and root is formatted and valid, and passes its own native tests."""

from __future__ import annotations

import re

import pytest

from infra.terraform import CHECKOUT, DIRECTORIES, MODULES, ROOTS, Workspace, managed, waits_for

SERVICE = "module.service.aws_ecs_service.this"
SUBNET_USERS = ("module.load_balancer.aws_lb.this", "module.cluster.aws_autoscaling_group.this")


def test_terraform_code_is_formatted(workspace: Workspace) -> None:
    """`terraform fmt` would change nothing."""
    assert workspace.run(".", "fmt", "-check", "-recursive", "-diff", check=False) == ""


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_directory_is_valid(workspace: Workspace, directory: str) -> None:
    """Each directory can be initialised, a root from its unchanged lock file, and is valid."""
    workspace.init(directory)

    assert "Success!" in workspace.run_attached(directory, "validate", "-no-color")


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_native_tests_pass(workspace: Workspace, directory: str) -> None:
    """Each directory has native tests, and they pass."""
    result = workspace.test(directory)

    assert result.errors == []
    assert set(result.statuses.values()) == {"pass"}


@pytest.mark.parametrize("module", MODULES)
def test_each_validation_has_a_run_that_it_refuses(module: str) -> None:
    """Each validation of a variable has a run that expects it to fail."""
    validations = {name: body.count("  validation {") for name, body in _variables(module).items()}
    tests = "".join(path.read_text() for path in (CHECKOUT / module / "tests").glob("*.tftest.hcl"))
    refused = re.findall(r"expect_failures = \[var\.(\w+)\]", tests)

    assert [name for name, count in validations.items() if refused.count(name) < count] == []


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_small_surface(module: str) -> None:
    """A module has at most a dozen variables, each with a description and a type other than `any`."""
    variables = _variables(module)

    assert len(variables) <= 12
    assert all(re.search(r"^  description += ", body, re.MULTILINE) for body in variables.values())
    assert all(re.search(r"^  type += (?!any|.*\(any)", body, re.MULTILINE) for body in variables.values())


@pytest.mark.parametrize("root", ROOTS)
def test_root_holds_no_resource(root: str) -> None:
    """A root contains only providers, backend, module calls, variables and outputs."""
    blocks = {
        block
        for path in (CHECKOUT / root).glob("*.tf")
        for block in re.findall(r"^(\w+)[ \"\w]*\{", path.read_text(), re.MULTILINE)
    }

    assert blocks <= {"terraform", "provider", "module", "variable", "output"}


@pytest.mark.parametrize("root", ROOTS)
def test_roots_lock_every_platform(root: str) -> None:
    """The lock file has the provider's checksums for fifteen platforms, so that it works on all of them."""
    lock = (CHECKOUT / root / ".terraform.lock.hcl").read_text()

    assert lock.count('"zh:') == 15
    assert 'version     = "5.100.0"' in lock


@pytest.mark.parametrize("root", ROOTS)
def test_order_in_which_destroy_cannot_hang(workspace: Workspace, root: str) -> None:
    """The service is destroyed first.

    Everything it needs to stop, such as instances and roles, stays longer.
    """
    needed = {
        "module.cluster.aws_ecs_cluster_capacity_providers.this",
        "module.cluster.aws_ecs_capacity_provider.this",
        "module.cluster.aws_autoscaling_group.this",
        "module.cluster.aws_launch_template.this",
        "module.cluster.aws_ecs_cluster.this",
        "module.cluster.aws_iam_role_policy.ecs_agent",
        "module.cluster.aws_iam_role_policy.session_manager",
        "module.cluster.aws_vpc_security_group_egress_rule.https",
        "module.load_balancer.aws_lb_listener.this",
        "module.service.aws_iam_role_policy.execution",
        "module.service.aws_iam_role_policy.task",
    }

    assert needed <= waits_for(workspace.graph(root), SERVICE)


@pytest.mark.parametrize("user", SUBNET_USERS)
@pytest.mark.parametrize("root", ROOTS)
def test_who_uses_a_subnet_waits_for_its_route(workspace: Workspace, root: str, user: str) -> None:
    """The balancer and the group are created after the route to the internet and destroyed before it."""
    needed = {"module.network.aws_route.internet", "module.network.aws_route_table_association.public"}

    assert needed <= waits_for(workspace.graph(root), user)


@pytest.mark.parametrize("root", ROOTS)
def test_only_what_commands_change_is_ignored(root: str) -> None:
    """Only drift of two values is ignored.

    Scaling and destroy set the count of tasks; `make refresh` sets the version of the instances' template.
    """
    ignored = [
        match
        for path in CHECKOUT.glob("modules/*/*.tf")
        for match in re.findall(r"ignore_changes\s*=\s*(\[.*\]|\w+)$", path.read_text(), re.MULTILINE)
    ]

    assert sorted(ignored) == ["[desired_count]", "[launch_template[0].version]"]
    assert not any("ignore_changes" in path.read_text() for path in (CHECKOUT / root).glob("*.tf"))


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", ["create", "change", "replace", "destroy"])
def test_no_plan_manages_a_bucket(workspace: Workspace, root: str, kind: str) -> None:
    """No plan of any kind changes a bucket or an object."""
    changes = managed(workspace.plans(root)[kind])
    actions = {action for change in changes.values() for action in change["change"]["actions"]}

    assert [address for address, change in changes.items() if change["type"].startswith("aws_s3")] == []
    assert {"create": "create", "change": "update", "replace": "delete", "destroy": "delete"}[kind] in actions


@pytest.mark.parametrize("root", ROOTS)
def test_destroy_plan_takes_everything(workspace: Workspace, root: str) -> None:
    """Destroy removes everything that create has made."""
    plans = workspace.plans(root)
    destroyed = {
        address
        for address, change in managed(plans["destroy"]).items()
        if change["change"]["actions"] == ["delete"]
    }

    assert destroyed == set(managed(plans["create"]))


@pytest.mark.parametrize("root", ROOTS)
def test_no_attribute_given_is_dropped(workspace: Workspace, root: str) -> None:
    """Every attribute that a root passes is declared: Terraform drops what an object() does not declare."""
    calls = workspace.destroy_plan(root)["configuration"]["root_module"]["module_calls"]
    given = 0
    for call in calls.values():
        for name, type_ in _object_types(f"modules/{call['source'].rsplit('/', 1)[-1]}").items():
            assert "optional(" not in type_, "a misspelt optional attribute would be dropped in silence"
            declared = set(re.findall(r"^\s*(\w+)\s+=", type_, re.MULTILINE))
            references = call["expressions"].get(name, {}).get("references", [])
            for entry in _assigned(root, references[0].removeprefix("var.")) if references else []:
                given += 1
                assert entry == declared

    assert given >= 3


def _variables(directory: str) -> dict[str, str]:
    """The variables of a directory, each with the body of its block."""
    text = (CHECKOUT / directory / "variables.tf").read_text()
    return dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.DOTALL | re.MULTILINE))


def _assigned(root: str, variable: str) -> list[set[str]]:
    """The attributes of each object that the root's file assigns to a variable."""
    text = (CHECKOUT / root / "10_terraform.auto.tfvars").read_text()
    value = re.search(rf"^{variable} += (\{{.*?\}}$)(?=\n[^ ])", text, re.DOTALL | re.MULTILINE)
    objects = re.findall(r"\{([^{}]*)\}", value[1]) if value else []
    return [set(re.findall(r"(\w+) += ", entry)) for entry in objects]


def _object_types(directory: str) -> dict[str, str]:
    """The variables whose type contains an object(), with that type."""
    form = re.compile(r"^  type += ((?:map\()?object\(\{.*?^  \}\)+)", re.DOTALL | re.MULTILINE)
    types = {name: form.search(body) for name, body in _variables(directory).items()}
    return {name: match[1] for name, match in types.items() if match}
