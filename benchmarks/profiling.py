"""`profile`: where the time of a training step goes, by phase and by operator, at the shipped setting, and
what the host takes beside operators.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import step
from benchmarks.alternate import Effort, Side, alternate
from benchmarks.bars import bars
from benchmarks.operators import HOST_IMAGES, Operator, by_operator, host_time, without_networks
from benchmarks.phases import ALL_REDUCE, PHASES, Clock, watched
from benchmarks.step import SHIPPED, Ours, Setting, configuration, draw_pixels
from benchmarks.worlds import Processes
from chexdist.config.load import load_config
from chexdist.config.tree import Config

GANS = ("dcgan", "wgan-gp", "residual")
TINY = Setting(more=(*step.TINY.more, "--penalty.every", "16"))
RANKS = 2
SHOWN = 10
"""Operators that have a row of their own."""
TARGET = 0.5e-3
"""Seconds of the host outside operators that a step of HOST_IMAGES images may take."""
NOTES = (
    "Milliseconds a batch and their share. What is not due in every batch counts with its part. Phases: "
    + "medians of periods after which all that is scheduled was due. Pictures come from memory: reading is "
    + "timed by `stream`.",
    f"all-reduce: the sums of gradients of {RANKS} ranks over gloo on this machine, one thread and as many "
    + "images each, with waiting for the other rank, and not overlapped with the backward pass. It is no "
    + "part of the batch above it, and not measured where there is a GPU.",
    "Operators: torch.profiler's, time of their own and calls in a batch; on a GPU the device's time.",
    f"host: what a batch of {HOST_IMAGES} images takes outside operators when the networks do nothing. Two "
    + "bounds: of a batch without the profiler, less the operators' time under it (too little); of one under "
    + "the profiler, which slows it down (too much).",
)

Phases = dict[str, float]
"""Seconds of a batch."""


@dataclass(frozen=True)
class Result:
    """By configuration: seconds of a batch by phase, round by round; by operator; of the host at least and at
    most; and of the all-reduce, round by round, none where it was not measured.
    """

    settings: dict[str, Any]
    phases: dict[str, list[Phases]]
    operators: dict[str, dict[str, Operator]]
    host: dict[str, tuple[float, float]]
    all_reduce: dict[str, list[float]]
    rates: dict[str, list[float]]

    def medians(self) -> dict[str, Phases]:
        """Seconds of a batch by configuration and phase, on one rank."""
        return {
            name: {phase: median(each[phase] for each in rounds) for phase in PHASES if phase != ALL_REDUCE}
            for name, rounds in self.phases.items()
        }

    def picture(self) -> str:
        """The phases as an SVG."""
        shown = {
            name: {phase: 1e3 * seconds for phase, seconds in phases.items()}
            for name, phases in self.medians().items()
        }
        return bars("Where the time of a training step goes, one rank", shown)

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how."""
        return {
            "benchmark": "profile",
            **about,
            "unit": "ms a batch",
            "settings": self.settings,
            "columns": list(self.phases),
            "rows": [*self._phase_rows(), *self._operator_rows(), self._host_row()],
            "notes": list(NOTES),
            "phases": self.phases,
            "operators": {
                name: {key: asdict(each) for key, each in found.items()}
                for name, found in self.operators.items()
            },
            "host": {name: {"least": least, "most": most} for name, (least, most) in self.host.items()},
            "all_reduce": self.all_reduce,
            "rates": self.rates,
        }

    def _phase_rows(self) -> list[dict[str, Any]]:
        found = self.medians()
        totals = {name: sum(phases.values()) for name, phases in found.items()}
        rows = [
            _row(
                phase,
                [f"{_ms(found[name][phase])} ({found[name][phase] / totals[name]:.0%})" for name in found],
            )
            for phase in PHASES
            if phase != ALL_REDUCE
        ]
        reduced = [_ms(median(rounds)) if rounds else "–" for rounds in self.all_reduce.values()]
        return [
            *rows,
            _row("a batch", [_ms(total) for total in totals.values()]),
            _row(f"{ALL_REDUCE}, {RANKS} ranks", reduced),
        ]

    def _operator_rows(self) -> list[dict[str, Any]]:
        """The largest by their mean share, then the sum of all others."""
        shares: dict[str, float] = {}
        for found in self.operators.values():
            total = sum(each.seconds for each in found.values())
            for key, each in found.items():
                shares[key] = shares.get(key, 0.0) + each.seconds / total
        ordered = sorted(shares, key=lambda key: -shares[key])
        shown = {key: [key] for key in ordered[:SHOWN]} | {"other operators": ordered[SHOWN:]}
        return [
            _row(title, [self._operator_cell(name, keys) for name in self.operators])
            for title, keys in shown.items()
        ]

    def _operator_cell(self, name: str, keys: list[str]) -> str:
        found = [self.operators[name][key] for key in keys if key in self.operators[name]]
        return f"{_ms(sum(each.seconds for each in found))} ({sum(each.calls for each in found):,.0f})"

    def _host_row(self) -> dict[str, Any]:
        cells = [f"{_ms(least)} to {_ms(most)}" for least, most in self.host.values()]
        return _row(f"host, {HOST_IMAGES} images (target: under {1e3 * TARGET:g})", cells)


