"""`scaling`: seconds of a batch on 1, 2 and 4 DDP ranks, beside a formula and as many trainings apart.

Weak: each rank has a batch of fixed size. Strong: all ranks share one. Trainings apart compute what the ranks
do and sum nothing up, so that what processes take from each other on shared cores is on both sides.

    t(W) = computing a share + all-reduces

with what trainings apart take for the share, and `Ring` with constants measured between W ranks.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from benchmarks.alternate import Comparison, Effort, Side, alternate, compare
from benchmarks.step import Setting as Common
from benchmarks.step import configuration, draw_pixels
from benchmarks.worlds import Processes, Traffic
from chexdist.config.tree import Config
from chexdist.doctor.launches import ARITHMETIC, LAUNCH, Work, work_of
from chexdist.doctor.peers import SUMMED

WORLDS = (1, 2, 4)
BEYOND = (8, 64, 1024)
KINDS = ("weak", "strong")
CALLS = {4: 100, SUMMED: 4}
"""All-reduces in a timing, by their bytes."""
CLASSES = 2
DEAR = 10
"""All-reduces are cheap where they take less than one of so many parts of a batch."""
COLUMNS = (
    "images a rank", "computing, ms", "all-reduces, ms", "formula, ms", "measured, ms",
    "efficiency by formula", "measured", "least to greatest",
)  # fmt: skip


@dataclass(frozen=True)
class Ring:
    """A network, by what a ring all-reduce makes of it: bytes/s each way, seconds of a message.

    Of B bytes, each of W ranks sends 2 (W - 1) messages of B / W, one after the other (Patarasuk and Yuan
    2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"). It is what gloo does.
    """

    bandwidth: float
    latency: float

    @classmethod
    def between(cls, ranks: int, few: float, many: float) -> "Ring":
        """From the seconds of all-reduces of 4 and of `SUMMED` bytes."""
        messages = 2 * (ranks - 1)
        return cls(messages / ranks * SUMMED / (many - few), few / messages)

    def seconds(self, ranks: int, traffic: Traffic) -> float:
        """Of a step."""
        messages = 2 * (ranks - 1)
        return messages / ranks * traffic.size / self.bandwidth + messages * self.latency * traffic.calls


@dataclass(frozen=True)
class Setting:
    """What is measured, and the cluster that is assumed beyond it.

    batch: images of a rank, weak; strong, all ranks share twice as many. batches: in a timing.
    """

    batch: int = 16
    widths: tuple[int, ...] = (32, 64)
    batches: int = 2
    more: tuple[str, ...] = ()
    cluster: Ring = Ring(bandwidth=12.5e9, latency=10e-6)


SHIPPED = Setting()
TINY = Setting(widths=(2, 4), batches=3, more=("--model.size", "32", "--model.latent", "8"))


@dataclass(frozen=True)
class Place:
    """So many ranks, with so many images each."""

    width: int
    ranks: int
    share: int

    @property
    def batch(self) -> int:
        return self.ranks * self.share

    @property
    def apart(self) -> str:
        return f"width {self.width}, {self.ranks} apart of {self.share}"

    @property
    def joined(self) -> str:
        """One rank has nothing to sum up: it is a training apart."""
        return f"width {self.width}, {self.ranks} ranks of {self.share}" if self.ranks > 1 else self.apart


@dataclass(frozen=True)
class Result:
    """What was measured: `rates` in images/s, and all-reduces/s, by side and round; what is worked out."""

    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    notes: list[str]
    rates: dict[str, list[float]]

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how."""
        return {
            "benchmark": "scaling",
            **about,
            "unit": "ms a batch",
            "settings": self.settings,
            "columns": list(COLUMNS),
            "rows": self.rows,
            "notes": self.notes,
            "rates": self.rates,
        }


def measure(effort: Effort, setting: Setting = SHIPPED) -> Result:
    """All rows of `scaling`.

    Raises:
        WorkError: a process died.
    """
    places = {width: list(dict.fromkeys(measured(setting.batch, width))) for width in setting.widths}
    effort = replace(effort, long=math.inf)  # a side that warms up and one that does not are no pair
    with ExitStack() as stack:
        worlds = start([place for some in places.values() for place in some], setting, stack)
        rates = alternate("scaling, all-reduces", summing(worlds), effort)
        for width, some in places.items():
            rates |= alternate(f"scaling, width {width}", training(worlds, some, setting.batches), effort)
        traffic = {
            width: worlds[2].ask(1, "traffic", (width, 2 * setting.batch))[0] for width in setting.widths
        }
    rings = {ranks: ring_of(ranks, rates) for ranks in WORLDS[1:]}
    works = {width: work_of(configured(setting, width, setting.batch), CLASSES) for width in setting.widths}
    rows = [
        found
        for width in setting.widths
        for kind in KINDS
        for found in rows_of(kind, width, setting.batch, rates, rings, traffic[width])
    ]
    for width, work in works.items():
        rows += beyond(width, setting, work, traffic[width])
    config = configured(setting, setting.widths[0], setting.batch)
    settings = {
        "GAN": "dcgan without R1",
        "size": config.model.size,
        "precision": config.train.precision,
        "group": config.train.group,
        "batches in a timing": setting.batches,
        "assumed bandwidth": f"{setting.cluster.bandwidth / 1e9:g} GB/s",
        "assumed latency": f"{setting.cluster.latency * 1e6:g} us",
    }
    return Result(settings, rows, list(notes(setting, rings, traffic, works)), rates)


def share_of(kind: str, batch: int, ranks: int) -> int:
    """Images of a rank."""
    return batch if kind == "weak" else 2 * batch // ranks


def measured(batch: int, width: int) -> Iterator[Place]:
    """All places of a width, some of them twice."""
    for kind in KINDS:
        for ranks in WORLDS:
            yield Place(width, ranks, share_of(kind, batch, ranks))


def configured(setting: Setting, width: int, batch: int) -> Config:
    """dcgan, without R1, of a width; two groups in the batch of a rank, as shipped."""
    words = ["--penalty.name", "none", "--model.width", str(width), "--train.group", str(setting.batch // 2)]
    return configuration("dcgan", Common(batch, setting.more), *words)


def start(places: list[Place], setting: Setting, stack: ExitStack) -> dict[int, Processes]:
    """Processes by world size; those of size 1 are as many as the largest world has ranks."""
    pixels = draw_pixels(configured(setting, setting.widths[0], setting.batch).model.size)
    worlds = {}
    for ranks in WORLDS:
        if ranks == 1:
            named = {(place.width, place.share) for place in places}
        else:
            named = {(place.width, place.batch) for place in places if place.ranks == ranks}
        jobs = {name: configured(setting, *name) for name in sorted(named)}
        worlds[ranks] = Processes(max(WORLDS) if ranks == 1 else ranks, ranks > 1, jobs, pixels)
        stack.callback(worlds[ranks].kill)
    for processes in worlds.values():
        processes.wait()
    return worlds


def summing(worlds: dict[int, Processes]) -> list[Side]:
    """All-reduces alone."""

    def run(ranks: int, size: int, times: int) -> float:
        return max(worlds[ranks].ask(ranks, "sum_up", size, times))

    return [
        Side(reduced(ranks, size), times, partial(run, ranks, size, times))
        for ranks in WORLDS[1:]
        for size, times in CALLS.items()
    ]


def training(worlds: dict[int, Processes], places: list[Place], batches: int) -> list[Side]:
    """Each place, by ranks and by trainings apart. A timing ends when the slowest process has ended it."""

    def run(world: int, place: Place, batch: int) -> float:
        return max(worlds[world].ask(place.ranks, "train", (place.width, batch), batches))

    sides = {}
    for place in places:
        sides[place.apart] = place, 1, place.share
        sides[place.joined] = place, place.ranks, place.batch
    return [
        Side(name, place.batch * batches, partial(run, world, place, batch))
        for name, (place, world, batch) in sides.items()
    ]


def reduced(ranks: int, size: int) -> str:
    """Name of a side of all-reduces alone."""
    return f"{ranks} ranks sum {size:,} bytes"


def ring_of(ranks: int, rates: dict[str, list[float]]) -> Ring:
    """The constants between so many ranks of this machine."""
    few, many = (1 / median(rates[reduced(ranks, size)]) for size in CALLS)
    return Ring.between(ranks, few, many)


def rows_of(
    kind: str,
    width: int,
    batch: int,
    rates: dict[str, list[float]],
    rings: dict[int, Ring],
    traffic: Traffic,
) -> Iterator[dict[str, Any]]:
    """What was measured of a width, weak or strong, beside the formula."""
    for ranks in WORLDS:
        place = Place(width, ranks, share_of(kind, batch, ranks))
        name = f"{kind}, width {width}, {ranks} rank{'s' * (ranks > 1)}"
        row = compare(Comparison(name, place.joined, place.apart), rates)
        computing = place.batch / median(rates[place.apart])
        sums = rings[ranks].seconds(ranks, traffic) if ranks > 1 else 0.0
        took = place.batch / median(rates[place.joined])
        ratio = [f"{row['ratio']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}"] if ranks > 1 else ["", ""]
        yield row | {
            "computing": computing,
            "summing": sums,
            "measured": took,
            "cells": [*formula_cells(place.share, computing, sums, ms(took)), *ratio],
        }


def beyond(width: int, setting: Setting, work: Work, traffic: Traffic) -> Iterator[dict[str, Any]]:
    """What the formula says of GPUs in the assumed cluster. Strong: a group on each of the most ranks."""
    groups = max(BEYOND) * setting.batch // 2
    for kind in KINDS:
        for ranks in BEYOND:
            share = setting.batch if kind == "weak" else groups // ranks
            computing = max(work.launching, share * work.arithmetic / ARITHMETIC)
            sums = setting.cluster.seconds(ranks, traffic)
            yield {
                "name": f"EXTRAPOLATED: {kind}, width {width}, {ranks:,} GPUs",
                "computing": computing,
                "summing": sums,
                "cells": [*formula_cells(share, computing, sums, ""), "", ""],
            }


def formula_cells(share: int, computing: float, sums: float, took: str) -> list[str]:
    """Cells up to the efficiency by formula: that of a batch in which nothing were summed is 1."""
    total = computing + sums
    return [f"{share:,}", ms(computing), ms(sums), ms(total), took, f"{computing / total:.2f}"]


def cheap_from(ranks: int, work: Work, cluster: Ring, traffic: Traffic) -> int:
    """Images of a rank from which a GPU computes for longer than it launches, and all-reduces are cheap."""
    wanted = (DEAR - 1) * cluster.seconds(ranks, traffic)
    return max(work.enough, math.ceil(wanted * ARITHMETIC / work.arithmetic))


def notes(
    setting: Setting, rings: dict[int, Ring], traffic: dict[int, Traffic], works: dict[int, Work]
) -> Iterator[str]:
    """What the numbers mean, and the constants of the formula."""
    cluster = setting.cluster
    yield (
        "measured: one thread a rank, DDP over gloo on one machine, all on the same cores; computing is what "
        "as many trainings apart take for the same share of a batch, in turn with the ranks, and efficiency "
        "is images/s against theirs. R1 is left out: it adds arithmetic to one batch of eight, and no sum"
    )
    yield (
        "formula: computing + 2 (W - 1) / W x bytes / bandwidth + 2 (W - 1) x latency x all-reduces (ring: "
        "Patarasuk and Yuan 2009), one after the other, though DDP sums all buckets but the last while it "
        "computes; it knows nothing of waiting for the slower rank. Measured on all-reduces alone: "
        + "; ".join(
            f"{ranks} ranks {ring.bandwidth / 1e9:.2f} GB/s and {ring.latency * 1e6:.0f} us"
            for ranks, ring in rings.items()
        )
    )
    yield "summed in a batch: " + "; ".join(
        f"width {width} {found.size / 1e6:.1f} MB in {found.calls} all-reduces"
        for width, found in traffic.items()
    )
    yield (
        f"EXTRAPOLATED, by the same formula, nothing of it measured: {cluster.bandwidth / 1e9:g} GB/s and "
        f"{cluster.latency * 1e6:g} us between ranks, {LAUNCH * 1e6:g} us for a launch and "
        f"{ARITHMETIC / 1e12:g} TFLOP/s are ASSUMED; computing is the longer of launching and arithmetic"
    )
    for width, work in works.items():
        needed = ", ".join(
            f"{cheap_from(ranks, work, cluster, traffic[width]):,} on {ranks:,}" for ranks in BEYOND
        )
        yield (
            f"width {width}: such a GPU computes for longer than it launches from {work.enough:,} images a "
            f"rank; and all-reduces take less than a tenth of a batch from {needed} ranks"
        )


def ms(seconds: float) -> str:
    """Milliseconds, to three digits or to the whole."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
