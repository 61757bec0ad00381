"""The harness of `make bench`: works run, wrong answers end them, the pages are right. No time is tested."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree as ET

import pytest

from bench import opponents, report, scale
from bench.__main__ import DOCS, chosen_works, main, measure, pages
from bench.client import Client, Content, WrongAnswer, load, request_bytes
from bench.report import Figures, Result, Results
from bench.stage import FULL, OURS, QUICK, TINY, Bar, Metric, Sizes, Stage
from bench.works import all_works
from support.servers import ROOT, S3, Service, need, running_seaweedfs


@pytest.fixture(scope="module")
def own_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server for these tests alone, because they change its internal state."""
    with running_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as s3:
        yield s3


@pytest.fixture
def s3_of_work(own_s3: S3, number: str, request: pytest.FixtureRequest) -> S3:
    s3: S3 = request.getfixturevalue("tls_s3") if all_works(TINY)[number].s3 == "tls" else own_s3
    return s3


@pytest.mark.parametrize("number", ["1a", "3", "4", "6a", "7b", "8b", "9a", "9b", "9c", "9e"])
def test_a_work_is_measured(s3_of_work: S3, tmp_path: Path, number: str) -> None:
    """Every contestant does the work correctly and has a figure for each round; nothing is left behind."""
    need(not opponents.missing("flask"), "The opponents are not installed: `make test` does it")

    result = measure(s3_of_work, tmp_path, TINY, number)

    assert result.failed is None
    assert all(result.met(bar) is not None for bar in result.bars if bar.against not in result.absent)
    assert all(len(values) == TINY.rounds for one in result.contestants for values in one.rounds.values())
    assert list(tmp_path.iterdir()) == []
    assert f"day02-bench-{number}" not in {
        bucket["Name"] for bucket in s3_of_work.client().list_buckets()["Buckets"]
    }


def test_works_are_chosen() -> None:
    """Works are chosen by their numbers and run in the order of the table; without numbers all are chosen."""
    assert chosen_works(FULL, "2, 1a,") == ["1a", "2"]
    assert chosen_works(FULL, "") == list(all_works(FULL))


@pytest.mark.parametrize(
    ("arguments", "sizes", "works", "folder"),
    [
        (["--quick", "--only", "2,1a"], QUICK, ["1a", "2"], "only"),
        (["--only", "2"], FULL, ["2"], "only"),
        (["--quick"], QUICK, list(all_works(QUICK)), "quick"),
    ],
)
def test_quick_and_only_can_be_combined(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    arguments: list[str],
    sizes: Sizes,
    works: list[str],
    folder: str,
) -> None:
    """QUICK chooses the sizes, and ONLY the works. Only a complete run in full size changes the pages."""
    asked: list[tuple[Sizes, list[str]]] = []

    def run(sizes: Sizes, chosen: Collection[str], _scratch: Path) -> Results:
        asked.append((sizes, list(chosen)))
        return results_of(a_result([80, 40, 60], [100, 50, 100]))

    monkeypatch.setattr("bench.__main__.run", run)
    monkeypatch.setattr("bench.__main__.SCRATCH", tmp_path)
    monkeypatch.setattr("bench.__main__.ROOT", tmp_path)
    monkeypatch.setattr("signal.signal", Mock())
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 0
    assert asked == [(sizes, works)]
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    page = (tmp_path / folder / "benchmarks.md").read_text()
    assert "| 2 | /download |" in page
    assert "Bars that were missed" not in page  # which explains the figures of the complete run


def test_an_unknown_work_is_refused() -> None:
    """An unknown number is an error that lists the works."""
    with pytest.raises(ValueError, match=r"no work 2a, zz(?s:.)*\b1a  upload plan\n(?s:.)* 12  image"):
        chosen_works(FULL, "1a,2a,zz")


def test_a_wrong_answer_is_no_figure(ministack_service: Service) -> None:
    """A wrong answer ends the measurement."""
    asked = [request_bytes("GET", f"{ministack_service.url}/download/a-missing-file")]

    with pytest.raises(WrongAnswer, match="404"):
        load(ministack_service.url, asked, connections=2, seconds=1)


def test_a_stored_file_is_compared(own_s3: S3, tmp_path: Path) -> None:
    """An object whose bytes differ from what was sent is detected."""
    with Stage(own_s3, tmp_path / "stage", TINY, "compared") as stage:
        content = stage.content(TINY.file)
        stage.store("good", content)
        stage.store("short", Content(content.path, content.size - 1))

        stage.expect_stored("good", content)

        with pytest.raises(WrongAnswer, match="short"):
            stage.expect_stored("short", content)


