"""Corrections of EC2."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from emulator.corrections.replacing import replace


def keep_endpoint_policies() -> None:
    """Keep the policy of a VPC endpoint and return it. MiniStack does neither."""
    from ministack.services import ec2

    create, fields = ec2._create_vpc_endpoint, ec2._vpce_fields_xml

    def keeping(p: Any) -> Any:
        before = set(ec2._vpc_endpoints)
        answer = create(p)
        for identity in set(ec2._vpc_endpoints) - before:
            if policy := ec2._p(p, "PolicyDocument"):
                ec2._vpc_endpoints[identity]["PolicyDocument"] = policy
        return answer

    def with_policy(endpoint: Mapping[str, Any], tag: str = "item") -> str:
        xml = str(fields(endpoint, tag=tag))
        policy = endpoint.get("PolicyDocument")
        element = f"<policyDocument>{escape(policy)}</policyDocument>" if policy else ""
        return xml.removesuffix(f"</{tag}>") + element + f"</{tag}>"

    replace(ec2, "_create_vpc_endpoint", keeping)
    replace(ec2, "_vpce_fields_xml", with_policy)


def keep_flow_logs_whole() -> None:
    """Keep the role, the interval and the tags of a flow log and return them. MiniStack forgets all three.

    Without an interval in the request, it is ten minutes. Source: CreateFlowLogs in the EC2 API reference.
    """
    from ministack.services import ec2

    create, describe = ec2._create_flow_logs, ec2._describe_flow_logs

    def keeping(p: Any) -> Any:
        before = set(ec2._flow_logs)
        answer = create(p)
        for identity in set(ec2._flow_logs) - before:
            ec2._flow_logs[identity] |= {
                "DeliverLogsPermissionArn": ec2._p(p, "DeliverLogsPermissionArn"),
                "MaxAggregationInterval": ec2._p(p, "MaxAggregationInterval") or "600",
            }
            # MiniStack looks for tags of another resource type than the API has.
            ec2._parse_tag_specs(p, "vpc-flow-log", identity)
        return answer

    def whole(p: Any) -> Any:
        status, headers, body = describe(p)

        def filled(match: re.Match[str]) -> str:
            log = ec2._flow_logs[match.group(1)]
            role = log.get("DeliverLogsPermissionArn")
            element = f"<deliverLogsPermissionArn>{escape(role)}</deliverLogsPermissionArn>" if role else ""
            interval = log.get("MaxAggregationInterval", "600")
            return f"{match.group(0)}{element}<maxAggregationInterval>{interval}</maxAggregationInterval>"

        text = body.decode() if isinstance(body, bytes) else body
        text = re.sub(r"<flowLogId>([^<]*)</flowLogId>", filled, text)
        kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        return status, kept, text.encode()

    replace(ec2, "_create_flow_logs", keeping)
    replace(ec2, "_describe_flow_logs", whole)


def honour_client_tokens() -> None:
    """Return the first answer again when a call repeats a client token. MiniStack carries it out again.

    An SDK repeats a call when it gets no answer. A repeated create then fails with "already exists". A
    repeated token with other parameters is refused. Source: "Ensuring idempotency in Amazon
    EC2 API requests" in the EC2 developer guide.
    """
    from ministack.core.responses import get_account_id, get_region
    from ministack.services import ec2

    answered: dict[tuple[str, str, str, str], tuple[Any, Any]] = {}

    def once(action: str, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def outer(p: Any) -> Any:
            token = ec2._p(p, "ClientToken")
            if not token:
                return handler(p)
            key = (get_account_id(), get_region(), action, token)
            if key not in answered:
                answer = handler(p)
                if answer[0] != HTTPStatus.OK:
                    return answer
                answered[key] = (dict(p), answer)
            sent, answer = answered[key]
            if sent != p:
                return ec2._error("IdempotentParameterMismatch", "Other parameters than before.", 400)
            return answer

        return outer

    for action, handler in ec2._ACTION_MAP.items():
        if not action.startswith("Describe"):
            ec2._ACTION_MAP[action] = once(action, handler)
