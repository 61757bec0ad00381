"""The planned values of each environment: those of the course, and the differences of production."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy import prices
from deploy.prices import Resource
from deploy.stack import managed as managed_resources
from infra.terraform import CHECKOUT, Workspace, after

HTTP_FROM_ANYWHERE = 'module.load_balancer.aws_vpc_security_group_ingress_rule.listener["0.0.0.0/0"]'

# address, path into the planned values, the value of the course
MISSION = [
    ("module.network.aws_vpc.this", "cidr_block", "10.0.0.0/16"),
    ("module.network.aws_vpc.this", "enable_dns_hostnames", True),
    ("module.network.aws_vpc.this", "tags.Name", "day02-vpc"),
    ('module.network.aws_subnet.public["1"]', "cidr_block", "10.0.1.0/24"),
    ('module.network.aws_subnet.public["1"]', "availability_zone", "eu-west-1a"),
    ('module.network.aws_subnet.public["1"]', "map_public_ip_on_launch", True),
    ('module.network.aws_subnet.public["1"]', "tags.Name", "day02-sn-pub-1"),
    ('module.network.aws_subnet.public["2"]', "cidr_block", "10.0.2.0/24"),
    ('module.network.aws_subnet.public["2"]', "availability_zone", "eu-west-1b"),
    ('module.network.aws_subnet.public["2"]', "map_public_ip_on_launch", True),
    ('module.network.aws_subnet.public["2"]', "tags.Name", "day02-sn-pub-2"),
    ("module.network.aws_internet_gateway.this", "tags.Name", "day02-igw"),
    ("module.network.aws_route_table.public", "tags.Name", "day02-rt"),
    ("module.network.aws_route.internet", "destination_cidr_block", "0.0.0.0/0"),
    ("module.cluster.aws_security_group.this", "tags.Name", "day02-flask-sg"),
    ("module.service.aws_iam_role.task", "name", "s3_access"),
    ("module.cluster.aws_launch_template.this", "instance_type", "t2.micro"),
    ("module.cluster.aws_autoscaling_group.this", "min_size", 2),
    ("module.cluster.aws_autoscaling_group.this", "max_size", 2),
    ("module.cluster.aws_autoscaling_group.this", "health_check_type", "ELB"),
    ("module.load_balancer.aws_security_group.this", "tags.Name", "day02-alb-sg"),
    (HTTP_FROM_ANYWHERE, "from_port", 5000),
    (HTTP_FROM_ANYWHERE, "to_port", 5000),
    ("module.load_balancer.aws_lb.this", "internal", False),
    ("module.load_balancer.aws_lb.this", "enable_cross_zone_load_balancing", True),
    ("module.load_balancer.aws_lb_listener.this", "port", 5000),
    ("module.load_balancer.aws_lb_listener.this", "protocol", "HTTP"),
    ("module.load_balancer.aws_lb_target_group.this", "health_check.0.interval", 30),
    ("module.load_balancer.aws_lb_target_group.this", "health_check.0.healthy_threshold", 2),
    ("module.service.aws_ecs_service.this", "desired_count", 2),
    ("module.service.aws_cloudwatch_log_group.this", "retention_in_days", 30),
    ("module.registry.aws_ecr_repository.this", "image_tag_mutability", "IMMUTABLE"),
    ("module.registry.aws_ecr_repository.this", "force_delete", True),
    ("module.billing_alarm.aws_cloudwatch_metric_alarm.this", "metric_name", "EstimatedCharges"),
    ("module.billing_alarm.aws_cloudwatch_metric_alarm.this", "dimensions.Currency", "USD"),
    (
        "module.billing_alarm.aws_cloudwatch_metric_alarm.this",
        "comparison_operator",
        "GreaterThanOrEqualToThreshold",
    ),
    ("module.billing_alarm.aws_cloudwatch_metric_alarm.this", "threshold", 1),
    ("module.billing_alarm.aws_sns_topic.this", "name", "BillingAlarm"),
    ("module.billing_alarm.aws_sns_topic_subscription.email", "protocol", "email"),
]

# the same for production
PRODUCTION = [
    ("module.load_balancer.aws_lb_listener.this", "protocol", "HTTPS"),
    ("module.load_balancer.aws_lb_listener.this", "port", 443),
    ("module.load_balancer.aws_lb_listener.this", "ssl_policy", "ELBSecurityPolicy-TLS13-1-2-2021-06"),
    ("module.load_balancer.aws_lb_listener.redirect[0]", "default_action.0.redirect.0.protocol", "HTTPS"),
    ("module.load_balancer.aws_lb.this", "enable_deletion_protection", True),
    ("module.load_balancer.aws_lb.this", "access_logs.0.bucket", "day02-access-logs"),
    ("module.load_balancer.aws_lb_target_group.this", "deregistration_delay", "300"),
    ("module.load_balancer.aws_wafv2_web_acl.this[0]", "scope", "REGIONAL"),
    ("module.network.aws_cloudwatch_log_group.flow_logs[0]", "retention_in_days", 365),
    ("module.cluster.aws_launch_template.this", "instance_type", "t3.small"),
    ("module.cluster.aws_autoscaling_group.this", "min_size", 2),
    ("module.cluster.aws_autoscaling_group.this", "max_size", 4),
    ("module.registry.aws_ecr_repository.this", "force_delete", False),
    ("module.service.aws_iam_role.task", "name", "day02-prod-s3_access"),
    ("module.service.aws_appautoscaling_target.this[0]", "min_capacity", 2),
    ("module.service.aws_appautoscaling_target.this[0]", "max_capacity", 6),
    ("module.service.aws_cloudwatch_log_group.this", "retention_in_days", 365),
    ("module.service.aws_cloudwatch_metric_alarm.tasks_missing[0]", "alarm_name", "day02-prod-tasks-missing"),
    ('module.service.aws_cloudwatch_metric_alarm.balancer["elb-5xx"]', "threshold", 1),
    ('module.service.aws_cloudwatch_metric_alarm.balancer["no-healthy-hosts"]', "threshold", 1),
    (
        "module.service.aws_cloudwatch_metric_alarm.s3_unreachable[0]",
        "alarm_name",
        "day02-prod-s3-unreachable",
    ),
    ('module.service.aws_cloudwatch_metric_alarm.balancer["latency"]', "extended_statistic", "p95"),
    ('module.service.aws_cloudwatch_metric_alarm.balancer["unhealthy-hosts"]', "threshold", 1),
    ("module.service.aws_cloudwatch_dashboard.this[0]", "dashboard_name", "day02-prod"),
    ("module.service.aws_sns_topic_subscription.alarms[0]", "endpoint", "oncall@example.com"),
]


def _value(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values[int(key) if isinstance(values, list) else key]
    return values


def _container(workspace: Workspace, root: str) -> dict[str, Any]:
    definition = after(workspace.plans(root)["create"])["module.service.aws_ecs_task_definition.this"]
    container: dict[str, Any] = json.loads(definition["container_definitions"])[0]
    return container


def _environment(workspace: Workspace, root: str) -> dict[str, str]:
    return {setting["name"]: setting["value"] for setting in _container(workspace, root)["environment"]}


@pytest.mark.parametrize(("address", "path", "value"), MISSION)
def test_day02_has_the_missions_values(workspace: Workspace, address: str, path: str, value: object) -> None:
    """A value that the course names is planned exactly."""
    assert _value(after(workspace.plans("envs/day02")["create"])[address], path) == value


def test_day02_tags_everything_with_the_project(workspace: Workspace) -> None:
    """Every resource with tags has the project's name, so that leftovers can be found by it."""
    untagged = [
        address
        for address, values in after(workspace.plans("envs/day02")["create"]).items()
        if "tags_all" in values and "tags" not in values
    ]

    assert untagged == []


