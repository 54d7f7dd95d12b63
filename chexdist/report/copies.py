"""Decides what is said of copies of training images: a verdict, and how similar the closest pairs are."""

from chexdist.metrics.value import Metric
from chexdist.report.collect import EvaluationRecord, RunRecord
from chexdist.report.compare import Measured
from chexdist.report.numbers import count, listed, number
from chexdist.report.tables import Table

RATE = "near_copy_rate"
ENOUGH = 0.1
"""The most that the interval of a rate may reach where no sign of copies is reported."""


def audited(run: RunRecord) -> EvaluationRecord | None:
    """The newest evaluation that holds closest pairs."""
    return next((each for each in reversed(run.evaluations) if each.likeness), None)


def closest_table(runs: list[RunRecord]) -> Table | None:
    """How similar the most similar generated images are to training images; None where nobody looked."""
    found = [(number, each) for number, run in enumerate(runs) if (each := audited(run))]
    if not found:
        return None
    most = max(len(evaluation.likeness) for _, evaluation in found)
    rows = [
        [
            runs[index].name,
            count(evaluation.images),
            *(number(value, 3) for value in evaluation.likeness),
            *[""] * (most - len(evaluation.likeness)),
        ]
        for index, evaluation in found
    ]
    note = (
        "1 is a training image itself, as it is, mirrored, inverted, a little turned, scaled or shifted; "
        "X-rays of two patients are similar too."
    )
    columns = ["run", "real images seen", *(f"pair {rank}" for rank in range(1, most + 1))]
    numbers: list[int | None] = [index for index, _ in found]
    return Table("Likeness of the closest pairs", note, columns, rows, numbers, numeric=True)


def verdicts(measured: list[Measured], runs: list[RunRecord]) -> list[str]:
    """A sentence on the runs whose images were audited; one for all of which the same is known."""
    newest: dict[int, Metric] = {}
    for group in measured:
        for comparison in group.comparisons:
            for entry in comparison.entries if comparison.base == RATE and not comparison.of_class else ():
                known = newest.get(entry.run)
                if known is None or (known.images, known.n) < (entry.metric.images, entry.metric.n):
                    newest[entry.run] = entry.metric
    whose: dict[str, list[str]] = {}
    for run, metric in sorted(newest.items()):
        whose.setdefault(_verdict(metric), []).append(runs[run].name)
    return [
        f"{'All' if len(names) == len(runs) > 1 else listed(names)}: {text}" for text, names in whose.items()
    ]


def _verdict(metric: Metric) -> str:
    """As `chexdist.metrics.near_copy_rate.verdict` has it, in a sentence."""
    if metric.low is None or metric.high is None:
        return "the rate has no interval, so nothing is said of copies."
    seen = f"{count(metric.n)} images audited after {count(metric.images)}"
    low, high = f"{100 * metric.low:.1f}", f"{100 * metric.high:.1f}"
    if metric.low > 0:
        return f"some images are copies of training images, {low} to {high} % of them ({seen})."
    if metric.high <= ENOUGH:
        return f"no sign of copies; at most {high} % are ({seen})."
    return f"too few images to say: up to {high} % may be copies ({seen})."
