"""Makes a report one HTML page that needs no network and no script."""

from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from chexdist import __version__
from chexdist.metrics.value import Metric
from chexdist.report import summary
from chexdist.report.collect import RunRecord
from chexdist.report.compare import Comparison, Measured
from chexdist.report.files import tidy
from chexdist.report.numbers import count, decimals_for, listed, number, with_interval
from chexdist.report.plots import Bar, Level, Line, bars, curves, key
from chexdist.report.samples import figures
from chexdist.report.tables import (
    Table,
    metric_table,
    notices,
    order_tables,
    provenance_table,
    refused_table,
    runs_table,
    settings_tables,
)

LOSSES = {"loss/critic": "critic", "loss/generator": "generator", "loss/penalty": "penalty"}
BETTER = {
    "lower": "lower is better",
    "higher": "higher is better",
    "near real": "nearer to the value of real X-rays is better, from either side",
}
WIDE, LOSS, NARROW = 960, 500, 360


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
    """All that was measured under one protocol."""

    runs: list[int]
    missing: list[str]
    charts: list[Chart]
    table: Table
    fields: dict[str, str]


def as_page(runs: list[RunRecord], measured: list[Measured], with_real: bool) -> str:
    """The page. Raises UserError when a picture is damaged."""
    folder = resources.files("chexdist.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((folder / "page.html.jinja").read_text(encoding="utf-8"))
    differing, shared = settings_tables(runs)
    of_features = [each for each in measured if not each.are_pairs]
    of_pairs = [each for each in measured if each.are_pairs]
    return template.render(
        title=summary.title(runs),
        sentence=_unbroken(summary.sentence(runs, measured)),
        version=__version__,
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),  # ours: nothing of a run is in it
        names=[run.name for run in runs],
        keys=[key(number) for number in range(len(runs))],
        states=[run.state for run in runs],
        notices=notices(runs, measured),
        runs_table=runs_table(runs),
        orders=order_tables(runs, measured),
        directions=_unbroken(_directions(of_features)),
        of_features=[_card(each, runs) for each in of_features],
        of_pairs=[_card(each, runs) for each in of_pairs],
        pair_labels=_labels(of_pairs),
        losses=_losses(runs),
        figures=figures(runs, with_real),
        with_real=with_real,
        refused=refused_table(runs),
        differing=differing,
        shared=shared,
        provenance=provenance_table(runs),
    )


def _unbroken(text: str) -> str:
    """With spaces within a number at which no line is broken."""
    return text.replace(" × ", "\u00a0×\u00a0").replace(" %", "\u00a0%")


def _labels(measured: list[Measured]) -> list[str]:
    """The metrics that are among these, each once."""
    return list(dict.fromkeys(each.label for group in measured for each in group.comparisons))


def _directions(measured: list[Measured]) -> str:
    """`KID × 1000 and FID: lower is better.`, for the metrics that are among these."""
    labels: dict[str, dict[str, None]] = {}
    for group in measured:
        for each in group.comparisons:
            if each.spec:
                labels.setdefault(BETTER[each.spec.better], {})[each.label] = None
    return " ".join(f"{listed(list(names))}: {words}." for words, names in labels.items())


def _card(measured: Measured, runs: list[RunRecord]) -> Card:
    return Card(
        runs=sorted(measured.runs),
        missing=[run.name for index, run in enumerate(runs) if index not in measured.runs],
        charts=[_chart(comparison, runs) for comparison in measured.comparisons],
        table=metric_table(measured, runs),
        fields=measured.fields,
    )


def _chart(comparison: Comparison, runs: list[RunRecord]) -> Chart:
    """A metric of features over training where there is a course of it, else bars."""
    text, spec = _in_words(comparison, runs), comparison.spec
    courses = comparison.curves.values()
    if spec and spec.computed_from == "features" and any(len(course) > 1 for course in courses):
        lines = [Line(run, metrics, marked=True) for run, metrics in comparison.curves.items()]
        levels = _levels(comparison)
        wide = curves(lines, levels, WIDE, 400, text, robust=False)
        narrow = curves(lines, levels, NARROW, 300, text, robust=False)
        bands = any(metric.low is not None for course in courses for metric in course)
        unit = f"{'bands: 95 % intervals; ' if bands else ''}{BETTER[spec.better]}"
        return Chart(f"{comparison.label} over training", unit, wide, narrow)
    rows = [
        Bar(each.run, runs[each.run].name, each.metric, each.real_baseline) for each in comparison.entries
    ]
    unit = tidy(comparison.entries[0].metric.unit)
    return Chart(comparison.label, unit, bars(rows, NARROW, text))


def _levels(comparison: Comparison) -> list[Level]:
    """Real X-rays and the mean image, as the run has them that was measured last."""
    entry = max(comparison.entries, key=lambda entry: entry.metric.time)
    found = []
    for label, metric in (("real X-rays", entry.real), ("mean image", entry.mean_image)):
        if metric:
            shown = number(metric.value, decimals_for(metric.value, metric.low, metric.high))
            found.append(Level(f"{label} {shown}", metric.value))
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


def _losses(runs: list[RunRecord]) -> list[Chart]:
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
            wide, narrow = (curves(lines, [], width, 220, text, robust=True) for width in (LOSS, NARROW))
            charts.append(Chart(run.name, "", wide, narrow, index))
    return charts