def _row(name: str, cells: list[str]) -> dict[str, Any]:
    return {"name": name, "cells": cells}


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}" if seconds < 0.1 else f"{1e3 * seconds:,.1f}"


def measure(effort: Effort, setting: Setting = SHIPPED) -> Result:
    """All of `profile`. `setting.more` are further settings; batches are those that are shipped.

    Raises:
        WorkError: a process of the two ranks died.
    """
    settings = {name: replace(setting, batch=load_config(name, []).train.batch) for name in GANS}
    configs = {name: configuration(name, each) for name, each in settings.items()}
    pixels = draw_pixels(configs["dcgan"].model.size)
    trainings = {name: Ours(config, pixels) for name, config in configs.items()}
    phases: dict[str, list[Phases]] = {name: [] for name in GANS}
    sides = []
    for name, training in trainings.items():
        period = _counting(training, Clock(training.images.is_cuda), phases[name])
        sides.append(Side(name, training.period * training.batch, period))
    rates = alternate("profile", sides, effort)
    operators = {name: by_operator(training, of_device=True)[0] for name, training in trainings.items()}
    host = {name: host_time(without_networks(name, setting, pixels), effort.rounds) for name in GANS}
    all_reduce = {name: _all_reduce(name, settings[name], pixels, effort.rounds) for name in GANS}
    model = configs["dcgan"].model
    about = {
        "size": model.size,
        "batches": " ".join(str(config.train.batch) for config in configs.values()),
        "precision": configs["dcgan"].train.precision.replace("no", "float32"),
    }
    counted = {name: found[1:] or found for name, found in phases.items()}  # the first warms up
    return Result(about, counted, operators, host, all_reduce, rates)


def _counting(training: Ours, clock: Clock, into: list[Phases]) -> Callable[[], float]:
    """A period of training that notes seconds of a batch by phase; returns its seconds."""

    def period() -> float:
        with watched(training, clock):
            for _ in range(training.period):
                training.train()
        taken = clock.take()
        into.append({phase: seconds / training.period for phase, seconds in taken.items()})
        return sum(taken.values())

    return period


def _all_reduce(name: str, setting: Setting, pixels: Tensor, rounds: int) -> list[float]:
    """Seconds of a batch in the sums of gradients of RANKS ranks, the longer of them, round by round."""
    if torch.cuda.is_available():
        return []
    ranks = Processes(RANKS, True, {name: joint(name, setting)}, pixels)
    try:
        ranks.wait()
        return [max(ranks.ask(RANKS, "all_reduces", name)) for _ in range(rounds + 1)][1:]
    finally:
        ranks.kill()


def joint(name: str, setting: Setting) -> Config:
    """The training of RANKS ranks with `setting.batch` images each, and a penalty as often as one has it."""
    every = configuration(name, setting).penalty.every
    wider = {"train.batch": RANKS * setting.batch, "penalty.every": RANKS * every}
    return configuration(
        name, setting, *(word for key, value in wider.items() for word in (f"--{key}", str(value)))
    )
