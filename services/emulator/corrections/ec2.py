"""Corrections of EC2."""

from __future__ import annotations

from collections.abc import Mapping
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
