"""Corrections of ELB."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from emulator.balancer import Balancer
from emulator.corrections.replacing import replace


def report_target_health(balancer: Balancer) -> None:
    """Report the health that the balancer has found. MiniStack reports every target as healthy."""
    from ministack.services import alb

    def describe(params: Any) -> Any:
        arn = alb._p(params, "TargetGroupArn")
        if arn not in alb._tgs:
            return alb._error("TargetGroupNotFound", f"Target group '{arn}' not found.")
        wanted = {target["Id"] for target in alb._parse_targets_param(params)}
        members = []
        for target in alb._targets.get(arn, ()):
            if wanted and target["Id"] not in wanted:
                continue
            health = balancer.health(arn, target["Id"])
            code = {"initial": "Elb.InitialHealthChecking", "unhealthy": "Target.ResponseCodeMismatch"}
            why = ""
            if health.state != "healthy":
                why = (
                    f"<Reason>{code[health.state]}</Reason><Description>{escape(health.reason)}</Description>"
                )
            members.append(
                f"<member><Target><Id>{target['Id']}</Id><Port>{target['Port']}</Port></Target>"
                f"<TargetHealth><State>{health.state}</State>{why}</TargetHealth></member>"
            )
        inner = f"<TargetHealthDescriptions>{''.join(members)}</TargetHealthDescriptions>"
        return alb._xml(200, "DescribeTargetHealth", inner)

    replace(alb, "_describe_target_health", describe)