def test_day02_instances_carry_the_courses_tag(workspace: Workspace) -> None:
    """The group's tag is propagated to instances at launch."""
    group = after(workspace.plans("envs/day02")["create"])["module.cluster.aws_autoscaling_group.this"]

    assert {"key": "Autoscaling Flask", "value": "flask-asg", "propagate_at_launch": True} in group["tag"]


def test_day02_spans_both_subnets(workspace: Workspace) -> None:
    """The group and the balancer use both subnets, and both subnets use the route table."""
    resources = workspace.test("envs/day02").states["create"]
    values = {resource["address"]: resource["values"] for resource in _resources(resources["root_module"])}
    subnets = {values[f'module.network.aws_subnet.public["{number}"]']["id"] for number in (1, 2)}
    associations = [f'module.network.aws_route_table_association.public["{number}"]' for number in (1, 2)]

    assert set(values["module.cluster.aws_autoscaling_group.this"]["vpc_zone_identifier"]) == subnets
    assert set(values["module.load_balancer.aws_lb.this"]["subnets"]) == subnets
    assert {values[association]["subnet_id"] for association in associations} == subnets


def test_day02_instances_belong_to_their_group_and_security_group(workspace: Workspace) -> None:
    """No target group is attached to the group, because its checks would replace healthy instances."""
    values = {
        resource["address"]: resource["values"]
        for resource in _resources(workspace.test("envs/day02").states["create"]["root_module"])
    }
    group = values["module.cluster.aws_autoscaling_group.this"]
    template = values["module.cluster.aws_launch_template.this"]

    assert template["vpc_security_group_ids"] == [values["module.cluster.aws_security_group.this"]["id"]]
    assert group["launch_template"][0]["id"] == template["id"]
    assert group["name_prefix"] == "day02-flask-asg-"
    assert not group["target_group_arns"]


def test_day02_answers_bare_curl(workspace: Workspace) -> None:
    """The course's calls need no token."""
    environment = _environment(workspace, "envs/day02")

    assert environment["ALLOW_ANONYMOUS"] == "true"
    assert environment["PROJECT_NAME"] == "day02"


