"""Corrections of CloudWatch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from emulator.corrections.replacing import replace


def keep_alarms_as_sent() -> None:
    """Keep the metric queries of an alarm, and no statistic or period that the request does not have.

    MiniStack drops the queries, and adds `Average` and a minute to an alarm that has a percentile or queries.
    """
    from ministack.services import cloudwatch

    put = cloudwatch._put_metric_alarm

    def as_sent(params: Any, cbor: Any, is_cbor: bool, is_json: bool = False) -> Any:
        answer = put(params, cbor, is_cbor, is_json)
        named = is_cbor or is_json
        alarm = cloudwatch._alarms.get(cbor["AlarmName"] if named else cloudwatch._p(params, "AlarmName"))
        if alarm is None or answer[0] >= 300:
            return answer
        for key in ("Statistic", "Period"):
            if not (cbor.get(key) if named else cloudwatch._p(params, key)):
                alarm.pop(key, None)
        alarm["Metrics"] = cbor.get("Metrics", []) if named else _nested(params, "Metrics")
        return answer

    replace(cloudwatch, "_put_metric_alarm", as_sent)


def _nested(params: Mapping[str, Any], name: str) -> list[Any]:
    """A list from the parameters of the Query protocol, such as `Metrics.member.1.MetricStat.Stat`."""
    found: dict[str, Any] = {}
    for parameter, value in params.items():
        path = parameter.split(".")
        if path[0] != name:
            continue
        place = found
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value[0] if isinstance(value, list) else value
    listed: list[Any] = _lists(found.get(name, {"member": {}}))
    return listed


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"member"}:
        return [_lists(value["member"][number]) for number in sorted(value["member"], key=int)]
    return {name: _lists(entry) for name, entry in value.items()}


def _xml(value: Any) -> str:
    """The elements of a value in an answer of the Query protocol."""
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(entry)}</{name}>" for name, entry in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_xml(entry)}</member>" for entry in value)
    return escape(str(value).lower() if isinstance(value, bool) else str(value))


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
        parts.append(f"<Dimensions>{dimensions}</Dimensions>")
        return "".join(parts) + (
            f"<Metrics>{_xml(alarm['Metrics'])}</Metrics>" if alarm.get("Metrics") else ""
        )

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
