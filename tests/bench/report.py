"""The results of a run as JSON, and from them the figures of docs/benchmarks.md and its picture.

A bar compares the median over the rounds. Where it is a ratio, both figures come from the same round, so a
disturbance of that round slows both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import log2
from statistics import median

from pydantic import BaseModel

from bench.stage import OURS, Bar, Metric, Role

BEGIN, END = "<!-- written by `make bench`: {name} -->", "<!-- until here -->"


class Figures(BaseModel):
    """The figures of one contestant: for each metric, a value for each round."""

    name: str
    role: Role
    rounds: dict[str, list[float]]


class Result(BaseModel):
    """The result of one work.

    `absent` has the contestants that could not be measured, and why. `failed` is why none was measured, and
    `first_failure` why the work was measured a second time.
    """

    number: str
    name: str
    title: str
    how: str = ""
    size: int | None = None  # bytes of the body, where the work moves one
    metrics: list[Metric] = []
    contestants: list[Figures] = []
    bars: list[Bar] = []
    absent: dict[str, str] = {}
    failed: str | None = None
    first_failure: str | None = None
    seconds: float = 0.0

    def ours(self, metric: str) -> float:
        """The median of our figure."""
        return median(self._rounds(OURS)[metric])

    def has(self, metric: str) -> bool:
        return metric in self._rounds(OURS)

    def _rounds(self, name: str) -> dict[str, list[float]]:
        return next((one.rounds for one in self.contestants if one.name == name), {})

    def ratios(self, bar: Bar) -> list[float]:
        """A value for each round; empty when the other contestant was not measured."""
        ours = self._rounds(OURS).get(bar.metric, [])
        if bar.against is None:
            return ours
        others = self._rounds(bar.against).get(bar.metric, [])
        return [mine / other for mine, other in zip(ours, others, strict=False)]

    def met(self, bar: Bar) -> bool | None:
        """None when the bar was not measured."""
        ratios = self.ratios(bar)
        if not ratios:
            return None
        if bar.at_least is not None:
            return median(ratios) >= bar.at_least
        return bar.at_most is not None and median(ratios) <= bar.at_most

    def metric(self, key: str) -> Metric:
        return next(one for one in self.metrics if one.key == key)


class Results(BaseModel):
    """A run. `about` has its date, machine and versions."""

    about: dict[str, str]
    quick: bool
    works: list[Result]

    def work(self, number: str) -> Result | None:
        """The work of that number, if it was measured."""
        return next((one for one in self.works if one.number == number and one.contestants), None)

    @property
    def run(self) -> str:
        """The run in one sentence."""
        words = f"Run of {self.about['date']} at commit {self.about['commit']}, on {self.about['machine']}"
        return words + (". It was QUICK: good for trying, not for quoting." if self.quick else ".")


def with_block(text: str, name: str, block: str) -> str:
    """The page with its block of that name replaced."""
    mark = BEGIN.format(name=name)
    before, begin, rest = text.partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must hold the lines {mark} and {END}")
    return f"{before}{mark}\n{block}{END}{after}"


def number(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}"


def _spread(values: Sequence[float], decimals: int) -> str:
    """The median, and the range where there are several values."""
    if not values:
        return "–"
    middle = number(median(values), decimals)
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values), decimals)}–{number(max(values), decimals)})"


def _asked(result: Result, bar: Bar) -> str:
    unit = "" if bar.against else f" {result.metric(bar.metric).unit}".rstrip()
    return f"≥ {bar.at_least:g}{unit}" if bar.at_least is not None else f"≤ {bar.at_most:g}{unit}"


# --- docs/benchmarks.md

_VERDICTS = {True: "met", False: "**missed**", None: "not measured"}


def _what(result: Result, bar: Bar) -> str:
    label = result.metric(bar.metric).label
    return f"{label} / that of {bar.against}" if bar.against else label


def _measured(result: Result, bar: Bar) -> str:
    return _spread(result.ratios(bar), 2 if bar.against else result.metric(bar.metric).decimals)


def verdict(result: Result, bar: Bar) -> str:
    """A bar in one line: its value, its limit, and whether it is met."""
    judged = _VERDICTS[result.met(bar)].replace("*", "")
    return f"{_what(result, bar)}: {_measured(result, bar)}, asked {_asked(result, bar)}: {judged}"


def summary(results: Results) -> str:
    """How many bars were met, in a sentence."""
    judged = [result.met(bar) for result in results.works for bar in result.bars]
    missed = [
        f"{result.number} ({_what(result, bar)})"
        for result in results.works
        for bar in result.bars
        if result.met(bar) is False
    ]
    words = f"{judged.count(True)} of {len(judged)} bars were met"
    if missed:
        words += f"; missed: {', '.join(missed)}"
    if unknown := judged.count(None):
        words += f"; {unknown} not measured"
    return f"{words}."


def figures(results: Results) -> str:
    """The block of benchmarks.md: the bars, every figure, and the versions."""
    lines = [
        results.run,
        "",
        summary(results),
        "",
        "| | work | figure | asked | measured | |",
        "|---|---|---|---|---|---|",
    ]
    for result in results.works:
        lines += [_bar_row(result, bar) for bar in result.bars]
        if not result.bars:
            lines.append(f"| {result.number} | {result.title} | | | | not measured |")
    lines.append("")
    for result in results.works:
        lines += _section(result)
    lines += ["### The run", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in results.about.items()]
    return "\n".join([*lines, ""])


def _bar_row(result: Result, bar: Bar) -> str:
    cells = (
        result.number,
        result.title,
        _what(result, bar),
        _asked(result, bar),
        _measured(result, bar),
        _VERDICTS[result.met(bar)],
    )
    return f"| {' | '.join(cells)} |"


def _section(result: Result) -> list[str]:
    lines = [f"### {result.number}. {result.title}", ""]
    if result.failed:
        lines += [f"Not measured: {result.failed}.", ""]
    if result.first_failure:
        lines += [f"A first try failed: {result.first_failure}.", ""]
    if result.how:
        lines += [result.how, ""]
    if result.contestants:
        heads = (f"{m.label}, {m.unit}" if m.unit else m.label for m in result.metrics)
        lines.append(f"| | {' | '.join(heads)} |")
        lines.append("|---|" + "---|" * len(result.metrics))
        for one in result.contestants:
            role = " (limit)" if one.role == "limit" else ""
            values = (_spread(one.rounds.get(m.key, []), m.decimals) for m in result.metrics)
            lines.append(f"| {one.name}{role} | {' | '.join(values)} |")
        lines.append("")
    for name, reason in result.absent.items():
        lines += [f"Not measured: {name}; {reason}.", ""]
    return lines


# --- docs/benchmarks.svg

_OCTAVES = 3.0  # doublings on either side
_LEFT, _HALF, _RIGHT, _ROW, _TOP = 450, 170, 270, 26, 64
_CENTRE = _LEFT + _HALF
_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 12px; fill: #59636e }
.met { fill: #1a7f5a } .missed { fill: #bc4c00 }
.line { stroke: #59636e } .spread { stroke: #1f2328 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 }
  .met { fill: #3fb68b } .missed { fill: #f0883e }
  .line { stroke: #9198a1 } .spread { stroke: #f0f6fc }
}"""


