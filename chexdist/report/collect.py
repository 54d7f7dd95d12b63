"""Reads run directories into values that the page and the tables are made of."""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from chexdist.errors import UserError
from chexdist.metrics.value import Metric
from chexdist.report.files import flat, metrics_of, read_metrics, read_object, read_settings, tidy
from chexdist.report.measurements import BASELINES, Measurement, counted, is_baseline
from chexdist.run import layout
from chexdist.run.alive import is_alive

MOST_RUNS = 12
MOST_PAIRS = 64
STATES = ("running", "done", "preempted", "failed", layout.PICTURES)
PRIVATE = ("data.shards", "data.cache", "run.dir", "run.tracker")
"""Settings that say where, not what; paths name people."""


@dataclass(frozen=True)
class EvaluationRecord:
    """What `chexdist evaluate` left of one checkpoint: numbers, their protocols, what was refused.

    likeness: of the generated images most similar to training images, the highest first.
    """

    folder: Path
    images: int
    split: str
    seed: str
    protocols: dict[str, dict[str, str]]
    metrics: list[Metric]
    refused: dict[str, str]
    likeness: list[float]


@dataclass(frozen=True)
class RunRecord:
    """A run directory as it was found.

    state: one of STATES, or unknown; state_time: when that was written, seconds since the epoch.
    """

    name: str
    path: Path
    settings: dict[str, str]
    state: str
    images: int
    cause: str
    state_time: object
    provenance: dict[str, str]
    log: list[Metric]
    evaluations: list[EvaluationRecord]

    @property
    def measurements(self) -> list[Measurement]:
        """All numbers but losses and settings that move, each once: see `counted`."""
        return self._counted[0]

    @property
    def contradictions(self) -> list[str]:
        """What evaluations have otherwise than the log."""
        return self._counted[1]

    @cached_property
    def _counted(self) -> tuple[list[Measurement], list[str]]:
        seed = self.settings.get("train.seed", "")
        logged = [
            Measurement(metric, layout.LOG, seed, (self._draws_of_training(metric),))
            for metric in self.log
            if not metric.name.startswith(("loss/", "schedule/", "health/"))
        ]
        evaluated = [
            Measurement(metric, each.folder.name, each.seed, (layout.draws(each.folder),))
            for each in self.evaluations
            for metric in each.metrics
        ]
        return counted(logged, evaluated, seed)

    def _draws_of_training(self, metric: Metric) -> Path:
        name = layout.REAL if is_baseline(metric.name) else layout.after(metric.images)
        return layout.draws_of_training(self.path, name)

    def at(self, images: int) -> Self:
        """The same run as it was after so many images, under a name that says so.

        Raises:
            UserError: nothing was measured then.
        """
        name = layout.after(images)
        log = [each for each in self.log if each.images == images or is_baseline(each.name)]
        evaluations = [each for each in self.evaluations if each.images == images]
        if not evaluations and all(is_baseline(each.name) for each in log):
            measured = {each.metric.images for each in self.measurements}
            known = ", ".join(layout.after(each) for each in sorted(measured)) or "none"
            raise UserError(
                f"{self.name}@{name}: nothing was measured then, but at {known}; "
                f"measure it with `chexdist evaluate {self.name} --checkpoint {name}`"
            )
        return replace(self, name=f"{self.name}@{name}", images=images, log=log, evaluations=evaluations)

    @property
    def budget(self) -> int | None:
        """Images after which training ends, as far as the configuration says so."""
        return _number(self.settings.get("train.images", ""))

    @property
    def training_images(self) -> int | None:
        """How many there are in its shards; None for runs that did not record it."""
        return _number(self.provenance.get("training_images", ""))


def collect(directories: list[str]) -> list[RunRecord]:
    """The runs in the order given, each under a name of its own.

    Raises:
        UserError: a directory is no run or is given twice, a file in it is damaged, or there are too many.
    """
    if len(directories) > MOST_RUNS:
        raise UserError(
            f"{len(directories)} runs: up to {MOST_RUNS} can be distinguished side by side; "
            "make several reports"
        )
    paths = []
    for directory in directories:
        try:
            path = Path(directory).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{tidy(directory)}: {tidy(error)}") from None
        if path in paths:
            raise UserError(f"{directory} is given twice; name each run once")
        paths.append(path)
    names = _names(paths)
    return [_read_run(Path(directory), name) for directory, name in zip(directories, names, strict=True)]


