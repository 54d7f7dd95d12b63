"""The tables of a report as values: the page and the Markdown show the same ones."""

from collections.abc import Callable
from dataclasses import dataclass

from chexdist.metrics.difference import Difference
from chexdist.metrics.value import Metric
from chexdist.report.collect import PRIVATE, RunRecord
from chexdist.report.compare import Comparison, Entry, Measured, label_of, name_parts
from chexdist.report.files import tidy
from chexdist.report.numbers import NONE, count, decimals_for, listed, moment, number, with_interval
from chexdist.report.panel import disagreement, order_text, panels
from chexdist.report.ranking import KID, Contender, Standing, budgets, chosen, ranking, seeds_note
from chexdist.run import layout

PROVENANCE = ("started", "commit", "manifest", "versions.", "machine.", "cpus")
"""What is shown of a run's provenance; the command line and the host's name stay out."""
PROVENANCE_LABELS = {
    "started": "last start",
    "commit": "source commit",
    "manifest": "manifest of the shards, SHA-256",
    "machine.torch": "torch build",
    "machine.world_size": "processes (world size)",
    "machine.threads": "threads per process",
    "cpus": "CPUs",
}


@dataclass(frozen=True)
class Table:
    """`columns` are the headings; the first cell of a row names it. `runs`: the rows' runs, None for none."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]
    runs: list[int | None] | None = None
    numeric: bool = False


def runs_table(runs: list[RunRecord]) -> Table:
    rows = [
        [
            run.name,
            run.settings.get("model.name", NONE),
            run.settings.get("loss.name", NONE),
            _regularisation(run.settings),
            size_text(run),
            progress_text(run),
            status_text(run),
        ]
        for run in runs
    ]
    columns = ["run", "GAN", "loss", "regularisation", "image side", "real images seen", "status"]
    return Table("Runs", "", columns, rows, [*range(len(runs))])


def progress_text(run: RunRecord) -> str:
    """`120,000`, or `60,000 of 120,000` while some are missing."""
    complete = run.budget is None or run.images >= run.budget
    return count(run.images) if complete else f"{count(run.images)} of {count(run.budget or 0)}"


def size_text(run: RunRecord) -> str:
    """`64 px`"""
    size = run.settings.get("model.size", NONE)
    return size if size == NONE else f"{size} px"


def _regularisation(settings: dict[str, str]) -> str:
    penalty, clip = settings.get("penalty.name", "none"), settings.get("clip.name", "none")
    penalties = {"gp": "gradient penalty", "r1": "R1 penalty"}
    parts = []
    if penalty != "none":
        parts.append(f"{penalties.get(penalty, penalty)} × {settings.get('penalty.weight', NONE)}")
    if clip != "none":
        parts.append(f"{clip} clipping at {settings.get('clip.value', NONE)}")
    return ", ".join(parts) or ("nothing" if "loss.name" in settings else NONE)


def status_text(run: RunRecord) -> str:
    """`done, ...`, or `running, last status ...`, or `failed: why`."""
    written = moment(run.state_time)
    if run.state == "done":
        return f"done, {written}"
    if run.state == layout.PICTURES:
        return "pictures, of whatever made them"
    if run.state == "failed":
        return f"failed: {run.cause or 'no cause was recorded'}"
    if run.state == "unknown":
        return f"unknown: no {layout.STATUS}"
    return f"{run.state}, last status {written}"


def class_text(of_class: str) -> str:
    return f"class {tidy(of_class)}" if of_class else "all images"


def described(measured: Measured, runs: list[RunRecord]) -> str:
    """One line: what the numbers were measured against, and how."""
    fields, run = measured.fields, runs[min(measured.runs)]
    if not fields and not measured.protocol.startswith("not recorded"):
        # A log alone names the protocol by its hash; these settings are what training measures by.
        fields = {"extractor": "eval.extractor", "image_size": "model.size", "reference_split": "eval.split"}
        fields = {key: run.settings.get(setting, NONE) for key, setting in fields.items()}
    parts = [f"reference split: {fields.get('reference_split', NONE)}"]
    if "image_size" in fields:
        parts.append(f"images of {fields['image_size']} px")
    if "pairing" in fields:
        parts.append(f"pairs: {fields['pairing']}")
    if "extractor" in fields:
        parts.append(f"features of {fields['extractor']}")
    word = "protocols" if ", " in measured.protocol else "protocol"
    return "; ".join([*parts, f"{word} {tidy(measured.protocol)}"])


def metric_table(measured: Measured, runs: list[RunRecord]) -> Table:
    """Runs as rows and the protocol's metrics as columns; below them real X-rays and the mean image."""
    comparisons = measured.comparisons
    rows: dict[tuple[int, int], dict[str, Entry]] = {}
    for comparison in comparisons:
        for entry in comparison.entries:
            rows.setdefault((entry.run, entry.metric.images), {})[comparison.base] = entry
    untrained = [each for each in comparisons[:1] if any(entry.untrained for entry in each.entries)]
    columns = ["run", *(f"{each.label} [95 %]" for each in comparisons)]
    columns += [f"{each.label}, untrained" for each in untrained]
    columns += ["pairs (n)" if measured.are_pairs else "generated (n)", "real images seen"]
    cells = []
    for (run, images), entries in sorted(rows.items()):
        values = [_text(entries[each.base].metric if each.base in entries else None) for each in comparisons]
        starts = [_text(entries[each.base].untrained if each.base in entries else None) for each in untrained]
        several = sorted({entry.metric.n for entry in entries.values()})
        n = " or ".join(map(count, several))
        cells.append([runs[run].name, *values, *starts, n, count(images)])
    numbers: list[int | None] = [run for run, _ in sorted(rows)]
    for label, texts in (("real X-rays", _real), ("mean image", _mean_image)):
        for names, shown in _baselines(measured, runs, texts):
            cells.append([f"{label}{names}", *shown, *[NONE] * (len(untrained) + 2)])
            numbers.append(None)
    title = f"{', '.join(each.label for each in comparisons)}: {class_text(measured.of_class)}"
    return Table(title, described(measured, runs), columns, cells, numbers, numeric=True)


