"""Times sides in turn, A B C A B C ..., so that whatever else the machine does slows all of them equally."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from shards.progress import Progress


@dataclass(frozen=True)
class Side:
    """One way of doing the work. `run()` does it once, `items` images, and returns the seconds that count."""

    name: str
    items: int
    run: Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """A row of the table: the sides named `ours` and `theirs`."""

    name: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds that count, and the least seconds of a side in each.

    A round before them warms up; of a side that takes `long` seconds it counts as the first."""

    rounds: int = 7
    seconds: float = 1.0
    long: float = 10.0


def alternate(what: str, sides: list[Side], effort: Effort) -> dict[str, list[float]]:
    """Items/s of each side, round by round; the first warms up and sets how often a side runs in others."""
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    with Progress(what, (effort.rounds + 1) * len(sides), "timings") as progress:
        repeats = {}
        for side in sides:
            seconds = side.run()
            repeats[side.name] = max(1, math.ceil(effort.seconds / seconds))
            if seconds >= effort.long:
                rates[side.name].append(side.items / seconds)
            progress.advance()
        for _ in range(effort.rounds):
            for side in sides:
                if len(rates[side.name]) == effort.rounds:
                    progress.advance()
                    continue
                seconds = sum(side.run() for _ in range(repeats[side.name]))
                rates[side.name].append(repeats[side.name] * side.items / seconds)
                progress.advance()
    return rates


def compare(comparison: Comparison, rates: dict[str, list[float]]) -> dict[str, str | float]:
    """Medians of both sides; median, least and greatest of the ratios, taken round by round."""
    ours, theirs = rates[comparison.ours], rates[comparison.theirs]
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "name": comparison.name,
        "ours": median(ours),
        "theirs": median(theirs),
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }
