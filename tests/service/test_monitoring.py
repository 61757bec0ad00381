"""The metrics of limits and errors, CloudWatch's lines, and the alert rules and dashboard that use them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import requests
import yaml  # type: ignore[import-untyped]
from flask.testing import FlaskClient

from s3api import metrics
from s3api.cloudwatch import UNITS, Lines
from s3api.observability import _series, registry
from s3api.staging import Staging
from s3api.worker import slow_clients
from support.raw_client import RawClient
from support.servers import ROOT, S3, Service, need, until
from support.stores import settings_for

MONITORING = ROOT / "docs" / "monitoring"
ALERTS = MONITORING / "alerts.yaml"
DASHBOARD = MONITORING / "dashboard.json"
#: What Prometheus adds to every sample.
OF_PROMETHEUS = {"job", "instance"}
assert slow_clients  # registers the metric of the worker


def value(service: Service, sample: str) -> float | None:
    """The value of a sample, with its labels as they are printed; None if there is none."""
    text = requests.get(service.metrics_url, timeout=10).text
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


@pytest.fixture(scope="module")
def narrow(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    """A service with one request at a time in one worker."""
    bucket = ministack_s3.make_bucket("day02-narrow")
    return make_service(ministack_s3, bucket, max_concurrent_requests=1, staging_max_bytes=64 * 1024 * 1024)


def test_errors_have_a_code_and_latency_a_status(narrow: Service) -> None:
    """The code is that of the answer; the label is a route, never a name."""
    requests.get(narrow.at("/download/", "nowhere.txt"), timeout=10)
    route = 'route="/download/<name:name>"'

    until(
        lambda: value(narrow, f's3api_errors_total{{code="file_not_found",{route}}}') == 1,
        "the error is counted",
    )
    assert value(narrow, f's3api_request_seconds_count{{method="GET",{route},status="404"}}') == 1


def test_requests_that_wait_and_their_limit(narrow: Service) -> None:
    """A second request waits for the first, which is in progress; then none waits."""
    with RawClient(narrow.url) as slow:
        slow.begin("PUT", "/upload/slow", Content_Length="5")
        until(lambda: value(narrow, "s3api_requests_in_flight") == 1, "a request is in progress")
        second = threading.Thread(target=requests.get, args=[narrow.url], kwargs={"timeout": 30})
        second.start()
        until(lambda: value(narrow, "s3api_requests_waiting") == 1, "a request waits")
        limit = value(narrow, "s3api_concurrency_limit")
        slow.send(b"12345")
        second.join()

    assert limit == 1
    assert value(narrow, "s3api_requests_waiting") == 0


def test_the_staging_directory_and_the_memory(narrow: Service) -> None:
    """What a form has reserved is counted while it arrives, and memory is what the system says."""
    start = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"a" * 3 * 1024 * 1024
    )
    with RawClient(narrow.url) as slow:
        slow.begin(
            "POST",
            "/upload",
            Content_Type="multipart/form-data; boundary=x",
            Content_Length=str(len(start) + 100),
        )
        slow.send(start)
        until(lambda: (value(narrow, "s3api_staging_bytes") or 0) >= 2 * 1024 * 1024, "the form has reserved")
        slow.vanish()
    until(lambda: value(narrow, "s3api_staging_bytes") == 0, "nothing is reserved any more")

    assert value(narrow, "s3api_staging_limit_bytes") == 64 * 1024 * 1024
    assert (value(narrow, "s3api_memory_bytes") or 0) > 20_000_000


def test_workers_share_the_metrics(ministack_s3: S3, make_service: Callable[..., Service]) -> None:
    """The limit is that of all workers, and what they share is not counted twice."""
    bucket = ministack_s3.make_bucket("day02-two-workers")
    service = make_service(ministack_s3, bucket, web_concurrency=2, max_concurrent_requests=5)
    until(lambda: value(service, "s3api_concurrency_limit") == 10, "both workers count")
    for _ in range(5):
        assert value(service, "s3api_staging_limit_bytes") == 2 * 1024**3
    assert 40_000_000 < (value(service, "s3api_memory_bytes") or 0) < 2_000_000_000


def test_the_memory_of_a_container(tmp_path: Path) -> None:
    """The page cache that the kernel drops first does not count (cgroup v2); "max" is no limit."""
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1500\ninactive_file 1000\nactive_file 500\n")
    (tmp_path / "memory.max").write_text("4096\n")
    limited = metrics.memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")

    assert limited == (2000, 4096)
    assert metrics.memory(tmp_path) == (2000, 0)
    assert metrics.memory(tmp_path / "no cgroup", tmp_path / "no processes") == (0, 0)


def test_a_staging_directory_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    """It is made by the first form."""
    assert Staging(tmp_path / "uploads", 1, 1).used_bytes() == 0


# --- CloudWatch


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    metrics.concurrency_limit.set(64)
    staging = Staging(tmp_path / "uploads", 1000, 1000)
    yield Lines("day02", registry, lambda: metrics.measure(staging))
    metrics.concurrency_limit.set(0)


def is_embedded_metric_format(line: dict[str, Any]) -> bool:
    """The rules of the specification that such a line can break.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    (dimensions,) = directive["Dimensions"]
    names = [metric["Name"] for metric in directive["Metrics"]]
    return (
        isinstance(line["_aws"]["Timestamp"], int)
        and 1 <= len(directive["Namespace"]) <= 256
        and all(isinstance(line[name], str) for name in dimensions)
        and 0 < len(names) == len(set(names)) <= 100
        and all(isinstance(line[name], (int, float)) for name in names)
        and all(metric["Unit"] in ("Count", "Seconds", "Percent") for metric in directive["Metrics"])
    )