def order_table(comparison: Comparison, runs: list[RunRecord]) -> Table:
    """The runs by one metric, best first, each with its paired difference from the first."""
    standings = ranking(comparison, runs)
    ranked = [standing.contender for standing in standings]
    cells = [
        [
            standing.contender.label,
            standing.order,
            value_text(standing.contender),
            difference_text(standing.difference),
            standing_text(standing, standings[0]),
            count(standing.contender.metrics[0].images),
        ]
        for standing in standings
    ]
    columns = ["run", "order", f"{comparison.label} [95 %]", "more than the first [95 %]", "order settled?"]
    columns.append("real images seen")
    note = " ".join(part for part in (budgets(ranked, runs), seeds_note(ranked), _how(comparison)) if part)
    numbers: list[int | None] = [each.entries[0].run for each in ranked]
    title = f"Order by {comparison.label}: {class_text(comparison.of_class)}"
    return Table(title, note, columns, cells, numbers, numeric=True)


def _how(comparison: Comparison) -> str:
    if any(entry.measured.sample is None for entry in comparison.entries):
        return (
            "Runs without draws are compared by whether their intervals stand apart, which settles less; "
            "`chexdist evaluate` makes them."
        )
    return "Differences are paired: under the same weights of the same patients."


def value_text(contender: Contender) -> str:
    """`616 [476, 776]`, or `620 (590 to 650, 3 seeds)`."""
    if len(contender.entries) == 1:
        return _text(contender.metrics[0])
    values = [metric.value for metric in contender.metrics]
    decimals = min(decimals_for(m.value, m.low, m.high) for m in contender.metrics)
    mean, low, high = (number(each, decimals) for each in (contender.value, min(values), max(values)))
    return f"{mean} ({low} to {high}, {len(values)} seeds)"


