"""Decides what is shown under one heading: by what metrics tell; the runs' own extractor before others."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from chexdist.metrics import METRICS, MetricSpec
from chexdist.report.collect import RunRecord
from chexdist.report.compare import Comparison, Measured, label_of
from chexdist.report.numbers import listed

DISTANCE, DIVERSITY, LABELS = "distance", "diversity", "labels"
COPIES, PAIRS, OTHER = "copies", "pairs", "other"
THEMES = (DISTANCE, DIVERSITY, LABELS, OTHER, PAIRS, COPIES)
"""What numbers tell, in the page's order."""
PER_METRIC = ("reference_split", "n", "trained_on", "chance", "calibrating", "planted")
"""Fields of a protocol in which metrics of one measurement may differ."""


@dataclass
class Block:
    """What was measured in one way, of all images and by class.

    Each metric of a class stands here under one protocol, so its numbers may be compared; two metrics may
    have two protocols, which differ in PER_METRIC alone. folded: whether other blocks have all of it.
    """

    fields: dict[str, str]
    comparisons: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    own_fields: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    folded: bool = False

    def takes(self, comparison: Comparison, fields: dict[str, str]) -> bool:
        """Whether a comparison can stand here: not beside another of its kind, nor of another split, nor, for
        its class, of another number of images; training images are as many as there are.
        """
        if (comparison.base, comparison.of_class) in self.comparisons:
            return False
        own = held_out(fields, comparison.of_class)
        for (_, of_class), each in self.own_fields.items():
            here = held_out(each, of_class)
            if own and here and (own[0] != here[0] or (of_class == comparison.of_class and own != here)):
                return False
        return True

    def add(self, comparison: Comparison, fields: dict[str, str]) -> None:
        key = (comparison.base, comparison.of_class)
        self.comparisons[key], self.own_fields[key] = comparison, fields

    @property
    def covers(self) -> set[tuple[int, str, bool]]:
        """The runs of which it has a metric, and whether over training."""
        return {
            (run, base, over_training)
            for (base, _), comparison in self.comparisons.items()
            for run, over_training in [
                *((entry.run, False) for entry in comparison.entries),
                *((run, True) for run, course in comparison.curves.items() if len(course) > 1),
            ]
        }

    @property
    def parts(self) -> list[Measured]:
        """All images, then each class; of a metric of one class alone, that class."""
        return [self._part(of_class) for of_class in sorted({of_class for _, of_class in self.comparisons})]

    def _part(self, of_class: str) -> Measured:
        found = {base: each for (base, name), each in self.comparisons.items() if name == of_class}
        own = {base: found[base] for base in sorted(found, key=_number)}
        fields = dict(self.fields)
        for name in PER_METRIC:
            values: dict[str, list[str]] = {}
            for base in own:
                if name in (known := self.own_fields[base, of_class]):
                    values.setdefault(known[name], []).append(label_of(base))
            if len(values) == 1 and sum(map(len, values.values())) == len(own):
                fields[name] = next(iter(values))
            elif values:
                fields[name] = "; ".join(f"{value} ({listed(labels)})" for value, labels in values.items())
        protocols = ", ".join(dict.fromkeys(each.protocol for each in own.values()))
        return Measured(protocols, of_class, fields, [*own.values()])


@dataclass(frozen=True)
class Theme:
    """Blocks of one of THEMES, those that are folded last."""

    name: str
    blocks: list[Block]

    @property
    def measured(self) -> Iterable[Measured]:
        return (part for block in self.blocks for part in block.parts)


def themes(measured: list[Measured], runs: list[RunRecord]) -> list[Theme]:
    """All that was measured, under the headings that have something."""
    found: dict[str, dict[tuple[object, ...], list[Block]]] = {name: {} for name in THEMES}
    for group in measured:
        known = [spec for each in group.comparisons if (spec := each.spec)]
        of_group = _theme(known[0]) if known else OTHER
        key = _key(group)
        for comparison in group.comparisons:
            # An unknown metric, as of an earlier release, stands beside those that it was measured with.
            name = _theme(comparison.spec) if comparison.spec else of_group
            blocks = found[name].setdefault(key, [])
            block = next((each for each in blocks if each.takes(comparison, group.fields)), None)
            if block is None:
                blocks.append(block := Block({k: v for k, v in group.fields.items() if k not in PER_METRIC}))
            block.add(comparison, group.fields)
    extractors = {run.settings.get("eval.extractor", "") for run in runs}
    return [
        Theme(name, _ordered([block for blocks in by_key.values() for block in blocks], extractors))
        for name, by_key in found.items()
        if by_key
    ]


def held_out(fields: dict[str, str], of_class: str) -> tuple[str, str] | None:
    """The split of held-out images of a protocol, and how many were generated; None for training images."""
    split = fields.get("reference_split", "").removesuffix(f", class {of_class}")
    return None if split == "train" or split.startswith("train,") else (split, fields.get("n", ""))


def _theme(spec: MetricSpec) -> str:
    if spec.computed_from == "features":
        return DISTANCE if spec.better == "lower" else DIVERSITY
    themes = {"pairs": PAIRS, "own pairs": DIVERSITY, "classifier": LABELS, "likeness": COPIES}
    return themes[spec.computed_from]


def _key(group: Measured) -> tuple[object, ...]:
    """Equal for protocols of one measurement; a protocol of unknown fields is one of its own."""
    if not group.fields:
        return ("protocol", group.protocol)
    return tuple(sorted((k, v) for k, v in group.fields.items() if k not in PER_METRIC))


def _number(base: str) -> int:
    """A metric's number among those that this version measures; last, of another."""
    return [*METRICS].index(base) if base in METRICS else len(METRICS)


def _ordered(blocks: list[Block], extractors: set[str]) -> list[Block]:
    """Those first that say most, and those folded of which others have each number of each run."""

    def rank(block: Block) -> tuple[object, ...]:
        foreign = "extractor" in block.fields and block.fields["extractor"] not in extractors
        n = max(entry.metric.n for each in block.comparisons.values() for entry in each.entries)
        covers = block.covers
        courses = [_number(base) for _, base, over_training in covers if over_training]
        first = min(courses, default=len(METRICS))
        return (foreign, -len({run for run, _, _ in covers}), first, -len(courses), -len(covers), -n)

    seen: set[tuple[int, str, bool]] = set()
    ordered = sorted(blocks, key=rank)
    for block in ordered:
        covers = block.covers
        block.folded = covers <= seen
        seen |= covers
    return sorted(ordered, key=lambda block: block.folded)