def test_a_line_has_what_happened_since_the_last(
    lines: Lines, make_client: Callable[..., FlaskClient]
) -> None:
    """Sums over lines are right, so each request is in exactly one line; codes are no metrics."""
    client = make_client()
    client.get("/").close()
    client.get("/download/nowhere").close()
    first = json.loads(lines.next(1_800_000_000.5))
    client.get("/").close()
    second = json.loads(lines.next(1_800_000_060.5))

    assert is_embedded_metric_format(first)
    assert first["_aws"]["Timestamp"] == 1_800_000_000_500
    assert (first["project"], first["event"]) == ("day02", "metrics")
    assert (first["Requests"], first["ClientErrors"], first["ServerErrors"]) == (2, 1, 0)
    assert first["errors"] == {"file_not_found": 1}
    assert first["RequestSeconds"] >= 0
    assert (second["Requests"], second["ClientErrors"], second["errors"]) == (1, 0, {})
    assert len(UNITS) == 10  # what is free of charge


def test_a_quiet_minute_is_a_line_of_zeros(lines: Lines) -> None:
    """Then an alarm can tell a service without requests from one that does not run."""
    line = json.loads(lines.next(time.time()))

    assert is_embedded_metric_format(line)
    # The process has memory, and answers of other tests in it that were never closed count as in progress.
    assert {line[name] for name in UNITS if name not in {"MemoryUse", "ConcurrencyUse"}} == {0}


def test_slow_requests_are_those_above_a_bucket(lines: Lines) -> None:
    """The limit is a bound of the histogram's buckets, so the count is exact."""
    took = _series("GET", "/slow", "200")[1]
    for seconds in (0.1, 4.9, 5.1, 400):
        took.observe(seconds)

    assert json.loads(lines.next(time.time()))["SlowRequests"] == 2


def test_the_status_divides_errors_between_client_and_server(lines: Lines) -> None:
    """RFC 9110, section 15: 400 to 499 are errors of the client, 500 and above are errors of the server."""
    for status in ("399", "400", "499", "500", "599"):
        _series("GET", "/divided", status)[0].inc()
    line = json.loads(lines.next(time.time()))

    assert (line["Requests"], line["ClientErrors"], line["ServerErrors"]) == (5, 2, 2)