def difference_text(difference: Difference | None) -> str:
    """`53 [39, 69]`"""
    return with_interval(difference.value, difference.low, difference.high) if difference else NONE


def standing_text(standing: Standing, first: Standing) -> str:
    """Whether it is behind the first beyond doubt."""
    if standing is first:
        return NONE
    if standing.settled:
        return f"yes: {first.contender.label} is better"
    return "not settled" if standing.difference else "not settled, no draws"


def extractors_table(measured: list[Measured], runs: list[RunRecord]) -> Table | None:
    """Each metric's order of the runs by each extractor, and where two disagree; None for one extractor."""
    rows, names = [], dict[str, None]()
    for label, by_extractor in panels(measured, runs):
        names |= dict.fromkeys(by_extractor)
        rows.append((label, by_extractor))
    if not rows:
        return None
    cells = [
        [
            label,
            *(order_text(by_extractor[name]) if name in by_extractor else NONE for name in names),
            disagreement([*by_extractor.values()]),
        ]
        for label, by_extractor in rows
    ]
    note = "Best first; `<` where the order of two neighbours is settled, `≈` where it is not."
    return Table("Order by several extractors", note, ["metric", *names, "they"], cells)


def _baselines(
    measured: Measured, runs: list[RunRecord], text: Callable[[Entry], str]
) -> list[tuple[str, tuple[str, ...]]]:
    """One row of texts where all runs have the same, else one for each kind with the names of its runs."""
    by_run: dict[int, dict[str, str]] = {}
    for comparison in measured.comparisons:
        for entry in comparison.entries:
            by_run.setdefault(entry.run, {})[comparison.base] = text(entry)
    of_row: dict[tuple[str, ...], list[str]] = {}
    for run, texts in by_run.items():
        row = tuple(texts.get(comparison.base, NONE) for comparison in measured.comparisons)
        of_row.setdefault(row, []).append(runs[run].name)
    shown = {row: names for row, names in of_row.items() if set(row) != {NONE}}
    return [(f", beside {listed(names)}" if len(of_row) > 1 else "", row) for row, names in shown.items()]


def _real(entry: Entry) -> str:
    metric = entry.metric
    if entry.real or entry.real_baseline is None:
        return _text(entry.real)
    return number(entry.real_baseline, decimals_for(metric.value, metric.low, metric.high))


def _mean_image(entry: Entry) -> str:
    return _text(entry.mean_image)


def _text(metric: Metric | None) -> str:
    return with_interval(metric.value, metric.low, metric.high) if metric else NONE


def refused_table(runs: list[RunRecord]) -> Table | None:
    """What was not computed, by whom, and why; None when nothing was refused."""
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for run in runs:
        for evaluation in run.evaluations:
            for name, reason in evaluation.refused.items():
                names, whose = reasons.setdefault(reason, ({}, {}))
                names[name] = None
                whose[f"{run.name} ({evaluation.split}, {count(evaluation.images)} images)"] = None
    if not reasons:
        return None
    rows = [[_labels(list(names)), ", ".join(whose), reason] for reason, (names, whose) in reasons.items()]
    note = "A number that can't be right is not computed."
    return Table("Not computed", note, ["what", "run", "why"], rows)


def _labels(names: list[str]) -> str:
    """`FID`, or `KID × 1000, PSNR of class a and class b`."""
    by_class: dict[str, list[str]] = {}
    for name in names:
        base, of_class, _ = name_parts(name)
        first, space, rest = base.partition(" ")
        by_class.setdefault(of_class, []).append(f"{label_of(first)}{space}{tidy(rest)}")
    by_labels: dict[str, list[str]] = {}
    for of_class, labels in by_class.items():
        by_labels.setdefault(", ".join(labels), []).append(of_class)
    return "; ".join(
        labels if of_classes == [""] else f"{labels} of {listed([class_text(each) for each in of_classes])}"
        for labels, of_classes in by_labels.items()
    )


