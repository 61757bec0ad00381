"""Metrics for CloudWatch, as lines of the log in its embedded metric format.

CloudWatch Logs makes metrics of such a line by itself, so a task needs no port, agent or permission for them
(docs/decisions/0041-metrics-in-the-log.md). Each worker writes a line with what happened since its last one.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from s3api.json_text import to_json

NAMESPACE = "s3api"
SLOW_SECONDS = "5.0"  # one of the histogram's buckets
#: The metrics and their units. An AWS account has ten metrics of its own for free, and these are ten.
UNITS = {
    "Requests": "Count",
    "ClientErrors": "Count",
    "ServerErrors": "Count",
    "RequestSeconds": "Seconds",
    "SlowRequests": "Count",
    "SlowClients": "Count",
    "RequestsWaiting": "Count",
    "ConcurrencyUse": "Percent",
    "StagingUse": "Percent",
    "MemoryUse": "Percent",
}


class Lines:
    """The lines of one worker. `measure` updates the gauges of `registry` that are not counted."""

    def __init__(self, project: str, registry: CollectorRegistry, measure: Callable[[], None]) -> None:
        self._project = project
        self._registry = registry
        self._measure = measure
        # A worker that replaces another one continues its counters.
        self._last, _, _ = self._read()

    def next(self, now: float) -> bytes:
        """The line for the time since the last call, with its line break. `now` is in seconds since 1970."""
        self._measure()
        counts, codes, gauges = self._read()
        since = {name: value - self._last.get(name, 0) for name, value in counts.items()}
        errors = {code: round(value) for code in codes if (value := since.pop(f"code {code}", 0)) > 0}
        self._last = counts
        values = {
            **dict.fromkeys(UNITS, 0.0),
            **{name: round(value, 3) for name, value in since.items()},
            "RequestsWaiting": gauges["s3api_requests_waiting"],
            "ConcurrencyUse": _percent(gauges, "s3api_requests_in_flight", "s3api_concurrency_limit"),
            "StagingUse": _percent(gauges, "s3api_staging_bytes", "s3api_staging_limit_bytes"),
            "MemoryUse": _percent(gauges, "s3api_memory_bytes", "s3api_memory_limit_bytes"),
        }
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["project"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit in UNITS.items()],
        }
        head = {"Timestamp": round(now * 1000), "CloudWatchMetrics": [directive]}
        fields = {"_aws": head, "event": "metrics", "level": "info", "project": self._project}
        return to_json({**fields, **values, "errors": errors}) + b"\n"

    def _read(self) -> tuple[dict[str, float], list[str], dict[str, float]]:
        """What is counted, by the names in the line; the codes of errors; the gauges, by their own names."""
        counts: defaultdict[str, float] = defaultdict(float)
        codes: set[str] = set()
        gauges: dict[str, float] = {}
        samples = (sample for metric in self._registry.collect() for sample in metric.samples)
        for sample in samples:
            match sample.name:
                case "s3api_requests_total":
                    status = int(sample.labels["status"])
                    counts["Requests"] += sample.value
                    if status >= 400:
                        counts["ServerErrors" if status >= 500 else "ClientErrors"] += sample.value
                case "s3api_request_seconds_sum":
                    counts["RequestSeconds"] += sample.value
                case "s3api_request_seconds_count":
                    counts["SlowRequests"] += sample.value
                case "s3api_request_seconds_bucket" if sample.labels["le"] == SLOW_SECONDS:
                    counts["SlowRequests"] -= sample.value
                case "s3api_slow_clients_total":
                    counts["SlowClients"] += sample.value
                case "s3api_errors_total":
                    codes.add(sample.labels["code"])
                    counts[f"code {sample.labels['code']}"] += sample.value
                case _ if not sample.labels:
                    gauges[sample.name] = sample.value
        return counts, sorted(codes), gauges


def _percent(gauges: dict[str, float], used: str, limit: str) -> float:
    return round(100 * gauges[used] / gauges[limit], 1) if gauges[limit] else 0.0
