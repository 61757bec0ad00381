"""Corrections of ELB."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

from emulator.balancer import Balancer, Health
from emulator.corrections.replacing import replace

_REASONS = {
    "initial": "Elb.InitialHealthChecking",
    "unhealthy": "Target.ResponseCodeMismatch",
    "draining": "Target.DeregistrationInProgress",
    "unused": "Target.NotRegistered",
}


def report_target_health(balancer: Balancer) -> None:
    """Report the health that the balancer has found, and the targets that drain.

    MiniStack reports every target as healthy, and forgets a target that was deregistered. Source:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
    """
    from ministack.services import alb

    def describe(params: Any) -> Any:
        arn = alb._p(params, "TargetGroupArn")
        if arn not in alb._tgs:
            return alb._error("TargetGroupNotFound", f"Target group '{arn}' not found.")
        port = alb._tgs[arn].get("Port", 80)
        known = {target["Id"]: target.get("Port", port) for target in alb._targets.get(arn, ())}
        found = {identity: balancer.health(arn, identity) for identity in known}
        for identity, draining_port in balancer.draining(arn):
            known.setdefault(identity, draining_port)
            found.setdefault(identity, Health("draining", "Target deregistration is in progress"))
        wanted = {target["Id"]: target.get("Port", port) for target in alb._parse_targets_param(params)}
        members = []
        for identity in wanted or known:
            health = found.get(identity, Health("unused", "Target is not registered to the target group"))
            why = ""
            if health.state != "healthy":
                why = (
                    f"<Reason>{_REASONS[health.state]}</Reason>"
                    f"<Description>{escape(health.reason)}</Description>"
                )
            members.append(
                f"<member><Target><Id>{escape(identity)}</Id>"
                f"<Port>{known.get(identity, wanted.get(identity))}</Port></Target>"
                f"<TargetHealth><State>{health.state}</State>{why}</TargetHealth></member>"
            )
        inner = f"<TargetHealthDescriptions>{''.join(members)}</TargetHealthDescriptions>"
        return alb._xml(200, "DescribeTargetHealth", inner)

    replace(alb, "_describe_target_health", describe)


def miss_target_groups_by_name() -> None:
    """Answer TargetGroupNotFound for a name that no target group has, as AWS does.

    MiniStack answers an empty list. Source: "Errors" of DescribeTargetGroups in the ELB API reference.
    """
    from ministack.services import alb

    describe = alb._describe_tgs

    def find(params: Any) -> Any:
        known = {group["TargetGroupName"] for group in alb._tgs.values()}
        if missing := set(alb._parse_member_list(params, "Names")) - known:
            return alb._error("TargetGroupNotFound", f"Target groups '{sorted(missing)}' not found", 400)
        return describe(params)

    replace(alb, "_describe_tgs", find)


def check_access_logs() -> None:
    """Write a test file into the bucket for access logs once they are on. Refuse a bucket that forbids it.

    MiniStack accepts any bucket. It sends no access logs, and neither does this emulated AWS. Sources:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
    """
    from ministack.core.responses import get_account_id
    from ministack.services import alb, s3

    modify = alb._modify_lb_attrs

    def tested(params: Any) -> Any:
        given = {}
        number = 1
        while key := alb._p(params, f"Attributes.member.{number}.Key"):
            given[key] = alb._p(params, f"Attributes.member.{number}.Value")
            number += 1
        if given.get("access_logs.s3.enabled") == "true":
            bucket, prefix = given["access_logs.s3.bucket"], given.get("access_logs.s3.prefix", "")
            folder = "/".join(filter(None, (prefix, "AWSLogs", get_account_id())))
            if not _may_deliver(s3._bucket_policies.get(bucket), f"arn:aws:s3:::{bucket}/{folder}/"):
                message = f"Access Denied for bucket: {bucket}. Please check S3bucket permission"
                return alb._error("InvalidConfigurationRequest", message, 400)
            s3._put_object(bucket, f"{folder}/ELBAccessLogTestFile", b"Enable AccessLog", {})
        return modify(params)

    replace(alb, "_modify_lb_attrs", tested)


def _may_deliver(policy: str | None, folder: str) -> bool:
    """Whether the policy of a bucket lets the service that delivers access logs write into the folder."""
    return any(
        statement["Effect"] == "Allow"
        and statement["Action"] == "s3:PutObject"
        and statement["Principal"] == {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"}
        and statement["Resource"] == f"{folder}*"
        for statement in json.loads(policy or '{"Statement": []}')["Statement"]
    )
