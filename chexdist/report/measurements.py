"""Decides which number counts where several measured the same, and finds its draws.

The log outranks evaluations: an evaluation is a file of its own, which may come from anywhere, so one that
contradicts the log is not shown, and its contradiction is.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from chexdist.metrics.difference import Sample
from chexdist.metrics.value import Metric
from chexdist.report.numbers import count, decimals_for, number
from chexdist.run import draws

BASELINES = ("real", "mean_image")
"""Last parts of a metric's name that say what was measured instead of generated images."""
ROUNDING = 0.01  # of an interval's width: what another device changes


@dataclass(frozen=True)
class Measurement:
    """A number, what measured it (the log, or an evaluation's folder), its seed, and the files that may hold
    its draws.
    """

    metric: Metric
    source: str
    seed: str
    files: tuple[Path, ...]

    @property
    def key(self) -> tuple[int, str | None, str]:
        """What two measurements of the same have in common; baselines are the same after any images."""
        metric = self.metric
        return (0 if is_baseline(metric.name) else metric.images, metric.protocol, metric.name)

    @property
    def sample(self) -> Sample | None:
        """The number with its draws; None where there are none, or none that could be its own.

        Raises:
            UserError: a file of draws is damaged.
        """
        for file in self.files:
            found = _read(file).get((self.metric.protocol or "", self.metric.name))
            if found is not None and _may_be_of(self.metric.value, found):
                return Sample(self.metric.value, found)
        return None

    def agrees(self, other: "Measurement") -> bool:
        """Whether two numbers are the same but for rounding."""
        mine = self.metric
        width = abs(mine.value) if mine.low is None or mine.high is None else mine.high - mine.low
        return abs(mine.value - other.metric.value) <= ROUNDING * width


def is_baseline(name: str) -> bool:
    """Whether a metric's name says that no generated image was measured."""
    return name.rpartition("/")[2] in BASELINES


def counted(
    logged: list[Measurement], evaluated: list[Measurement], seed: str
) -> tuple[list[Measurement], list[str]]:
    """One measurement of each name, protocol and number of images, and what contradicts the log.

    The last of the log, else of the evaluations that of the lowest seed. `seed` is what training samples
    with: an evaluation with another draws other images, so it may differ within the log's interval.
    """
    log = {each.key: each for each in logged}
    found = dict(log)
    contradictions = []
    for each in sorted(evaluated, key=lambda each: (len(each.seed), each.seed, each.source)):
        if each.key not in log:
            found.setdefault(each.key, each)
            continue
        known = log[each.key]
        if known.agrees(each):
            found[each.key] = replace(known, files=found[each.key].files + each.files)
        elif each.seed == seed or is_baseline(each.metric.name) or not _inside(each.metric, known.metric):
            contradictions.append(_contradiction(each, known.metric))
    return list(found.values()), contradictions


def _inside(metric: Metric, other: Metric) -> bool:
    return other.low is not None and other.high is not None and other.low <= metric.value <= other.high


def _contradiction(evaluated: Measurement, logged: Metric) -> str:
    decimals = decimals_for(logged.value, logged.low, logged.high)
    here, there = number(evaluated.metric.value, decimals), number(logged.value, decimals)
    return (
        f"{evaluated.source} has {logged.name} {here} after {count(logged.images)} images, but the log has "
        f"{there} under the same protocol: the log counts"
    )


def _may_be_of(value: float, found: np.ndarray) -> bool:
    """Whether draws may be those of a value: an edited value is soon far away from them."""
    low, high = float(found.min()), float(found.max())
    return low - (high - low) <= value <= high + (high - low)


def _read(file: Path) -> draws.Draws:
    try:
        state = file.stat()
    except OSError:
        return {}
    return _remembered(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _remembered(file: Path, _changed: int, _size: int) -> draws.Draws:
    return draws.read(file)
