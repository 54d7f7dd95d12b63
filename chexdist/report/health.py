"""Decides what a report says of a run's health, and draws the curves that it was judged by."""

from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup

from chexdist.metrics.value import Metric
from chexdist.report.collect import RunRecord
from chexdist.report.files import tidy
from chexdist.report.plots import Level, Line, curves
from chexdist.report.sample_diversity import with_diversity
from chexdist.run.curves import KID, MEAN_IMAGE, REAL
from chexdist.run.verdict import CHANCE, Verdict, judge

WIDTH, HEIGHT, HEADING, LINE, COLUMNS = 720, 220, 28, 18, 110
STYLE = """
text { font: 12px sans-serif; fill: #222 } .heading { font-size: 15px; font-weight: bold }
.tick.y, .title, .level-label.end { text-anchor: end } .tick.x { text-anchor: middle }
.grid { stroke: #ddd } .axis { stroke: #666 } .level { stroke: #a33; stroke-dasharray: 5 4 }
.line { fill: none; stroke: #2563a8; stroke-width: 1.6 } .band { fill: #2563a8; opacity: .15 }
.mark path, .mark circle { fill: #2563a8 }
"""


@dataclass(frozen=True)
class Panel:
    """One curve and what it is compared with."""

    title: str
    metrics: list[Metric]
    levels: list[Level]
    marked: bool = False


def diagnosed(run: RunRecord) -> Verdict:
    """The verdict at the end of its log."""
    return judge(with_diversity(run), run.settings, run.state, run.cause, run.training_images)


def ill(runs: list[RunRecord]) -> list[str]:
    """A line for each run that is ill: what it has, and the first cures."""
    found = []
    for run in runs:
        verdict = diagnosed(run)
        if verdict.is_ill:
            cures = "; ".join(verdict.cures[:2])
            found.append(tidy(f"{run.name} is ill: {verdict}. What usually helps: {cures}"))
    return found


def panels(run: RunRecord) -> list[Panel]:
    """Those of the curves that can be drawn."""
    by_name: dict[str, list[Metric]] = {}
    for metric in with_diversity(run):
        by_name.setdefault(metric.name, []).append(metric)
    chance = CHANCE.get(run.settings.get("loss.name", ""))
    baselines = [
        Level(f"{label} {by_name[name][-1].value:.0f}", by_name[name][-1].value)
        for label, name in (("mean image", MEAN_IMAGE), ("real X-rays", REAL))
        if name in by_name
    ]
    at_chance = [Level(f"critic at chance {chance:.3f}", chance)] if chance else []
    wanted = [
        Panel("KID x1000, lower is better", by_name.get(KID, []), baselines, marked=True),
        Panel("loss of the critic", by_name.get("loss/critic", []), at_chance),
        Panel(
            "share of pairs in which the critic scores the real image higher",
            by_name.get("health/wins", []),
            [Level("chance", 0.5)],
        ),
        Panel(
            "share of pairs in which it scores a training image above a held-out one",
            by_name.get("health/training_over_held_out", []),
            [Level("nothing learned by heart", 0.5)],
            marked=True,
        ),
    ]
    diverse = "health/diversity" if "health/diversity" in by_name else "feature_distance"
    real = by_name.get("feature_distance/real", [])
    level = Level("real X-rays", 1.0 if diverse != "feature_distance" or not real else real[-1].value)
    wanted.append(Panel("diversity of generated images", by_name.get(diverse, []), [level], marked=True))
    return [panel for panel in wanted if panel.metrics]


def drawing(run: RunRecord, verdict: Verdict) -> str:
    """An SVG file: the verdict, and each panel below the one before."""
    drawn = [Markup('<text class="heading" x="12" y="24">{}</text>').format(f"{run.name}: {verdict.title}")]
    for words in wrap(verdict.numbers, COLUMNS):
        drawn.append(Markup('<text x="12" y="{}">{}</text>').format(len(drawn) * LINE + 28, words))
    top = len(drawn) * LINE + HEADING
    for panel in panels(run):
        line = Line(0, panel.metrics, marked=panel.marked)
        chart = curves([line], panel.levels, WIDTH, HEIGHT, panel.title, robust=not panel.marked)
        drawn.append(Markup('<text x="12" y="{}">{}</text>').format(top + 12, panel.title))
        placed = f'<svg x="0" y="{top + 16}" width="{WIDTH}" height="{HEIGHT}" '
        drawn.append(Markup(str(chart).replace("<svg ", placed, 1)))
        top += HEIGHT + 28
    start = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">'
        '<style>{2}</style><rect width="{0}" height="{1}" fill="#fff"/>'
    ).format(WIDTH, top, Markup(STYLE))
    return str(start + Markup("\n").join(drawn) + Markup("</svg>\n"))
