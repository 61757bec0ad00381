"""Draws the infrastructure of day02, with values from the plan and arrows checked against the graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import Any

from infra.terraform import after, managed, waits_for

WIDTH, HEIGHT = 1280, 900
INK, MUTED, LINE = "#1f2933", "#616e7c", "#9aa5b1"
NETWORK, COMPUTE, STORAGE, WATCH, SECRET = "#7c4dce", "#d86613", "#3f8624", "#c2357a", "#c7303f"

# The symbol that shows each resource. A resource without one is an error, because the picture must be
# complete.
DRAWN = {
    "VPC": "module.network.aws_vpc.this module.network.aws_default_security_group.this",
    "subnets": "module.network.aws_subnet.public",
    "gateway": "module.network.aws_internet_gateway.this",
    "route table": """module.network.aws_route_table.public module.network.aws_route.internet
        module.network.aws_route_table_association.public""",
    "S3 endpoint": "module.network.aws_vpc_endpoint.s3",
    "load balancer": """module.load_balancer.aws_lb.this module.load_balancer.aws_lb_listener.this
        module.load_balancer.aws_lb_target_group.this module.load_balancer.aws_security_group.this
        module.load_balancer.aws_vpc_security_group_ingress_rule.listener
        module.cluster.aws_vpc_security_group_egress_rule.load_balancer""",
    "cluster": """module.cluster.aws_ecs_cluster.this module.cluster.aws_ecs_capacity_provider.this
        module.cluster.aws_ecs_cluster_capacity_providers.this module.cluster.aws_autoscaling_group.this""",
    "instances": """module.cluster.aws_launch_template.this module.cluster.aws_security_group.this
        module.cluster.aws_vpc_security_group_ingress_rule.load_balancer
        module.cluster.aws_vpc_security_group_egress_rule.https module.cluster.aws_iam_role.instance
        module.cluster.aws_iam_role_policy.ecs_agent module.cluster.aws_iam_role_policy.session_manager
        module.cluster.aws_iam_instance_profile.this""",
    "tasks": """module.service.aws_ecs_service.this module.service.aws_ecs_task_definition.this
        module.service.aws_iam_role.task module.service.aws_iam_role_policy.task
        module.service.aws_iam_role.execution module.service.aws_iam_role_policy.execution""",
    "registry": "module.registry.aws_ecr_repository.this module.registry.aws_ecr_lifecycle_policy.this",
    "log": "module.service.aws_cloudwatch_log_group.this",
    "rollback alarm": "module.service.aws_cloudwatch_metric_alarm.target_5xx",
    "billing alarm": "module.billing_alarm.aws_cloudwatch_metric_alarm.this",
    "topic": "module.billing_alarm.aws_sns_topic.this module.billing_alarm.aws_sns_topic_policy.this",
    "mail": "module.billing_alarm.aws_sns_topic_subscription.email",
}

# Arrows that follow from Terraform's graph: the first resource depends on the second.
ARROWS = [
    ("module.load_balancer.aws_lb.this", "module.network.aws_internet_gateway.this"),
    ("module.service.aws_ecs_service.this", "module.load_balancer.aws_lb_listener.this"),
    ("module.service.aws_ecs_service.this", "module.cluster.aws_autoscaling_group.this"),
    ("module.service.aws_ecs_service.this", "module.service.aws_cloudwatch_metric_alarm.target_5xx"),
    ("module.service.aws_ecs_task_definition.this", "module.service.aws_cloudwatch_log_group.this"),
    ("module.network.aws_vpc_endpoint.s3", "module.network.aws_route_table.public"),
    ("module.billing_alarm.aws_cloudwatch_metric_alarm.this", "module.billing_alarm.aws_sns_topic.this"),
    ("module.billing_alarm.aws_sns_topic_subscription.email", "module.billing_alarm.aws_sns_topic.this"),
]


@dataclass(frozen=True)
class Box:
    x: int
    y: int
    width: int
    height: int


def draw(plan: dict[str, Any], graph: dict[str, set[str]]) -> str:
    """Draw the picture as SVG."""
    known = {address for addresses in DRAWN.values() for address in addresses.split()}
    missing = {address for address in managed(plan) if address.split("[")[0] not in known}
    if missing:
        raise ValueError(f"not on the diagram: {sorted(missing)}")
    loose = [arrow for arrow in ARROWS if arrow[1] not in waits_for(graph, arrow[0])]
    if loose:
        raise ValueError(f"not in the graph: {loose}")
    parts = [
        *_frames(plan),
        *_traffic(plan),
        *_instances(plan),
        *_services(plan),
        *_billing(plan),
        *_legend(len(managed(plan))),
    ]
    return "\n".join([_HEAD, *parts, "</svg>", ""])


_HEAD = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"
  font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" fill="{INK}">
<title>The infrastructure of day02</title>
<defs>
<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0,1 L9,5 L0,9 z" fill="{MUTED}"/></marker>
</defs>
<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="#ffffff"/>"""


