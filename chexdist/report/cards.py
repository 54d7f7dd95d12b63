"""Decides which charts and tables stand for what was measured in one way: curves, else bars; numbers."""

from dataclasses import dataclass

from markupsafe import Markup

from chexdist.metrics.value import Metric
from chexdist.report.collect import RunRecord
from chexdist.report.compare import Comparison
from chexdist.report.files import tidy
from chexdist.report.numbers import count, decimals_for, number, with_interval
from chexdist.report.plots import Bar, Level, Line, bars, curves
from chexdist.report.tables import Table, metric_table
from chexdist.report.themes import Block, Theme

BETTER = {
    "lower": "lower is better",
    "higher": "higher is better",
    "near real": "nearer to the value of real X-rays is better, from either side",
}
LOSSES = {"loss/critic": "critic", "loss/generator": "generator", "loss/penalty": "penalty"}
WIDE, HALF, NARROW = 960, 500, 360
BANDED_RUNS = 4
"""Of more runs, bands of intervals hide each other."""


@dataclass(frozen=True)
class Chart:
    """A chart and its caption. `narrow`: the same drawn for a phone; `run`: its run where it is of one."""

    title: str
    unit: str
    svg: Markup
    narrow: Markup | None = None
    run: int | None = None


@dataclass(frozen=True)
class Card:
    """A block: all images with charts, classes as tables. wide: curves that take the page's width; small:
    those beside each other; bars: charts of what has no course.
    """

    runs: list[int]
    missing: list[str]
    wide: list[Chart]
    small: list[Chart]
    bars: list[Chart]
    table: Table
    of_classes: list[Table]
    fields: dict[str, str]
    folded: bool

    @property
    def title(self) -> str:
        return self.table.title


def cards(theme: Theme, runs: list[RunRecord]) -> list[Card]:
    """A card for each block; those that are folded have tables alone."""
    return [_card(block, runs) for block in theme.blocks]


def _card(block: Block, runs: list[RunRecord]) -> Card:
    whole, *of_classes = block.parts
    drawn = [] if block.folded else whole.comparisons
    wide, small, beside = list[Chart](), list[Chart](), list[Chart]()
    for comparison in drawn:
        if any(len(course) > 1 for course in comparison.curves.values()):
            first = comparison is drawn[0] and comparison.base.startswith("kid_")
            (wide if first else small).append(_curve(comparison, runs, WIDE if first else HALF))
        elif len(comparison.entries) > 1:
            beside.append(_bars(comparison, runs))
    return Card(
        runs=sorted(whole.runs),
        missing=[run.name for index, run in enumerate(runs) if index not in whole.runs],
        wide=wide,
        small=small,
        bars=beside,
        table=metric_table(whole, runs),
        of_classes=[metric_table(each, runs) for each in of_classes],
        fields=whole.fields,
        folded=block.folded,
    )


def _curve(comparison: Comparison, runs: list[RunRecord], width: int) -> Chart:
    banded = len(comparison.curves) <= BANDED_RUNS
    lines = [Line(run, metrics, marked=True, banded=banded) for run, metrics in comparison.curves.items()]
    levels, text = _levels(comparison), _in_words(comparison, runs)
    drawn = curves(lines, levels, width, 400 if width == WIDE else 250, text, robust=False)
    narrow = curves(lines, levels, NARROW, 300 if width == WIDE else 230, text, robust=False)
    bands = banded and any(m.low is not None for line in lines for m in line.metrics)
    better = BETTER[comparison.spec.better] if comparison.spec else tidy(comparison.entries[0].metric.unit)
    unit = f"{'bands: 95 % intervals; ' if bands else ''}{better}"
    return Chart(f"{comparison.label} over training", unit, drawn, narrow)


def _bars(comparison: Comparison, runs: list[RunRecord]) -> Chart:
    rows = [
        Bar(each.run, runs[each.run].name, each.metric, each.real_baseline) for each in comparison.entries
    ]
    unit = tidy(comparison.entries[0].metric.unit)
    return Chart(comparison.label, unit, bars(rows, NARROW, _in_words(comparison, runs)))


def _levels(comparison: Comparison) -> list[Level]:
    """Real X-rays and the mean image, as the run has them that was measured last."""
    entry = max(comparison.entries, key=lambda entry: entry.metric.time)
    found = []
    for label, metric in (("real X-rays", entry.real), ("mean image", entry.mean_image)):
        if metric:
            shown = number(metric.value, decimals_for(metric.value, metric.low, metric.high))
            found.append(Level(f"{label} {shown}", metric.value))
    if not found and entry.real_baseline is not None:
        decimals = decimals_for(entry.metric.value, entry.metric.low, entry.metric.high)
        found.append(Level(f"real X-rays {number(entry.real_baseline, decimals)}", entry.real_baseline))
    return found


def _in_words(comparison: Comparison, runs: list[RunRecord]) -> str:
    parts = [f"{comparison.label}:"]
    for entry in comparison.entries:
        metric = entry.metric
        shown = with_interval(metric.value, metric.low, metric.high)
        parts.append(f"{runs[entry.run].name} {shown} after {count(metric.images)} images;")
        if entry.real_baseline is not None:
            decimals = decimals_for(metric.value, metric.low, metric.high)
            parts.append(f"real X-rays {number(entry.real_baseline, decimals)};")
    return " ".join(parts).rstrip(";") + "."


def losses(runs: list[RunRecord]) -> list[Chart]:
    """A chart for each run: losses of different objectives have no common axis."""
    charts = []
    for index, run in enumerate(runs):
        by_name: dict[str, list[Metric]] = {}
        for metric in run.log:
            by_name.setdefault(metric.name, []).append(metric)
        lines = [Line(index, by_name[name], style) for name, style in LOSSES.items() if name in by_name]
        if lines:
            last = ", ".join(f"{line.style} {number(line.metrics[-1].value, 3)}" for line in lines)
            text = f"Losses of {run.name} over training; last: {last}."
            wide, narrow = (curves(lines, [], width, 220, text, robust=True) for width in (HALF, NARROW))
            charts.append(Chart(run.name, "", wide, narrow, index))
    return charts
