"""Decides in which order runs stand by a metric, and which differences between them are settled.

Two runs are compared by their paired difference (`metrics.difference`), as far as both have draws; else by
whether their intervals stand apart, which says less. Several seeds of one configuration are one row.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from chexdist.metrics.difference import Difference, Sample, paired_difference
from chexdist.metrics.value import Metric
from chexdist.report.collect import PRIVATE, RunRecord
from chexdist.report.compare import Comparison, Entry, Measured
from chexdist.report.numbers import count, listed
from chexdist.run import layout

KID = "kid_x1000"
"""What the runs are ranked by: the metric that is unbiased with few images; lower is better."""
SEED = "train.seed"


@dataclass(frozen=True)
class Contender:
    """A run, or the seeds of one configuration: one row of a ranking."""

    label: str
    comparison: Comparison
    entries: list[Entry]

    @property
    def metrics(self) -> list[Metric]:
        return [entry.metric for entry in self.entries]

    @property
    def value(self) -> float:
        """The number, or the mean of those of several seeds."""
        return fmean(metric.value for metric in self.metrics)

    @property
    def distances(self) -> list[float]:
        """What each seed is ordered by: the lower, the better. Not known of an unknown metric."""
        spec = self.comparison.spec
        return [spec.distance(metric) for metric in self.metrics] if spec else []

    @cached_property
    def sample(self) -> Sample | None:
        """What differences are taken of: the mean of the seeds' numbers, or of their distances to the number
        of real X-rays where nearer to it is better. None where one has no draws.
        """
        spec, samples = self.comparison.spec, []
        for entry in self.entries:
            sample = entry.measured.sample
            if sample and spec and spec.better == "near real":
                real = entry.measured_real.sample if entry.measured_real else None
                sample = sample.distance_to(real) if real else None
            if sample is None:
                return None
            samples.append(sample)
        return Sample.mean(samples)


@dataclass(frozen=True)
class Standing:
    """A contender, the places in the order that it may have, and its difference from the first, if known.

    settled: whether it is worse than the first beyond doubt.
    """

    contender: Contender
    first: int
    last: int
    difference: Difference | None
    settled: bool

    @property
    def order(self) -> str:
        """`1`, or `2 to 3` where the order of two is not settled."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Verdict:
    """better: -1 the first, 1 the second, 0 not settled; difference: the first's less the second's."""

    better: int
    difference: Difference | None


def verdict(a: Contender, b: Contender) -> Verdict:
    """Which of two contenders of one comparison is better.

    Settled where the paired difference says so, and each seed of the one is better than each of the other:
    draws know patients and images, not seeds.
    """
    spec = a.comparison.spec
    if spec is None:
        return Verdict(0, None)
    apart = -int(max(a.distances) < min(b.distances)) + int(max(b.distances) < min(a.distances))
    if a.sample and b.sample:
        difference = paired_difference(a.sample, b.sample)
        better = -difference.sign if spec.better == "higher" else difference.sign
        return Verdict(better if better == apart else 0, difference)
    return Verdict(apart if _intervals_apart(a, b) else 0, None)


def _intervals_apart(a: Contender, b: Contender) -> bool:
    """Whether no two intervals overlap, and all are on one side of the real X-rays where that counts."""
    metrics = [*a.metrics, *b.metrics]
    near_real = a.comparison.spec is not None and a.comparison.spec.better == "near real"
    if near_real or any(metric.low is None for metric in metrics):
        return False
    return all(
        (x.high or 0.0) < (y.low or 0.0) or (y.high or 0.0) < (x.low or 0.0)
        for x in a.metrics
        for y in b.metrics
    )


def ranking(comparison: Comparison, runs: list[RunRecord]) -> list[Standing]:
    """The contenders of a comparison, best first; nothing of a metric that this version does not know."""
    if comparison.spec is None:
        return []
    ordered = sorted(contenders(comparison, runs), key=lambda each: fmean(each.distances))
    verdicts = [[verdict(a, b) for b in ordered] for a in ordered]
    return [
        Standing(
            contender=each,
            first=1 + sum(row[number].better == -1 for row in verdicts),
            last=len(ordered) - sum(row[number].better == 1 for row in verdicts),
            difference=verdicts[number][0].difference if number else None,
            settled=verdicts[0][number].better == -1,
        )
        for number, each in enumerate(ordered)
    ]


def contenders(comparison: Comparison, runs: list[RunRecord]) -> list[Contender]:
    """The runs of a comparison; those that differ in their seed alone, after as many images, are one."""
    groups: dict[object, list[Entry]] = {}
    for entry in comparison.entries:
        run = runs[entry.run]
        mates = groups.setdefault(_configuration(run, entry), [])
        if any(_seed(runs, mate) == _seed(runs, entry) for mate in mates):
            mates = groups.setdefault(entry.run, [])  # a copy of a run tells nothing of other seeds
        mates.append(entry)
    return [
        Contender(listed([runs[entry.run].name for entry in entries]), comparison, entries)
        for entries in groups.values()
    ]


def _configuration(run: RunRecord, entry: Entry) -> object:
    """Equal for seeds of one configuration: all settings but the seed and where things are, the shards, and
    the images seen.
    """
    if SEED not in run.settings:
        return entry.run
    decides = {key: value for key, value in run.settings.items() if key != SEED and key not in PRIVATE}
    return (*sorted(decides.items()), run.provenance.get("manifest"), entry.metric.images)


def _seed(runs: list[RunRecord], entry: Entry) -> str | None:
    return runs[entry.run].settings.get(SEED)


def against_mean_image(entry: Entry) -> Difference | None:
    """A run's number less that of always drawing the mean image; None without both draws."""
    sample = entry.measured.sample
    mean = entry.measured_mean_image.sample if entry.measured_mean_image else None
    return paired_difference(sample, mean) if sample and mean else None


def budgets(ranked: list[Contender], runs: list[RunRecord]) -> str:
    """What must be said beside a ranking of trainings of different length; empty where they are equal, and of
    pictures whose training nobody knows.
    """
    ranked = [each for each in ranked if runs[each.entries[0].run].state != layout.PICTURES]
    images = [each.metrics[0].images for each in ranked]
    steps = [each.metrics[0].step for each in ranked]
    if len(set(images)) > 1:
        what, values = "images seen", images
    elif len(set(steps)) > 1:
        what, values = f"generator steps over {count(images[0])} images", steps
    else:
        return ""
    each = listed([f"{one.label} {count(value)}" for one, value in zip(ranked, values, strict=True)])
    return f"Unequal budgets ({what}): {each}. A longer training may be ahead for that."


def seeds_note(ranked: list[Contender]) -> str:
    """How far a ranking speaks of configurations."""
    if all(len(each.entries) == 1 for each in ranked):
        return "One training each: this orders these runs, not their configurations."
    return (
        "Several seeds of one configuration are one row, with their mean and range; the order of two rows is "
        "settled only where each seed of the one is better than each of the other."
    )


def chosen(measured: list[Measured], base: str, of_class: str = "") -> Comparison | None:
    """Of several comparisons of one metric, the one that says most: of the most runs, then of those with
    draws, then of the most images. None where it was not measured.
    """
    found = [
        each
        for group in measured
        for each in group.comparisons
        if each.base == base and each.of_class == of_class and each.entries
    ]

    def says(each: Comparison) -> tuple[int, int, int]:
        with_draws = sum(entry.measured.sample is not None for entry in each.entries)
        return (len(each.entries), with_draws, each.entries[0].metric.n)

    return max(found, key=says, default=None)