def _rect(box: Box, stroke: str, fill: str = "#ffffff", *, dashed: bool = False, radius: int = 10) -> str:
    dash = ' stroke-dasharray="7 5"' if dashed else ""
    return (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="{radius}" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dash}/>'
    )


def _text(
    x: int, y: int, text: str, *, size: int = 13, color: str = INK, bold: bool = False, at: str = "start"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    style = f'font-size="{size}" fill="{color}" text-anchor="{at}"{weight}'
    return f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>'


def _arrow(points: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{MUTED}" stroke-width="1.8" '
        f'stroke-linejoin="round" marker-end="url(#tip)"{dash}/>'
    )


def _label(x: int, y: int, text: str) -> str:
    """A word on an arrow, with a white background so that the line does not cross it."""
    width = round(len(text) * 6.9) + 8
    ground = f'<rect x="{x - width // 2}" y="{y - 11}" width="{width}" height="16" rx="4" fill="#ffffff"/>'
    return ground + _text(x, y + 1, text, size=11, color=MUTED, at="middle")


def _card(box: Box, color: str, badge: str, lines: list[str], *, dashed: bool = False) -> list[str]:
    """A resource: a badge, a name in bold, and its details."""
    middle = box.y + box.height // 2
    first = middle - 9 * (len(lines) - 1) + 4
    return [
        _rect(box, color, dashed=dashed),
        f'<rect x="{box.x + 12}" y="{middle - 19}" width="38" height="38" rx="8" fill="{color}"/>',
        _text(box.x + 31, middle + 4, badge, size=11, color="#ffffff", bold=True, at="middle"),
        *(
            _text(box.x + 62, first + 18 * number, line, size=12 if number else 13,
                  color=MUTED if number else INK, bold=number == 0)
            for number, line in enumerate(lines)
        ),
    ]  # fmt: skip


def _frames(plan: dict[str, Any]) -> list[str]:
    planned = after(plan)
    vpc = planned["module.network.aws_vpc.this"]
    zones = planned['module.network.aws_subnet.public["1"]']["availability_zone"]
    subnets = [planned[f'module.network.aws_subnet.public["{number}"]'] for number in (1, 2)]
    group = planned["module.cluster.aws_autoscaling_group.this"]
    cluster = planned["module.cluster.aws_ecs_cluster.this"]["name"]
    parts = [
        _rect(Box(180, 30, 1076, 690), LINE, "#fafbfc", radius=14),
        _text(200, 56, f"Region {zones[:-1]}", bold=True, color=MUTED),
        _rect(Box(212, 76, 652, 622), NETWORK, "#f7f4fd", radius=12),
        _text(232, 102, f"VPC {vpc['tags']['Name']}", bold=True, color=NETWORK),
        _text(844, 102, vpc["cidr_block"], size=12, color=NETWORK, at="end"),
    ]
    for x, subnet in zip((236, 546), subnets, strict=True):
        parts += [
            _rect(Box(x, 268, 294, 340), NETWORK, "#ffffff"),
            _text(x + 16, 292, subnet["tags"]["Name"], bold=True, color=NETWORK),
            _text(
                x + 16, 310, f"{subnet['cidr_block']}, {subnet['availability_zone']}", size=12, color=MUTED
            ),
        ]
    return [
        *parts,
        _rect(Box(250, 322, 576, 272), COMPUTE, "none", dashed=True),
        _text(270, 342, f"ECS cluster {cluster}", bold=True, color=COMPUTE),
        _text(270, 360, f"{group['name_prefix'].rstrip('-')}, {_range(group)}", size=12, color=MUTED),
    ]


def _range(group: dict[str, Any]) -> str:
    least, most = group["min_size"], group["max_size"]
    return f"{least} instances" if least == most else f"{least} to {most} instances"


def _traffic(plan: dict[str, Any]) -> list[str]:
    """The arrows from a client to the tasks, and from the tasks to the files."""
    planned = after(plan)
    listener = planned["module.load_balancer.aws_lb_listener.this"]
    health = planned["module.load_balancer.aws_lb_target_group.this"]["health_check"][0]
    gateway = planned["module.network.aws_internet_gateway.this"]["tags"]["Name"]
    table = planned["module.network.aws_route_table.public"]["tags"]["Name"]
    route = planned["module.network.aws_route.internet"]["destination_cidr_block"]
    return [
        *_card(Box(20, 150, 120, 62), MUTED, "curl", ["clients"]),
        _arrow("140,181 230,181"),
        *_card(Box(232, 150, 158, 62), NETWORK, "IGW", [gateway]),
        _arrow("390,181 438,181"),
        *_card(
            Box(440, 138, 400, 86),
            NETWORK,
            "ALB",
            [
                planned["module.load_balancer.aws_lb.this"]["name"],
                f"{listener['protocol']} on port {listener['port']}, both zones",
                f"{health['path']} every {health['interval']} s, {health['healthy_threshold']} good answers",
            ],
        ),
        _arrow("475,224 475,372"),
        _arrow("785,224 785,372"),
        *_card(
            Box(236, 624, 340, 58),
            NETWORK,
            "RT",
            [table, f"{route} to {gateway}, S3 to its endpoint"],
        ),
        *_card(Box(626, 624, 214, 58), NETWORK, "VPCE", ["S3 endpoint", "gateway, free of charge"]),
        _arrow("733,594 733,622"),
        _arrow("840,653 918,653"),
    ]


def _instances(plan: dict[str, Any]) -> list[str]:
    planned = after(plan)
    security_group = planned["module.cluster.aws_security_group.this"]["tags"]["Name"]
    template = planned["module.cluster.aws_launch_template.this"]
    container = json.loads(planned["module.service.aws_ecs_task_definition.this"]["container_definitions"])[0]
    port = container["portMappings"][0]["containerPort"]
    memory = f"{container['memoryReservation']} MiB, at most {container['memory']}"
    role = planned["module.service.aws_iam_role.task"]["name"]
    parts = []
    for x in (270, 580):
        parts += [
            *_card(Box(x, 374, 226, 206), COMPUTE, "", []),
            _rect(Box(x + 1, 375, 224, 204), "#ffffff", "#fdf6f0"),
            f'<rect x="{x + 12}" y="386" width="38" height="38" rx="8" fill="{COMPUTE}"/>',
            _text(x + 31, 409, "EC2", size=11, color="#ffffff", bold=True, at="middle"),
            _text(x + 62, 401, template["instance_type"], bold=True),
            _text(
                x + 62,
                419,
                security_group,
                size=12,
                color=MUTED,
            ),
            _rect(Box(x + 12, 438, 202, 130), COMPUTE),
            _text(x + 28, 462, "task: gunicorn, Flask", bold=True),
            _text(x + 28, 483, f"port {port} on a free host port", size=12, color=MUTED),
            _text(x + 28, 503, memory, size=12, color=MUTED),
            _text(x + 28, 523, "read-only, no capability", size=12, color=MUTED),
            _text(x + 28, 550, f"role {role}", size=12, bold=True, color=SECRET),
        ]
    return parts


def _services(plan: dict[str, Any]) -> list[str]:
    planned = after(plan)
    container = json.loads(planned["module.service.aws_ecs_task_definition.this"]["container_definitions"])[0]
    bucket = next(setting["value"] for setting in container["environment"] if setting["name"] == "BUCKET")
    secret = container["secrets"][0]["valueFrom"].split(":parameter")[1]
    alarm = planned["module.service.aws_cloudwatch_metric_alarm.target_5xx"]
    log = planned["module.service.aws_cloudwatch_log_group.this"]
    x, width = 920, 316
    return [
        *_card(Box(x, 144, width, 74), WATCH, "CW", [alarm["alarm_name"], "errors roll a deployment back"]),
        _arrow("840,181 918,181"),
        *_card(
            Box(x, 300, width, 74),
            COMPUTE,
            "ECR",
            [planned["module.registry.aws_ecr_repository.this"]["name"], "immutable tags, scanned on push"],
        ),
        _arrow("920,337 880,337 880,401 808,401"),
        *_card(Box(x, 394, width, 74), SECRET, "SSM", [secret, "read by ECS as a task starts"], dashed=True),
        _arrow("920,431 892,431 892,471 796,471"),
        *_card(
            Box(x, 488, width, 74),
            WATCH,
            "LOG",
            [log["name"], f"JSON lines, kept {log['retention_in_days']} days"],
        ),
        _arrow("794,525 918,525"),
        *_card(Box(x, 616, width, 74), STORAGE, "S3", [bucket, "the files"], dashed=True),
        _label(892, 642, "files"),
        _label(159, 170, "HTTP"),
    ]


def _billing(plan: dict[str, Any]) -> list[str]:
    planned = after(plan)
    alarm = planned["module.billing_alarm.aws_cloudwatch_metric_alarm.this"]
    topic = planned["module.billing_alarm.aws_sns_topic.this"]["name"]
    return [
        _rect(Box(180, 740, 1076, 118), LINE, "#fafbfc", radius=14),
        _text(200, 766, "Region us-east-1, where AWS measures charges", bold=True, color=MUTED),
        *_card(
            Box(212, 780, 330, 62),
            WATCH,
            "CW",
            [
                alarm["alarm_name"],
                f"{alarm['metric_name']} >= {alarm['threshold']:g} {alarm['dimensions']['Currency']}",
            ],
        ),
        _arrow("542,811 618,811"),
        *_card(Box(620, 780, 244, 62), WATCH, "SNS", [topic]),
        _arrow("864,811 918,811"),
        *_card(Box(920, 780, 316, 62), MUTED, "mail", ["the owner's address"]),
    ]


def _legend(count: int) -> list[str]:
    return [
        _text(200, 884, f"{count} resources, drawn from the Terraform plan of day02.", size=12, color=MUTED),
        _rect(Box(930, 873, 26, 14), MUTED, dashed=True, radius=3),
        _text(964, 884, "made outside Terraform, never changed by it", size=12, color=MUTED),
    ]