def _names(paths: list[Path]) -> list[str]:
    """The last parts of each path, as many as distinguish it from the others."""
    names = []
    for path in paths:
        depth = 1
        while sum(other.parts[-depth:] == path.parts[-depth:] for other in paths) > 1:
            depth += 1
        names.append(tidy("/".join(path.parts[-depth:])) or "run")
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]


DEAD = f"not alive, though {layout.STATUS} says running: no process holds its lock, no heartbeat is recent"


def _read_run(path: Path, name: str) -> RunRecord:
    try:
        is_directory = path.is_dir()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if not is_directory:
        raise UserError(f"{path} is no directory; give the run.dir of `chexdist train`")
    settings = read_settings(path / layout.CONFIG)
    if settings is None:
        raise UserError(
            f"{path} is no run directory: it has no {layout.CONFIG}, which `chexdist train` writes"
        )
    status = read_object(path / layout.STATUS)
    state, images = status.get("state"), status.get("images")
    if status and (state not in STATES or not _is_count(images)):
        raise UserError(f"{path / layout.STATUS} is damaged: state {tidy(state)}, images {tidy(images)}")
    if state == "running" and not is_alive(path):
        state, status["cause"] = "failed", DEAD
    provenance = flat(read_object(path / layout.PROVENANCE))
    log = read_metrics(path)
    return RunRecord(
        name=name,
        path=path,
        settings=settings,
        state=state or "unknown",
        images=max([images or 0, *(metric.images for metric in log)]),
        cause=tidy(status.get("cause") or ""),
        state_time=status.get("time"),
        provenance=provenance,
        log=log,
        evaluations=_read_evaluations(path),
    )


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**15


def _read_evaluations(run: Path) -> list[EvaluationRecord]:
    """Those that are complete, oldest checkpoint first."""
    found = [_read_evaluation(file) for file in layout.evaluations(run)]
    return sorted(found, key=lambda evaluation: (evaluation.images, evaluation.folder.name))


def _read_evaluation(file: Path) -> EvaluationRecord:
    document = read_object(file)
    try:
        if not _is_count(document.get("images")):
            raise ValueError(f"images is {document.get('images')}")
        if not isinstance(document.get("split"), str):
            raise TypeError("split is missing")
        refused, protocols = document.get("refused"), document.get("protocols")
        if not isinstance(refused, dict) or not isinstance(protocols, dict):
            raise TypeError("refused and protocols must be objects")
        for name, fields in protocols.items():
            _check_protocol(name, fields)
        metrics = metrics_of(document.get("metrics"))
        unknown = {metric.protocol for metric in metrics} - set(protocols)
        if unknown:
            raise ValueError(f"a metric's protocol {min(map(str, unknown))} is not among its protocols")
        likeness = _likeness(document.get("closest", []))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {tidy(error)}; make it again with `chexdist evaluate`") from None
    return EvaluationRecord(
        folder=file.parent,
        images=document["images"],
        split=tidy(document["split"]),
        seed=tidy(document.get("seed")),
        protocols={name: flat(fields) for name, fields in protocols.items()},
        metrics=metrics,
        refused={str(name): tidy(reason) for name, reason in refused.items()},
        likeness=likeness,
    )


def _likeness(closest: Any) -> list[float]:
    """Of the closest pairs. Raises TypeError or ValueError for something else."""
    if not isinstance(closest, list) or len(closest) > MOST_PAIRS:
        raise ValueError(f"closest is no list of at most {MOST_PAIRS} pairs")
    values = [pair.get("likeness") if isinstance(pair, dict) else None for pair in closest]
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not -1 <= value <= 1:
            raise ValueError(f"likeness is {value}")
    return sorted((float(value) for value in values if value is not None), reverse=True)


def _check_protocol(name: str, fields: Any) -> None:
    """A protocol's name is a digest of its fields (`metrics.protocol`): so they can't have been changed."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    if not isinstance(fields, dict) or digest != name:
        raise ValueError(f"the fields of protocol {name} are not those that it was named after")


def classes(evaluation: EvaluationRecord) -> list[str]:
    """The classes that its numbers, or its refusals, are about."""
    names = [metric.name for metric in evaluation.metrics] + list(evaluation.refused)
    found = (name.removesuffix("/real").partition("/")[2] for name in names)
    return sorted({name for name in found if name and name not in BASELINES})
