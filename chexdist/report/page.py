"""Makes a report one HTML page that needs no network and no script."""

from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from chexdist import __version__
from chexdist.report import samples, summary
from chexdist.report.cards import BETTER, Card, cards, losses
from chexdist.report.collect import RunRecord
from chexdist.report.compare import Measured, label_of
from chexdist.report.copies import closest_table, verdicts
from chexdist.report.health import ill
from chexdist.report.meanings import MEANINGS
from chexdist.report.numbers import listed
from chexdist.report.plots import key
from chexdist.report.tables import (
    Table,
    all_tables,
    notices,
    order_tables,
    provenance_table,
    refused_table,
    runs_table,
    settings_tables,
)
from chexdist.report.themes import PAIRS, THEMES, Theme, themes


def as_page(runs: list[RunRecord], measured: list[Measured], with_real: bool) -> str:
    """The page. Raises UserError when a picture is damaged."""
    folder = resources.files("chexdist.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((folder / "page.html.jinja").read_text(encoding="utf-8"))
    differing, shared = settings_tables(runs)
    found = themes(measured, runs)
    of_theme = {name: list[Card]() for name in THEMES} | {each.name: cards(each, runs) for each in found}
    directions = dict.fromkeys(THEMES, "") | {each.name: _unbroken(_directions(each)) for each in found}
    return template.render(
        title=summary.title(runs),
        sentence=_unbroken(summary.sentence(runs, measured)),
        version=__version__,
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),  # ours: nothing of a run is in it
        names=[run.name for run in runs],
        keys=[key(number) for number in range(len(runs))],
        notices=ill(runs) + notices(runs, measured),
        glance=samples.at_a_glance(runs, with_real),
        runs_table=runs_table(runs),
        orders=order_tables(runs, measured),
        cards=of_theme,
        directions=directions,
        meanings={name: {} for name in THEMES} | {theme.name: _meanings(theme) for theme in found},
        pair_labels=_labels(found, PAIRS),
        losses=losses(runs),
        over_time=samples.over_time(runs),
        figures=samples.figures(runs, with_real),
        interpolations=samples.interpolations(runs),
        verdicts=verdicts(measured, runs),
        closest=closest_table(runs),
        pairs=samples.closest_pairs(runs) if with_real else [],
        with_real=with_real,
        refused=refused_table(runs),
        differing=differing,
        shared=shared,
        provenance=provenance_table(runs),
    )


def page_tables(runs: list[RunRecord], measured: list[Measured]) -> list[Table]:
    """Every table of the page, in its order."""
    found: list[Table] = []
    for theme in themes(measured, runs):
        for card in cards(theme, runs):
            found += [card.table, *card.of_classes]
    closest = closest_table(runs)
    return all_tables(runs, measured, [*found, closest] if closest else found)


def _unbroken(text: str) -> str:
    """With spaces within a number at which no line is broken."""
    return text.replace(" × ", "\u00a0×\u00a0").replace(" %", "\u00a0%")


def _labels(found: list[Theme], name: str) -> list[str]:
    """The metrics of a theme, each once."""
    measured = [each for theme in found if theme.name == name for each in theme.measured]
    return list(dict.fromkeys(each.label for group in measured for each in group.comparisons))


def _meanings(theme: Theme) -> dict[str, str]:
    """What the metrics of a theme are, by their labels, in the order of the registry."""
    measured = {each.base for group in theme.measured for each in group.comparisons}
    return {label_of(base): text for base, text in MEANINGS.items() if base in measured}


def _directions(theme: Theme) -> str:
    """`KID × 1000 and FID: lower is better.`, for the metrics of a theme."""
    labels: dict[str, dict[str, None]] = {}
    for group in theme.measured:
        for each in group.comparisons:
            if each.spec:
                labels.setdefault(BETTER[each.spec.better], {})[each.label] = None
    return " ".join(f"{listed(list(names))}: {words}." for words, names in labels.items())