def test_the_log_has_the_metrics(ministack_s3: S3, make_service: Callable[..., Service]) -> None:
    """A worker writes them as one line each, on their own; METRICS_LOG_SECONDS is how often."""
    service = make_service(ministack_s3, ministack_s3.make_bucket("day02-emf"), metrics_log_seconds=1)
    for _ in range(3):
        requests.get(service.at("/download/", "nowhere"), timeout=10)

    def written() -> list[dict[str, Any]]:
        return [line for line in service.log_lines() if line["event"] == "metrics"]

    until(lambda: sum(line["ClientErrors"] for line in written()) == 3, "the requests are in the log")
    assert all(is_embedded_metric_format(line) for line in written())
    assert sum(line["errors"].get("file_not_found", 0) for line in written()) == 3
    assert all(line["StagingUse"] == 0 for line in written())


@pytest.mark.parametrize(
    ("given", "in_ecs", "seconds"), [(None, False, 0), (None, True, 60), (0, True, 0), (30, False, 30)]
)
def test_a_task_of_ecs_writes_them_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int | None, in_ecs: bool, seconds: int
) -> None:
    """ECS sets the variable of the task metadata endpoint, version 4, in every container."""
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4", raising=False)
    if in_ecs:
        monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x")

    assert settings_for(tmp_path, metrics_log_seconds=given).seconds_between_metrics == seconds


# --- alert rules and the dashboard


def rules() -> dict[str, str]:
    document = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return {rule["alert"]: rule["expr"] for group in document["groups"] for rule in group["rules"]}


def panels() -> dict[str, str]:
    """The expressions of the dashboard, with the variables of Grafana replaced by what they could be."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$__rate_interval", "5m")
        .replace("$job", "s3api")
        for panel in document["panels"]
        for target in panel["targets"]
    }


EXPRESSIONS = {**rules(), **panels()}


def known() -> dict[str, set[str]]:
    """The samples of the service by their names, with their labels."""
    samples: dict[str, set[str]] = {"up": set()}
    for collector in list(registry._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        for metric in collector.collect():
            match metric.type:
                case "counter":
                    samples[f"{metric.name}_total"] = labels
                case "histogram":
                    samples |= {f"{metric.name}_{end}": labels for end in ("sum", "count")}
                    samples[f"{metric.name}_bucket"] = {*labels, "le"}
                case _:
                    samples[metric.name] = labels
    return samples


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_uses_metrics_that_exist(name: str) -> None:
    """Each parses as PromQL, and each metric and label in it is one of the service."""
    promql_parser.parse(EXPRESSIONS[name])
    used = re.findall(r"\b(s3api_\w+|up)\b(?:\{([^}]*)\})?", EXPRESSIONS[name])
    available = known()

    assert used
    for metric, matchers in used:
        assert metric in available, metric
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= available[metric] | OF_PROMETHEUS, metric


def test_the_dashboard_shows_every_metric() -> None:
    """Each panel has its own place, and together they use each metric of the runbook's table."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in document["panels"]]
    shown = " ".join(panels().values())

    assert len(set(places)) == len(places)
    assert [name for name in known() if name.endswith(("_total", "_bucket")) and name not in shown] == []


def test_promtool_accepts_the_rules_and_they_alert(tmp_path: Path) -> None:
    """Each rule alerts when it must, and not in a service that is well; so says Prometheus itself."""
    promtool = shutil.which("promtool")
    need(promtool, "promtool is not installed; it is in the Debian package prometheus")
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)
    shown = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(panels().values())]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": shown}]}))
    for command in (["check", "rules", "alerts.yaml", "panels.yaml"], ["test", "rules", "alerts_test.yaml"]):
        ended = subprocess.run(
            [str(promtool), *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_rule_has_a_test_in_both_directions() -> None:
    """The unit tests of promtool have each alert once firing, and once not."""
    document = yaml.safe_load(Path(__file__).with_name("alerts_test.yaml").read_text(encoding="utf-8"))
    firing, well = (
        {test["alertname"]: bool(test["exp_alerts"]) for test in one["alert_rule_test"]}
        for one in document["tests"]
    )

    assert firing == dict.fromkeys(rules(), True)
    assert well == dict.fromkeys(rules(), False)