def picture(results: Results) -> str:
    """A row for each bar: how much better or worse than asked our figure is, in doublings."""
    rows = [(result, bar) for result in results.works for bar in result.bars if result.ratios(bar)]
    height, width = _TOP + _ROW * len(rows) + 20, _CENTRE + _HALF + _RIGHT
    note = f"{results.about['date']}, median over the rounds; the thin line is the least to the most"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>Our figures against what was asked of them</title>",
        f"<style>{_STYLE}</style>",
        '<text x="12" y="22">Our figures against what was asked: right of the line is better</text>',
        f'<text x="12" y="42" class="small">{escape(note)}</text>',
    ]
    for share, label in ((0.25, "4 × worse"), (0.5, "2 ×"), (1, "asked"), (2, "2 ×"), (4, "4 × better")):
        at = _CENTRE + log2(share) * _HALF / _OCTAVES
        out.append(f'<text x="{at:.0f}" y="{_TOP - 6}" class="small" text-anchor="middle">{label}</text>')
    for row, (result, bar) in enumerate(rows):
        out += _bar_shapes(result, bar, _TOP + row * _ROW + _ROW // 2)
    out.append(f'<line class="line" x1="{_CENTRE}" y1="{_TOP}" x2="{_CENTRE}" y2="{height - 14}"/>')
    return "\n".join([*out, "</svg>", ""])


def _x(bar: Bar, ratio: float) -> float:
    """The position of a value. Right of the centre is better than asked, for lower and upper limits."""
    better = bar.at_least is not None
    share = ratio / (bar.at_least or 1) if better else (bar.at_most or 0) / max(ratio, 1e-9)
    octaves = max(-_OCTAVES, min(_OCTAVES, log2(max(share, 1e-9))))
    return _CENTRE + octaves * _HALF / _OCTAVES


def _bar_shapes(result: Result, bar: Bar, y: int) -> Iterator[str]:
    ratios, metric = result.ratios(bar), result.metric(bar.metric)
    value, end = median(ratios), _x(bar, median(ratios))
    kind = "met" if result.met(bar) else "missed"
    what = f"{result.number}  {result.name}"
    # The first metric is the work's subject; the others are named.
    if bar.against is None or metric != result.metrics[0]:
        what += f", {metric.label}"
    if bar.against is not None:
        what += f" / {bar.against}"
    said = f"{number(value, 2 if bar.against else metric.decimals)}, asked {_asked(result, bar)}: {kind}"
    left, length = min(_CENTRE, end), max(abs(end - _CENTRE), 1.5)
    ends = sorted(_x(bar, ratio) for ratio in ratios)
    yield f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(what)}</text>'
    yield f'<rect class="{kind}" x="{left:.1f}" y="{y - 7}" width="{length:.1f}" height="14" rx="2"/>'
    yield f'<line class="spread" x1="{ends[0]:.1f}" y1="{y}" x2="{ends[-1]:.1f}" y2="{y}"/>'
    yield f'<text x="{_CENTRE + _HALF + 12}" y="{y + 4}" class="small">{escape(said)}</text>'
