"""Decides which numbers may stand side by side: those of one metric, of one class, under one protocol."""

from dataclasses import dataclass, field

from chexdist.metrics import FORMER, METRICS, MetricSpec
from chexdist.metrics.value import Metric
from chexdist.report.collect import RunRecord
from chexdist.report.files import tidy
from chexdist.report.measurements import BASELINES, Measurement
from chexdist.run import layout


@dataclass(frozen=True)
class Entry:
    """A run's newest number, and what stands beside it under the same protocol."""

    run: int
    measured: Measurement
    measured_real: Measurement | None
    measured_mean_image: Measurement | None
    untrained: Metric | None

    @property
    def metric(self) -> Metric:
        return self.measured.metric

    @property
    def real(self) -> Metric | None:
        return self.measured_real.metric if self.measured_real else None

    @property
    def mean_image(self) -> Metric | None:
        return self.measured_mean_image.metric if self.measured_mean_image else None

    @property
    def real_baseline(self) -> float | None:
        """The same between real images."""
        return self.real.value if self.real else self.metric.real_baseline


@dataclass(frozen=True)
class Comparison:
    """Numbers that were measured in one way; `curves` holds each run's over training, oldest first."""

    base: str
    of_class: str
    protocol: str
    entries: list[Entry] = field(default_factory=list)
    curves: dict[int, list[Metric]] = field(default_factory=dict)

    @property
    def spec(self) -> MetricSpec | None:
        """What is known of the metric; None for one that this version does not measure."""
        return (METRICS | FORMER).get(self.base)

    @property
    def label(self) -> str:
        return label_of(self.base)


@dataclass(frozen=True)
class Measured:
    """All comparisons under one protocol. `fields` are the protocol's, as far as they are known."""

    protocol: str
    of_class: str
    fields: dict[str, str]
    comparisons: list[Comparison]

    @property
    def are_pairs(self) -> bool:
        known = [each.spec for each in self.comparisons if each.spec]
        return bool(known) and all(spec.computed_from in ("pairs", "own pairs") for spec in known)

    @property
    def runs(self) -> set[int]:
        return {entry.run for comparison in self.comparisons for entry in comparison.entries}


def label_of(base: str) -> str:
    """What people read for a metric's name."""
    known = METRICS | FORMER
    return known[base].label if base in known else tidy(base)


def name_parts(name: str) -> tuple[str, str, str]:
    """`kid_x1000/finding/real` -> metric, class, baseline; class and baseline may be empty."""
    base, *rest = name.split("/")
    baseline = rest.pop() if rest and rest[-1] in BASELINES else ""
    return base, "/".join(rest), baseline


def compare(runs: list[RunRecord]) -> list[Measured]:
    """Every protocol with its numbers; features before pairs, overall before classes, most runs first."""
    found: dict[tuple[str, str, str], Comparison] = {}
    for number, run in enumerate(runs):
        by_key: dict[tuple[str, str, str], dict[str, dict[int, Measurement]]] = {}
        for each in run.measurements:
            metric = each.metric
            base, of_class, baseline = name_parts(metric.name)
            # Numbers without a protocol were measured in nobody knows what way: comparable to none.
            key = (base, of_class, metric.protocol or f"not recorded for {run.name}")
            by_key.setdefault(key, {}).setdefault(baseline, {})[metric.images] = each
        for key, kinds in by_key.items():
            if "" not in kinds:
                continue
            comparison = found.setdefault(key, Comparison(*key))
            newest = {kind: measured[max(measured)] for kind, measured in kinds.items()}
            course = {images: kinds[""][images].metric for images in sorted(kinds[""])}
            if run.state == layout.PICTURES:
                course.pop(0, None)  # nobody said after how many images, which is not untrained
            comparison.entries.append(
                Entry(number, newest[""], newest.get("real"), newest.get("mean_image"), course.get(0))
            )
            if course:
                comparison.curves[number] = [*course.values()]
    fields = {
        name: each
        for run in runs
        for evaluation in run.evaluations
        for name, each in evaluation.protocols.items()
    }
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in found.values():
        groups.setdefault((comparison.protocol, comparison.of_class), []).append(comparison)
    measured = [
        Measured(protocol, of_class, fields.get(protocol, {}), sorted(group, key=_base_rank))
        for (protocol, of_class), group in groups.items()
    ]
    return sorted(measured, key=_rank)


def _base_rank(comparison: Comparison) -> tuple[int, str]:
    known = list(METRICS)
    return (known.index(comparison.base) if comparison.base in known else len(known), comparison.base)


def _rank(measured: Measured) -> tuple[object, ...]:
    first = measured.comparisons[0]
    return (
        measured.are_pairs,
        _base_rank(first),
        measured.of_class != "",
        measured.of_class,
        -len(measured.runs),
        measured.protocol,
    )
