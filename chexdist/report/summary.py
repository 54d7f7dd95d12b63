"""Decides what one sentence says: which run is nearest to real X-rays by KID, as far as intervals allow."""

from chexdist.report.collect import RunRecord
from chexdist.report.compare import Comparison, Entry, Measured
from chexdist.report.numbers import count, decimals_for, in_words, listed, number, with_interval
from chexdist.report.tables import size_text

KID = "kid_x1000"
"""What the runs are ranked by: the metric that is unbiased with few images; lower is better."""


def title(runs: list[RunRecord]) -> str:
    return (
        f"Chest X-ray GAN {runs[0].name}"
        if len(runs) == 1
        else f"{in_words(len(runs)).capitalize()} chest X-ray GANs side by side"
    )


def sentence(runs: list[RunRecord], measured: list[Measured]) -> str:
    """Which run is nearest to held-out patients by KID, and whether its interval stands apart."""
    comparisons = [
        each
        for group in measured
        for each in group.comparisons
        if each.base == KID and not each.of_class and each.entries
    ]
    if not comparisons:
        return (
            "No KID has been measured for these runs, so nothing is said about which is nearer to real "
            "X-rays."
        )
    # The most runs, then the most images behind the numbers.
    chosen = max(comparisons, key=lambda each: (len(each.entries), each.entries[0].metric.n))
    ranked = sorted(chosen.entries, key=lambda entry: entry.metric.value)
    best = ranked[0]
    metric = best.metric
    shown = with_interval(metric.value, metric.low, metric.high)
    text = f"{_subject(runs, chosen, best)} a {chosen.label} of {shown} "
    text += f"after {count(metric.images)} images{_yardsticks(best)}"
    overlapping = [runs[entry.run].name for entry in ranked[1:] if _overlap(best, entry)]
    if overlapping:
        text += (
            f", but its 95 % interval overlaps that of {listed(overlapping)}, so their order is not settled"
        )
    return text + "."


def _subject(runs: list[RunRecord], chosen: Comparison, best: Entry) -> str:
    name, size = runs[best.run].name, size_text(runs[best.run])
    if len(chosen.entries) == 1:
        others = f", the only one of {in_words(len(runs))} runs with such a number," if len(runs) > 1 else ""
        return f"At {size}, {name}{others} has"
    some = f"the {in_words(len(runs))} GANs"
    if len(chosen.entries) < len(runs):
        some = f"the {in_words(len(chosen.entries))} GANs that were measured in the same way"
    return f"Of {some} at {size}, {name} is nearest to held-out patients, with"


def _yardsticks(best: Entry) -> str:
    """The number of real X-rays and of the mean image, and whether this one is better than the latter."""
    parts = []
    decimals = decimals_for(best.metric.value, best.metric.low, best.metric.high)
    if best.real_baseline is not None:
        parts.append(f"real X-rays: {number(best.real_baseline, decimals)}")
    if best.mean_image:
        not_beaten = "" if best.metric.value < best.mean_image.value else ", which it does not beat"
        parts.append(f"always the mean image: {number(best.mean_image.value, decimals)}{not_beaten}")
    return f" ({'; '.join(parts)})" if parts else ""


def _overlap(a: Entry, b: Entry) -> bool:
    """Without an interval nothing stands apart."""
    if a.metric.high is None or b.metric.low is None:
        return True
    return b.metric.low <= a.metric.high