def settings_tables(runs: list[RunRecord]) -> tuple[Table | None, Table]:
    """Settings that differ between the runs, None for a single run; and those that they share."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings if key not in PRIVATE))
    values = {key: [_setting(run, key) for run in runs] for key in keys}
    differing = [[key, *each] for key, each in values.items() if len(set(each)) > 1]
    equal = [[key, each[0]] for key, each in values.items() if len(set(each)) == 1]
    shared = Table("Settings that all runs share", "", ["setting", "value"], equal)
    if len(runs) == 1:
        return None, Table("Settings", "", ["setting", "value"], equal)
    names = [run.name for run in runs]
    return Table("Settings that differ", "", ["setting", *names], differing), shared


def _setting(run: RunRecord, key: str) -> str:
    """A dash where the run has nothing that the setting is of, such as the weight of no penalty."""
    section, _, name = key.partition(".")
    absent = name != "name" and run.settings.get(f"{section}.name") == "none"
    return NONE if absent else run.settings.get(key, NONE)


def provenance_table(runs: list[RunRecord]) -> Table:
    """Where each run comes from: versions, machine, commit, manifest digest, evaluated checkpoints."""
    found = dict.fromkeys(
        key for run in runs for key in run.provenance if key.startswith(PROVENANCE) and key != "machine."
    )
    rows = []
    for key in sorted(found, key=lambda key: next(i for i, p in enumerate(PROVENANCE) if key.startswith(p))):
        label = PROVENANCE_LABELS.get(key, key.removeprefix("versions.").removeprefix("machine."))
        rows.append([label, *(_provenance(key, run.provenance.get(key, NONE)) for run in runs)])
    evaluated = [
        ", ".join(f"{each.folder.name}, seed {each.seed}" for each in run.evaluations) for run in runs
    ]
    if any(evaluated):
        rows.append(["evaluations", *(tidy(each) or NONE for each in evaluated)])
    return Table("Provenance", "", ["", *(run.name for run in runs)], rows)


def _provenance(key: str, value: str) -> str:
    if key == "started":
        return moment(value)
    return value[:12] if key in ("commit", "manifest") else value


def all_tables(runs: list[RunRecord], measured: list[Measured], metric_tables: list[Table]) -> list[Table]:
    """Every table, in the page's order; `metric_tables` are those of `cards`."""
    differing, shared = settings_tables(runs)
    tables = [*order_tables(runs, measured), runs_table(runs), *metric_tables]
    return [
        *tables,
        *(
            table
            for table in (refused_table(runs), differing, shared, provenance_table(runs))
            if table and table.rows
        ),
    ]


def order_tables(runs: list[RunRecord], measured: list[Measured]) -> list[Table]:
    """The order by KID where several are ranked, and the orders by several extractors."""
    comparison = chosen(measured, KID)
    tables = []
    if comparison and len(ranking(comparison, runs)) > 1:
        tables.append(order_table(comparison, runs))
    panel = extractors_table(measured, runs)
    return [*tables, panel] if panel else tables


def notices(runs: list[RunRecord], measured: list[Measured]) -> list[str]:
    """What a reader must know before comparing: unfinished runs, different data, nothing measured."""
    found = []
    for index, run in enumerate(runs):
        if run.state not in ("done", layout.PICTURES):
            found.append(f"{run.name} is {status_text(run)}. Its numbers are not those of a finished run.")
        if not any(index in each.runs for each in measured):
            found.append(f"{run.name} has no metrics yet.")
        found += [f"{run.name}: {tidy(each)}." for each in run.contradictions]
    for what, values in (
        ("image sides", [size_text(run) for run in runs]),
        ("shards", [run.provenance.get("manifest", NONE)[:12] for run in runs]),
    ):
        if len(set(values)) > 1:
            pairs = listed([f"{run.name} {value}" for run, value in zip(runs, values, strict=True)])
            found.append(
                f"The runs have different {what} ({pairs}), so their numbers are in separate tables."
            )
    return found
