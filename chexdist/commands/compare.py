"""`chexdist compare`: runs, checkpoints or seeds side by side by their paired differences, as tables and as a
check for scripts.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from chexdist.errors import UserError
from chexdist.report.collect import RunRecord, collect
from chexdist.report.compare import Comparison, Measured, compare, name_parts
from chexdist.report.numbers import NONE, decimals_for, number
from chexdist.report.ranking import (
    KID,
    Contender,
    against_mean_image,
    budgets,
    chosen,
    contenders,
    ranking,
    seeds_note,
    verdict,
)
from chexdist.report.tables import (
    class_text,
    described,
    difference_text,
    extractors_table,
    settings_tables,
    standing_text,
    value_text,
)
from chexdist.run import layout

PLAIN_WIDTH = 1000  # lines for programs are not broken


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0, or 1 where a difference that is required is not shown; raises `UserError`."""
    runs = _runs(options.runs)
    measured = compare(runs)
    shared = [each for each in measured if len(each.runs) > 1]
    if not shared:
        raise UserError(_nothing_shared(runs, measured))
    requirements = [_requirement(text, options.metric, runs, shared) for text in options.require]
    printer = _Printer(runs)
    for group in shared:
        printer.group(group)
    printer.mean_images(shared)
    printer.panel(measured)
    printer.remarks(measured, shared)
    missing = [requirement for requirement in requirements if not printer.required(requirement)]
    return 1 if missing else 0


