"""The harness of `make bench`: it runs, wrong answers end it, and what it writes holds. Nothing is timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import opponents, report
from bench.__main__ import DOCS, measure
from bench.client import Client, Content, WrongAnswer, load, request_bytes
from bench.report import Figures, Result, Results
from bench.stage import OURS, TINY, Bar, Metric, Stage
from support.servers import S3, Service, need, running_seaweedfs


@pytest.fixture(scope="module")
def own_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server of its own: what is done to its insides is no other test's business."""
    with running_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as s3:
        yield s3


@pytest.mark.parametrize("number", ["1a", "3", "4", "6a", "9"])
def test_a_work_is_measured(own_s3: S3, tmp_path: Path, number: str) -> None:
    """Every contestant has done the work right, and has a figure for each round; nothing is left behind."""
    need(not opponents.missing("flask"), "The opponents are not installed: `make test` does it")

    result = measure(own_s3, tmp_path, TINY, number)

    assert result.failed is None
    assert all(result.met(bar) is not None for bar in result.bars if bar.against not in result.absent)
    assert all(len(values) == TINY.rounds for one in result.contestants for values in one.rounds.values())
    assert list(tmp_path.iterdir()) == []
    assert f"day02-bench-{number}" not in {
        bucket["Name"] for bucket in own_s3.client().list_buckets()["Buckets"]
    }


def test_a_wrong_answer_is_no_figure(ministack_service: Service) -> None:
    """An answer other than the one that is measured ends the measurement."""
    asked = [request_bytes("GET", f"{ministack_service.url}/download/nobody-put-this")]

    with pytest.raises(WrongAnswer, match="404"):
        load(ministack_service.url, asked, connections=2, seconds=1)


def test_a_stored_file_is_compared(own_s3: S3, tmp_path: Path) -> None:
    """An object whose bytes are not those that were sent is found out."""
    with Stage(own_s3, tmp_path / "stage", TINY, "compared") as stage:
        content = stage.content(TINY.file)
        stage.store("good", content)
        stage.store("short", Content(content.path, content.size - 1))

        stage.expect_stored("good", content)

        with pytest.raises(WrongAnswer, match="short"):
            stage.expect_stored("short", content)


def test_a_failure_is_told(own_s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A work that fails has no figures but its reason, and leaves nothing behind."""

    def lost(*_: object) -> None:
        raise WrongAnswer("the file got lost")

    monkeypatch.setattr(Stage, "expect_stored", lost)

    result = measure(own_s3, tmp_path, TINY, "6a")

    assert result.failed == "WrongAnswer: the file got lost"
    assert result.contestants == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tool_keeps_only_its_opponents_out(
    own_s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Node and the opponents the service is measured all the same, and the page says so."""
    monkeypatch.setattr(opponents, "NODE_MODULES", tmp_path / "none")
    monkeypatch.setattr(opponents, "OPPONENTS", tmp_path / "none")

    result = measure(own_s3, tmp_path, TINY, "1a")

    assert result.failed is None
    assert set(result.absent) == {"Uppy Companion", "Flask with boto3"}
    assert [one.name for one in result.contestants] == [OURS, "bare Flask route"]
    assert "Not measured: Uppy Companion" in report.figures(results_of(result))


def results_of(*works: Result) -> Results:
    about = {"date": "2026-11-24", "commit": "abc", "machine": "a machine"}
    return Results(about=about, quick=False, works=list(works))


def a_result(ours: list[float], limit: list[float]) -> Result:
    figures = [Figures(name=OURS, role="ours", rounds={"rate": ours, "cpu": [0.5] * len(ours)})]
    figures.append(Figures(name="limit", role="limit", rounds={"rate": limit}))
    metrics = [Metric("rate", "rate", "requests/s", 0), Metric("cpu", "server's CPU", "ms/request", 2)]
    return Result(
        number="2",
        name="/download",
        title="/download",
        metrics=metrics,
        contestants=figures,
        bars=[Bar("rate", "limit", at_least=0.7), Bar("cpu", at_most=0.4), Bar("rate", "peer", at_least=2)],
    )


def test_a_bar_is_judged_by_the_median_of_paired_ratios() -> None:
    """A round that was slow for both does not count against anyone; what was not measured is not judged."""
    result = a_result([80, 40, 60], [100, 50, 100])
    enough, too_much, unknown = result.bars

    assert result.ratios(enough) == [0.8, 0.8, 0.6]
    assert result.met(enough) is True
    assert result.met(too_much) is False
    assert result.met(unknown) is None


def test_the_page_tells_every_bar() -> None:
    """Median and spread of each bar, its verdict in words, and what was not measured."""
    page = report.figures(results_of(a_result([80, 40, 60], [100, 50, 100])))

    assert "| 2 | /download | rate / that of limit | ≥ 0.7 | 0.80 (0.60–0.80) | met |" in page
    assert "| 2 | /download | server's CPU | ≤ 0.4 ms/request | 0.50 (0.50–0.50) | **missed** |" in page
    assert "| 2 | /download | rate / that of peer | ≥ 2 | – | not measured |" in page


def test_the_picture_is_drawn() -> None:
    """The picture is well-formed, says each verdict in words, and follows a dark theme."""
    picture = report.picture(results_of(a_result([80, 40, 60], [100, 50, 100])))

    texts = [text.text for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert "0.80, asked ≥ 0.7: met" in texts
    assert "0.50, asked ≤ 0.4 ms/request: missed" in texts
    assert "prefers-color-scheme: dark" in picture


def test_the_arithmetic_of_scale() -> None:
    """The figures of scale.md follow from the measured ones."""
    block = report.scale(results_of(a_result([80, 40, 60], [100, 50, 100])))

    assert (
        "| `/download` with the check | 60 | 0.50 ms | 0.50 ms × 1,000,000 ÷ 3,600,000 = 0.14 core-hours |"
        in block
    )
    assert "5,500 ÷ 60 (`/download` with the check) = 91.7 tasks." in block
    assert "day02, for ever: 2 t2.micro × 0.1 core ÷ 0.50 ms = 400 a second" in block


def test_the_pages_are_those_of_the_figures() -> None:
    """The pages and the picture in docs are what their JSON gives; `make bench` or `--render` writes them."""
    results = Results.model_validate_json((DOCS / "benchmarks.json").read_text())

    assert (DOCS / "benchmarks.svg").read_text() == report.picture(results)
    for page, block in (("benchmarks.md", report.figures(results)), ("scale.md", report.scale(results))):
        text = (DOCS / page).read_text()
        assert text == report.with_block(text, block)


def test_the_kernel_is_believed(ministack_service: Service) -> None:
    """CPU and memory are of the server's whole tree of processes, and a peak can be forgotten."""
    server = opponents.Server(ministack_service.url, ministack_service.process)
    before = server.cpu_seconds()
    with Client(server.url) as client:
        for _ in range(300):
            client.request("GET", "/").expect(200)
    server.forget_peak()

    assert len(server.processes()) == 2
    assert server.cpu_seconds() > before
    assert 20 < server.resident_mib() <= server.peak_mib() + 0.5