def test_a_failure_is_reported(own_s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A work that fails has a reason instead of figures, and leaves nothing behind."""

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
    """Without Node and the opponents the service is still measured, and the page says what is missing."""
    monkeypatch.setattr(opponents, "NODE_MODULES", tmp_path / "none")
    monkeypatch.setattr(opponents, "OPPONENTS", tmp_path / "none")

    result = measure(own_s3, tmp_path, TINY, "1a")

    assert result.failed is None
    assert set(result.absent) == {"Uppy Companion", "Flask with boto3"}
    assert [one.name for one in result.contestants] == [OURS, "bare Flask route"]
    assert "Not measured: Uppy Companion" in report.figures(results_of(result))


def results_of(*works: Result) -> Results:
    about = {"date": "2026-11-24", "commit": "abc", "machine": "a machine", "took": "1 min"}
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
    """A round that was slow for both changes nothing; a bar that was not measured is not judged."""
    result = a_result([80, 40, 60], [100, 50, 100])
    enough, too_much, unknown = result.bars

    assert result.ratios(enough) == [0.8, 0.8, 0.6]
    assert result.met(enough) is True
    assert result.met(too_much) is False
    assert result.met(unknown) is None


def test_the_page_has_every_bar() -> None:
    """The page has the median and range of each bar, its verdict, and what was not measured."""
    result = a_result([80, 40, 60], [100, 50, 100])
    page = report.figures(results_of(result))

    assert "| 2 | /download | rate / that of limit | ≥ 0.7 | 0.80 (0.60–0.80) | met |" in page
    assert "| 2 | /download | server's CPU | ≤ 0.4 ms/request | 0.50 (0.50–0.50) | **missed** |" in page
    assert "| 2 | /download | rate / that of peer | ≥ 2 | – | not measured |" in page
    assert "1 of 3 bars were met; missed: 2 (server's CPU); 1 not measured." in page
    assert report.verdict(result, result.bars[0]) == (
        "rate / that of limit: 0.80 (0.60–0.80), asked ≥ 0.7: met"
    )


def test_the_picture_is_drawn() -> None:
    """The picture is well-formed, says each verdict in words, and follows a dark theme."""
    picture = report.picture(results_of(a_result([80, 40, 60], [100, 50, 100])))

    texts = [text.text for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert "0.80, asked ≥ 0.7: met" in texts
    assert "0.50, asked ≤ 0.4 ms/request: missed" in texts
    assert "prefers-color-scheme: dark" in picture


def test_the_arithmetic_of_scale() -> None:
    """The figures of scale.md follow from the measured ones."""
    block = scale.tasks(results_of(a_result([80, 40, 60], [100, 50, 100])))

    assert (
        "| `/download` with the check | 60 | 0.50 ms | 0.50 ms × 1,000,000 ÷ 3,600,000 = 0.14 core-hours |"
        in block
    )
    assert "5,500 ÷ 60 (`/download` with the check) = 91.7 tasks." in block
    assert "day02, at the CPU baseline (sustained): 2 t2.micro × 0.1 core ÷ 0.50 ms = 400 per second" in block


def test_the_pages_are_those_of_the_figures() -> None:
    """The pages and the picture in docs are those of docs/benchmarks.json."""
    results = Results.model_validate_json((DOCS / "benchmarks.json").read_text())

    assert (DOCS / "benchmarks.svg").read_text() == report.picture(results)
    for page, text in pages(results).items():
        assert (DOCS / page).read_text() == text


def test_the_sums_of_the_costs_are_right() -> None:
    """Each sum of the month without traffic is the sum of the figures that are shown."""
    table = [line.split("|") for line in scale.costs().splitlines() if line.startswith("|")][2:9]

    for column in (2, 3):
        shown = [float(row[column].replace("*", "").split()[-1].replace("–", "0")) for row in table]
        assert sum(shown[:-1]) == pytest.approx(shown[-1])


def test_alarms_are_counted() -> None:
    """The metrics of alarms that cost money are those of the Terraform modules and of AWS's own scaling."""
    monitoring = (ROOT / "modules/service/monitoring.tf").read_text()
    balancer = monitoring.count("      description = ")
    always = 2  # target_5xx, and the billing alarm
    scaling = 2 * ((ROOT / "modules/service/scaling.tf").read_text().count("      metric   = ") + 1)

    assert scale.ALARMS["day02"] == always
    assert (
        scale.ALARMS["prod"]
        == always + balancer + len({"s3_unreachable", "rules", "desired", "running"}) + scaling
    )


def test_cpu_and_memory_come_from_the_kernel(ministack_service: Service) -> None:
    """CPU and memory are those of all processes of the server, and a peak can be reset."""
    server = opponents.Server(ministack_service.url, ministack_service.process)
    before = server.cpu_seconds()
    with Client(server.url) as client:
        for _ in range(300):
            client.request("GET", "/").expect(200)
    server.forget_peak()

    assert len(server.processes()) >= 2  # gunicorn's master, and its worker
    assert server.cpu_seconds() > before
    assert 20 < server.resident_mib() <= server.peak_mib() + 0.5
    assert server.together_mib() > 20
