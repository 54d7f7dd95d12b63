"""Decides what the first sentences say: which run is nearest to real X-rays by KID, as far as paired
differences, or else intervals, allow.
"""

from chexdist.report.collect import RunRecord
from chexdist.report.compare import Measured
from chexdist.report.numbers import count, decimals_for, in_words, listed, number, with_interval
from chexdist.report.ranking import (
    KID,
    Contender,
    Standing,
    against_mean_image,
    budgets,
    chosen,
    ranking,
)
from chexdist.report.tables import difference_text, size_text, value_text


def title(runs: list[RunRecord]) -> str:
    return (
        f"Chest X-ray GAN {runs[0].name}"
        if len(runs) == 1
        else f"{in_words(len(runs)).capitalize()} chest X-ray GANs side by side"
    )


def sentence(runs: list[RunRecord], measured: list[Measured]) -> str:
    """Which run is nearest to held-out patients by KID, whether that is settled, and by which budgets."""
    comparison = chosen(measured, KID)
    if not comparison:
        return (
            "No KID has been measured for these runs, so nothing is said about which is nearer to real "
            "X-rays."
        )
    standings = ranking(comparison, runs)
    best = standings[0].contender
    text = f"{_subject(runs, len(comparison.entries), best)} a {comparison.label} of {value_text(best)} "
    text += f"after {count(best.metrics[0].images)} images{_yardsticks(best)}{_order(standings)}."
    named = budgets([standing.contender for standing in standings], runs)
    return f"{text} {named}" if named else text


def _subject(runs: list[RunRecord], ranked: int, best: Contender) -> str:
    size = size_text(runs[best.entries[0].run])
    verb, nearest = ("has", "is") if len(best.entries) == 1 else ("have", "are")
    if ranked == len(best.entries):
        others = (
            f", the only one of {in_words(len(runs))} runs with such a number," if len(runs) > ranked else ""
        )
        return f"At {size}, {best.label}{others} {verb}"
    some = f"the {in_words(len(runs))} GANs"
    if ranked < len(runs):
        some = f"the {in_words(ranked)} GANs that were measured in the same way"
    return f"Of {some} at {size}, {best.label} {nearest} nearest to held-out patients, with"


def _yardsticks(best: Contender) -> str:
    """The number of real X-rays and of the mean image, and whether this one is better than the latter."""
    entry, parts = best.entries[0], []
    decimals = decimals_for(entry.metric.value, entry.metric.low, entry.metric.high)
    if entry.real_baseline is not None:
        parts.append(f"real X-rays: {number(entry.real_baseline, decimals)}")
    if entry.mean_image:
        difference = against_mean_image(entry)
        not_beaten = "" if entry.metric.value < entry.mean_image.value else ", which it does not beat"
        if difference and not difference.sign:
            not_beaten = f", from which it can't be distinguished (difference {difference_text(difference)})"
        parts.append(f"always the mean image: {number(entry.mean_image.value, decimals)}{not_beaten}")
    return f" ({'; '.join(parts)})" if parts else ""


def _order(standings: list[Standing]) -> str:
    """Which others are not behind beyond doubt, else by how much the second is."""
    unsettled = [each for each in standings[1:] if not each.settled]
    reasons = {
        "the 95 % interval of its paired difference holds 0 for": [
            each for each in unsettled if each.difference and not each.difference.sign
        ],
        "not each of its seeds is better than each of": [
            each for each in unsettled if each.difference and each.difference.sign
        ],
        "its 95 % interval overlaps that of": [each for each in unsettled if not each.difference],
    }
    if unsettled:
        text = "; ".join(
            f"{reason} {listed([each.contender.label for each in those])}"
            for reason, those in reasons.items()
            if those
        )
        return f", but {text}, so their order is not settled"
    second = next(iter(standings[1:]), None)
    if second is None or second.difference is None:
        return ""
    difference = with_interval(second.difference.value, second.difference.low, second.difference.high)
    return f"; {second.contender.label} has {difference} more against the same patients"
