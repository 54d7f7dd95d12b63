"""Decides where extractors disagree: the order of the same runs by one metric in the features of several."""

from itertools import pairwise

from chexdist.report.collect import RunRecord
from chexdist.report.compare import Measured
from chexdist.report.numbers import listed
from chexdist.report.ranking import Standing, ranking, verdict

SHARED = ("image_size", "reference", "reference_split", "n")
"""Fields of a protocol that several extractors must have in common."""
Panel = tuple[str, dict[str, list[Standing]]]
"""A metric's label, and the standings of the same runs by each extractor."""


def panels(measured: list[Measured], runs: list[RunRecord]) -> list[Panel]:
    """Each metric of features of all images that several runs have from several extractors."""
    groups: dict[tuple[str, ...], tuple[str, dict[str, list[Standing]]]] = {}
    for group in measured:
        fields = group.fields
        if "extractor" not in fields or group.of_class:
            continue
        for comparison in group.comparisons:
            standings = ranking(comparison, runs)
            key = (comparison.base, *(fields.get(name, "") for name in SHARED), *_labels(standings))
            if len(standings) > 1:
                _, by_extractor = groups.setdefault(key, (comparison.label, {}))
                by_extractor.setdefault(fields["extractor"], standings)
    return [panel for panel in groups.values() if len(panel[1]) > 1]


def _labels(standings: list[Standing]) -> list[str]:
    return sorted(standing.contender.label for standing in standings)


def order_text(standings: list[Standing]) -> str:
    """`a < b ≈ c`: best first, `≈` where the order of two neighbours is not settled."""
    contenders = [standing.contender for standing in standings]
    text = contenders[0].label
    for better, worse in pairwise(contenders):
        text += f" {'<' if verdict(better, worse).better == -1 else '≈'} {worse.label}"
    return text


def disagreement(orders: list[list[Standing]]) -> str:
    """What several orders of the same contenders have not in common: pairs that are settled one way by one
    extractor and the other way by another; else those that only come in another order.
    """
    settled, ordered = [], []
    labels = [standing.contender.label for standing in orders[0]]
    by_label = [{each.contender.label: each.contender for each in order} for order in orders]
    places = [[standing.contender.label for standing in order] for order in orders]
    for number, a in enumerate(labels):
        for b in labels[number + 1 :]:
            if {verdict(named[a], named[b]).better for named in by_label} >= {-1, 1}:
                settled.append(f"{a} and {b}")
            elif len({place.index(a) < place.index(b) for place in places}) > 1:
                ordered.append(f"{a} and {b}")
    if settled:
        return f"disagree on {listed(settled)}"
    return f"agree but for what is not settled: {listed(ordered)}" if ordered else "agree"
