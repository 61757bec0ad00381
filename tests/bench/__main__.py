"""`make bench`: measure the works side by side, and write the figures and the picture into docs."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pytest

from bench import opponents, report, scale, works
from bench.opponents import GiB
from bench.report import Figures, Result, Results
from bench.stage import FULL, QUICK, Sizes, Stage, Work
from local_servers import CannotRun
from support import nginx
from support.servers import ROOT, S3, running_seaweedfs

SCRATCH = ROOT / ".bench"
DOCS = ROOT / "docs"


def measure(s3: S3, directory: Path, sizes: Sizes, number: str) -> Result:
    """Measure all rounds of one work. An error is in the result; everything that was started is stopped."""
    begun = time.perf_counter()
    entry = works.all_works(sizes)[number]
    result = Result(number=number, name=entry.name, title=entry.name)
    try:
        with Stage(s3, directory / f"work-{number}", sizes, number) as stage:
            work = entry.make(stage)
            result.absent = stage.absent
            if work is not None:
                _all_rounds(work, result)
    except Exception as error:
        traceback.print_exc()
        result.failed = f"{type(error).__name__}: {error}"
        result.contestants = []
    result.seconds = round(time.perf_counter() - begun, 1)
    return result


def _all_rounds(work: Work, result: Result) -> None:
    result.title, result.how, result.size = work.title, work.how, work.size
    result.metrics, result.bars = list(work.metrics), list(work.bars)
    result.contestants = [Figures(name=c.name, role=c.role, rounds={}) for c in work.contestants]
    for _ in range(work.rounds):
        work.between()
        for contestant, figures in zip(work.contestants, result.contestants, strict=True):
            for metric, value in contestant.measure().items():
                figures.rounds.setdefault(metric, []).append(value)


def _say(result: Result) -> None:
    print(f"{result.number:>3}  {result.title}  [{result.seconds:.0f} s]", flush=True)
    if result.failed:
        print(f"       not measured: {result.failed}", flush=True)
    for name, reason in result.absent.items():
        print(f"       without {name}: {reason}", flush=True)
    for one in result.contestants:
        shown = (
            f"{metric.label} {median(one.rounds[metric.key]):.{metric.decimals}f} {metric.unit}"
            for metric in result.metrics
            if metric.key in one.rounds
        )
        print(f"       {one.name}: {', '.join(shown)}", flush=True)
    for bar in result.bars:
        print(f"       > {report.verdict(result, bar)}", flush=True)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip()


def about(begun: float, load_before: float) -> Mapping[str, str]:
    """When and where the run was, and the versions."""
    seconds = round(time.monotonic() - begun)
    commit = _output("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    changed = " with changes" if _output("git", "status", "--porcelain", "--", "services") else ""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GiB
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit + changed,
        "took": f"{seconds // 60} min {seconds % 60} s",
        "machine": f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB",
        "kernel": platform.release(),
        "load average before": f"{load_before:.2f}",
        "Python": platform.python_version(),
        **{name: version(name) for name in ("gunicorn", "gevent", "flask", "boto3", "urllib3")},
        "SeaweedFS": _output(str(Path(sys.executable).parent / "weed"), "version").partition("\n")[0],
    }
    if not opponents.missing("rclone"):
        found["rclone"] = _output(str(opponents.OPPONENTS / "rclone"), "version").partition("\n")[0]
    if not opponents.missing("node"):
        found["Node"] = _output("node", "--version")
        for package in ("@uppy/companion", "@tus/server", "@tus/s3-store"):
            file = opponents.NODE_MODULES / package / "package.json"
            found[package] = _output("node", "-p", f"require('{file}').version")
    if not opponents.missing("haproxy"):
        found["HAProxy"] = _output("haproxy", "-v").partition("\n")[0]
    if program := nginx.program():
        found["nginx"] = _output(program, "-v").partition("/")[2]
    return found


def chosen_works(sizes: Sizes, only: str) -> Collection[str]:
    """The numbers in `only`, separated by commas; all without it.

    Raises:
        ValueError: a number is unknown; the message lists those that there are.
    """
    there = works.all_works(sizes)
    wanted = [number.strip() for number in only.split(",") if number.strip()]
    if unknown := [number for number in wanted if number not in there]:
        known = "\n".join(f"  {number:>3}  {entry.name}" for number, entry in there.items())
        raise ValueError(f"There is no work {', '.join(unknown)}. The works are:\n{known}")
    return [number for number in there if not wanted or number in wanted]


def run(sizes: Sizes, chosen: Collection[str], scratch: Path) -> Results:
    """Measure these works."""
    begun, load_before = time.monotonic(), os.getloadavg()[0]
    free = shutil.disk_usage(scratch).free
    if free < sizes.disk:
        sys.exit(f"{scratch} has {free / GiB:.1f} GiB free; the measurements need {sizes.disk / GiB:.0f}")
    there = works.all_works(sizes)
    results = {}
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        for kind in ("plain", "tls", "own"):
            group = [number for number in chosen if there[number].s3 == kind]
            if not group:
                continue
            with running_seaweedfs(Path(directory) / f"seaweedfs-{kind}", tls=kind == "tls", volumes=7) as s3:
                for number in group:
                    result = measure(s3, Path(directory), sizes, number)
                    if result.failed:  # SeaweedFS may have stalled; the page reports the first failure
                        _say(result)
                        again = measure(s3, Path(directory), sizes, number)
                        result = again.model_copy(update={"first_failure": result.failed})
                    _say(result)
                    results[number] = result
    return Results(
        about=dict(about(begun, load_before)),
        quick=sizes is not FULL,
        works=[results[number] for number in chosen],
    )


def write(results: Results, to: Path) -> None:
    """Write the JSON, the picture, and the pages with these figures.

    The text of docs explains the figures of the complete run, so the pages of another run have no text.
    """
    to.mkdir(parents=True, exist_ok=True)
    (to / "benchmarks.json").write_text(results.model_dump_json(indent=1) + "\n")
    (to / "benchmarks.svg").write_text(report.picture(results))
    for page, text in (pages(results) if to == DOCS else figures_alone(results)).items():
        (to / page).write_text(text)


def pages(results: Results) -> Mapping[str, str]:
    """The pages of docs that have figures, with those of the results."""
    benchmarks, costs = (DOCS / "benchmarks.md").read_text(), (DOCS / "scale.md").read_text()
    for name, block in scale.blocks(results).items():
        costs = report.with_block(costs, name, block)
    return {
        "benchmarks.md": report.with_block(benchmarks, "figures", report.figures(results)),
        "scale.md": costs,
    }


def figures_alone(results: Results) -> Mapping[str, str]:
    return {
        "benchmarks.md": f"# Benchmarks\n\n{report.figures(results)}",
        "scale.md": "\n".join(["# Scale\n", *scale.blocks(results).values()]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, few rounds; written to .bench/quick"
    )
    parser.add_argument(
        "--only", default="", help="numbers of works, such as 1a,2; written to .bench/only, also with --quick"
    )
    parser.add_argument("--render", action="store_true", help="render docs from docs/benchmarks.json")
    given = parser.parse_args()
    if given.render:
        write(Results.model_validate_json((DOCS / "benchmarks.json").read_text()), DOCS)
        return
    # SIGTERM ends the run as Ctrl-C does: every server is stopped, every file removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    SCRATCH.mkdir(exist_ok=True)
    sizes = QUICK if given.quick else FULL
    try:
        chosen = chosen_works(sizes, given.only)
    except ValueError as error:
        sys.exit(str(error))
    try:
        results = run(sizes, chosen, SCRATCH)
    except (CannotRun, pytest.skip.Exception) as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was written")
    to = SCRATCH / "only" if given.only else SCRATCH / "quick" if given.quick else DOCS
    write(results, to)
    print(f"{report.summary(results)} It took {results.about['took']}.")
    print(f"See {(to / 'benchmarks.md').relative_to(ROOT)}")
    sys.exit(any(result.failed for result in results.works))


if __name__ == "__main__":
    main()