def _runs(words: list[str]) -> list[RunRecord]:
    """Each run as it is now, or `RUN@images-N` as it was then.

    Raises:
        UserError: a directory is no run, nothing was measured then, or one is given twice.
    """
    wanted = [_checkpoint(word) for word in words]
    directories = list(dict.fromkeys(directory for directory, _ in wanted))
    found = dict(zip(directories, collect(directories), strict=True))
    runs = [found[name] if images is None else found[name].at(images) for name, images in wanted]
    names = [each.name for each in runs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{twice[0]} is given twice; name each run once, or two checkpoints as RUN@images-N")
    if len(runs) < 2:
        raise UserError(f"{words[0]}: one run alone; name two, or two checkpoints of it as RUN@images-N")
    return runs


def _checkpoint(word: str) -> tuple[str, int | None]:
    directory, _, checkpoint = word.rpartition("@")
    images = layout.images_of(checkpoint)
    return (word, None) if images is None or not directory or Path(word).exists() else (directory, images)


def _nothing_shared(runs: list[RunRecord], measured: list[Measured]) -> str:
    """Why nothing can be compared, and the cure."""
    lines = []
    for place, each in enumerate(runs):
        under = [group for group in measured if place in group.runs and not group.of_class]
        hashes = ", ".join(dict.fromkeys(group.protocol for group in under)) or "none"
        lines.append(f"{each.name} has numbers under protocol {hashes}")
    differing = _differing_fields(measured)
    fields = f" ({differing})" if differing else ""
    return (
        f"no two of these runs have a number under one protocol{fields}: {'; '.join(lines)}. Measure each "
        "with the same options, `chexdist evaluate RUN --split val --samples 512`; runs on other shards "
        "can't be compared"
    )


def _differing_fields(measured: list[Measured]) -> str:
    """`n: 64, 512`: what the known protocols of all images differ in."""
    known = [group.fields for group in measured if "extractor" in group.fields and not group.of_class]
    names = dict.fromkeys(name for fields in known for name in fields)
    values = {name: list(dict.fromkeys(fields.get(name, "none") for fields in known)) for name in names}
    return "; ".join(f"{name}: {', '.join(each)}" for name, each in values.items() if len(each) > 1)


@dataclass(frozen=True)
class _Requirement:
    """That the number of `low` is shown to be below that of `high`."""

    text: str
    low: Contender
    high: Contender


def _requirement(text: str, metric: str, runs: list[RunRecord], shared: list[Measured]) -> _Requirement:
    """What `A<B` names: rows of the ranking by the metric.

    Raises:
        UserError: it names no two of them, or the metric was not measured of both under one protocol.
    """
    from chexdist.report.ranking import contenders

    base, of_class, _ = name_parts(metric)
    found = [
        each
        for group in shared
        for each in group.comparisons
        if (each.base, each.of_class) == (base, of_class) and each.spec and len(each.entries) > 1
    ]
    labels: dict[str, None] = {}
    for comparison in sorted(found, key=_says_most):
        rows = _named(comparison, runs) | {each.label: each for each in contenders(comparison, runs)}
        labels |= dict.fromkeys(rows)
        for cut in (place for place, letter in enumerate(text) if letter == "<"):
            low, high = text[:cut].strip(), text[cut + 1 :].strip()
            if low in rows and high in rows and low != high:
                return _Requirement(text, rows[low], rows[high])
    known = sorted({each.base for group in shared for each in group.comparisons})
    if not found:
        raise UserError(
            f"--metric {metric}: these runs share no such number under one protocol; they share "
            f"{', '.join(known)}"
        )
    raise UserError(
        f"--require {text!r}: must be A<B, with two of {', '.join(labels)}, measured by {metric} under one "
        "protocol"
    )


def _says_most(comparison: Comparison) -> tuple[int, int]:
    with_draws = sum(entry.measured.sample is not None for entry in comparison.entries)
    return (-with_draws, -comparison.entries[0].metric.n)


def _named(comparison: Comparison, runs: list[RunRecord]) -> dict[str, Contender]:
    """Each run alone, by its name."""
    return {
        runs[entry.run].name: Contender(runs[entry.run].name, comparison, [entry])
        for entry in comparison.entries
    }


class _Printer:
    """Prints what the runs are compared by."""

    def __init__(self, runs: list[RunRecord]) -> None:
        self.runs = runs
        self.terminal = sys.stdout.isatty()
        self.console = Console(width=None if self.terminal else PLAIN_WIDTH, markup=False, highlight=False)

    def group(self, group: Measured) -> None:
        """Every metric of one protocol that several runs have: the rows best first."""
        title = f"{class_text(group.of_class)}: {described(group, self.runs)}"
        columns = ["metric", "order", "run", "value [95 %]", "real", "less the first"]
        rows = []
        for comparison in group.comparisons:
            standings = ranking(comparison, self.runs)
            for standing in standings if len(standings) > 1 else ():
                real = standing.contender.entries[0].real_baseline
                rows.append(
                    [
                        _label(comparison) if standing is standings[0] else "",
                        standing.order,
                        standing.contender.label,
                        value_text(standing.contender),
                        NONE if real is None else number(real, decimals_for(real, None, None)),
                        difference_text(standing.difference),
                        standing_text(standing, standings[0]),
                    ]
                )
        self.table(title, [*columns, "settled?"], rows)

    def mean_images(self, shared: list[Measured]) -> None:
        """Whether each run is better than always drawing the mean image, by the same rule."""
        comparison = chosen(shared, KID)
        rows = []
        for entry in comparison.entries if comparison else ():
            difference = against_mean_image(entry)
            if entry.mean_image:
                words = {-1: "yes", 1: "no", 0: "not settled"}[difference.sign] if difference else "no draws"
                shown = [f"{entry.metric.value:.4g}", f"{entry.mean_image.value:.4g}"]
                rows.append([self.runs[entry.run].name, *shown, difference_text(difference), words])
        columns = ["run", "KID × 1000", "mean image", "difference [95 %]", "better?"]
        self.table("Better than always drawing the mean image?", columns, rows)

    def panel(self, measured: list[Measured]) -> None:
        """Where extractors disagree on an order."""
        found = extractors_table(measured, self.runs)
        if found:
            self.table(f"{found.title}. {found.note}", found.columns, found.rows)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        if not rows:
            return
        shown = Table(box=SIMPLE if self.terminal else None, pad_edge=False)
        for place, column in enumerate(columns):
            shown.add_column(column, no_wrap=not self.terminal or place < 4)
        for row in rows:
            shown.add_row(*row)
        self.line(title)
        self.console.print(shown)
        self.line("")

    def line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def remarks(self, measured: list[Measured], shared: list[Measured]) -> None:
        """What must be known beside the order: budgets, seeds, settings, what is missing."""
        comparison = chosen(shared, KID) or shared[0].comparisons[0]
        ranked = contenders(comparison, self.runs)
        for text in (budgets(ranked, self.runs), seeds_note(ranked)):
            if text:
                self.line(text)
        differing, _ = settings_tables(self.runs)
        if differing and differing.rows:
            self.line(f"Settings that differ: {', '.join(row[0] for row in differing.rows)}.")
        for each in self.runs:
            for contradiction in each.contradictions:
                self.line(f"{each.name}: {contradiction}.")
        self.without_draws(shared)
        self.alone(measured)

    def without_draws(self, shared: list[Measured]) -> None:
        """Which differences can't be computed in pairs, and how they could be."""
        missing: dict[int, tuple[int, int]] = {}
        for group in shared:
            for entry in (entry for each in group.comparisons for entry in each.entries):
                if entry.metric.low is not None and entry.measured.sample is None and not group.are_pairs:
                    missing.setdefault(entry.run, (entry.metric.images, entry.metric.n))
        for run, (images, n) in missing.items():
            owner = self.runs[run]
            seed = owner.settings.get("train.seed", "0")
            self.line(
                f"{owner.name} has no draws of what was measured after {images:,} images, so no paired "
                f"difference from it: `chexdist evaluate {owner.path} --checkpoint {layout.after(images)} "
                f"--split {owner.settings.get('eval.split', 'val')} --samples {n} --seed {seed}` makes them."
            )

    def alone(self, measured: list[Measured]) -> None:
        """What only one run has, and is therefore compared with nothing."""
        for place, each in enumerate(self.runs):
            own = [group for group in measured if group.runs == {place} and not group.of_class]
            labels = dict.fromkeys(
                f"{comparison.label} (protocol {group.protocol})"
                for group in own
                for comparison in group.comparisons
            )
            if labels:
                self.line(
                    f"Of {each.name} alone under these protocols, so not compared: {', '.join(labels)}."
                )

    def required(self, requirement: _Requirement) -> bool:
        """Print whether what is required is shown."""
        found, spec = verdict(requirement.low, requirement.high), requirement.low.comparison.spec
        below = -1 if spec is None or spec.better != "higher" else 1
        shown = found.better == below
        label = _label(requirement.low.comparison)
        difference = difference_text(found.difference) if found.difference else "no draws"
        self.line(
            f"required {requirement.text} by {label}: {'shown' if shown else 'NOT shown'}; difference "
            f"{difference}"
        )
        return shown


def _label(comparison: Comparison) -> str:
    spec = comparison.spec
    near = spec is not None and spec.better == "near real"
    return f"{comparison.label}, distance from real" if near else comparison.label