def test_day02_narrows_to_one_address_by_one_variable(workspace: Workspace) -> None:
    """With `allowed_cidrs` the balancer accepts only that range, and SSH is closed by default."""
    plan = after(workspace.plans("envs/day02")["change"])
    ranges = {
        values["cidr_ipv4"]
        for address, values in plan.items()
        if "load_balancer.aws_vpc_security_group_ingress_rule" in address and values
    }

    assert ranges == {"203.0.113.7/32"}
    assert plan["module.cluster.aws_vpc_security_group_ingress_rule.ssh[0]"]["from_port"] == 22
    assert not any(".ssh[" in address for address in after(workspace.plans("envs/day02")["create"]))


@pytest.mark.parametrize(("address", "path", "value"), PRODUCTION)
def test_prod_differs(workspace: Workspace, address: str, path: str, value: object) -> None:
    """A value of production is planned exactly."""
    assert _value(after(workspace.plans("envs/prod")["create"])[address], path) == value


def test_prod_requires_tokens(workspace: Workspace) -> None:
    """Production requires a token, and the tokens and the signing key are references."""
    secrets = {secret["name"] for secret in _container(workspace, "envs/prod")["secrets"]}

    assert _environment(workspace, "envs/prod")["ALLOW_ANONYMOUS"] == "false"
    assert secrets == {"API_TOKENS", "SIGNING_KEY"}


def test_prod_asks_who_may_call(workspace: Workspace) -> None:
    """Production has no default for the allowed addresses or its name."""
    variables = workspace.destroy_plan("envs/prod")["configuration"]["root_module"]["variables"]

    asked = ("allowed_cidrs", "domain_name", "alarm_email")

    assert [name for name in asked if "default" in variables[name]] == []


@pytest.mark.parametrize("root", ["envs/day02", "envs/prod"])
def test_state_is_remote_and_locked(workspace: Workspace, root: str) -> None:
    """The state is in S3, encrypted and with S3's own lock, and its bucket is set at init."""
    backend = (workspace.path / root / "terraform.tf").read_text().split('backend "s3" {')[1].split("}")[0]

    assert "use_lockfile = true" in backend
    assert "encrypt      = true" in backend
    assert "bucket" not in backend
    assert "dynamodb" not in backend


@pytest.mark.parametrize("root", ["envs/day02", "envs/prod"])
def test_the_times_of_balancer_and_task_fit(workspace: Workspace, root: str) -> None:
    """The server closes idle connections after the balancer does, and the stop fits into ECS's 120 s.

    The largest form fills the staging directory (STAGING_MAX_BYTES, 2 GiB). It goes to S3 within the idle
    timeout at 2.5 MB/s, less than half of what a t2.micro has at its baseline.
    """
    environment, container = _environment(workspace, root), _container(workspace, root)
    balancer = after(workspace.plans(root)["create"])["module.load_balancer.aws_lb.this"]
    stop = int(environment["DRAIN_SECONDS"]) + int(environment["GRACEFUL_SECONDS"])

    assert balancer["idle_timeout"] * 2.5e6 >= 2 * 1024**3
    assert int(environment["KEEPALIVE_SECONDS"]) > balancer["idle_timeout"]
    assert stop < container["stopTimeout"] <= 120


@pytest.mark.parametrize(("root", "usd"), [("envs/day02", 56.88), ("envs/prod", 80.17)])
def test_a_month_costs_what_the_documentation_says(workspace: Workspace, root: str, usd: float) -> None:
    """The estimate of `make status` counts the resources of the state. docs/scale.md has the same sums."""
    entries = managed_resources(workspace.test(root).states["create"]["root_module"])
    resources = [Resource(entry["type"], entry["values"]) for entry in entries]

    costs = prices.a_month("eu-west-1", resources)

    assert sum(costs.values()) == pytest.approx(usd)
    assert f"**{usd:.2f}**" in (CHECKOUT / "docs/scale.md").read_text()
    assert prices.sentence("eu-west-1", resources).startswith(f"about {usd:.2f} USD a month without traffic")
    assert prices.sentence("eu-central-1", resources) == "no price known for eu-central-1"


def test_no_cost_is_invented() -> None:
    """A type of instance without a known price gives no sum."""
    group = Resource("aws_autoscaling_group", {"min_size": 2})

    def estimate(instance_type: str) -> str:
        values = {"instance_type": instance_type, "block_device_mappings": []}
        return prices.sentence("eu-west-1", [group, Resource("aws_launch_template", values)])

    assert estimate("m7i-flex.large").startswith(
        "no price known for m7i-flex.large in eu-west-1; see https://"
    )
    assert estimate("t4g.micro").startswith("about 20.73 USD a month")


def _resources(module: dict[str, Any]) -> list[dict[str, Any]]:
    children = [resource for child in module.get("child_modules", []) for resource in _resources(child)]
    return [*module.get("resources", []), *children]
