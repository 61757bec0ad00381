"""Corrections of CloudWatch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from emulator.corrections.replacing import replace


def return_whole_alarms() -> None:
    """Return every field of an alarm. DescribeAlarms over the Query protocol leaves out a third of them."""
    from ministack.services import cloudwatch

    describe = cloudwatch._describe_alarms
    plain = ("Period", "Statistic", "ExtendedStatistic", "TreatMissingData", "Unit", "AlarmDescription")

    def missing(alarm: Mapping[str, Any]) -> str:
        parts = [f"<{key}>{escape(str(alarm[key]))}</{key}>" for key in plain if alarm.get(key)]
        parts.append(f"<ActionsEnabled>{str(alarm.get('ActionsEnabled', True)).lower()}</ActionsEnabled>")
        for key in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            members = "".join(f"<member>{escape(arn)}</member>" for arn in alarm.get(key) or ())
            parts.append(f"<{key}>{members}</{key}>")
        dimensions = "".join(
            f"<member><Name>{escape(d['Name'])}</Name><Value>{escape(d['Value'])}</Value></member>"
            for d in alarm.get("Dimensions") or ()
        )
        return "".join(parts) + f"<Dimensions>{dimensions}</Dimensions>"

    def describe_whole(params: Any, cbor: Any, is_cbor: bool, is_json: bool = False) -> Any:
        status, headers, body = describe(params, cbor, is_cbor, is_json)
        if is_cbor or is_json:
            return status, headers, body

        def filled(match: re.Match[str]) -> str:
            alarm = cloudwatch._alarms.get(match.group(1))
            return match.group(0) + (missing(alarm) if alarm else "")

        text = re.sub(
            r"<AlarmName>([^<]*)</AlarmName>", filled, body.decode() if isinstance(body, bytes) else body
        )
        kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        return status, kept, text.encode()

    replace(cloudwatch, "_describe_alarms", describe_whole)
