"""`exactness`: samples lost and doubled over an epoch on two nodes, a kill in it, and a restart on one node.

Every side trains for one epoch on the same shards in the same global batches with the same number of loader
processes: chexdist by its own command, the others as `benchmarks.stock` says. A node is a process with a
launcher's variables, over gloo on the CPU. All are killed (`kill -9`) as the step of one batch begins, some
batches after the last checkpoint, and started again from that.

Counted is what the final weights come from: the batches up to the checkpoint that was resumed from, and those
after it. Lost is a sample of the split that is in none of them, doubled each time that one is there after its
first. A sample is identified by the pixels that the step was given. The split is a whole number of batches,
so that no side is charged for how it ends an epoch that is not; shards are not, and two nodes have uneven
shares of them.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import webdataset

from benchmarks import command, stock
from benchmarks.material import build_shards, write_pictures
from benchmarks.nodes import Job, Patience, start
from benchmarks.stock import Reading
from benchmarks.tally import Batches, contributed, count, name_of
from chexdist.data.manifest import read_manifest
from chexdist.errors import WorkError
from shards.progress import Progress

OURS = "chexdist"
THEIRS = ("prepared", "shards, joined", "shards, with_epoch", "shards once", "resampled")
STARTS = 4
"""Of each side: undisturbed, killed, resumed on two nodes, and on one."""

COLUMNS = ("two nodes", "killed, on two again", "order kept", "killed, then on one", "order kept")
NOTES = (
    "Cells are samples lost / doubled; order kept: batches after the restart that hold the same samples "
    + "in the same order as in the undisturbed run. Hung: no batch for {next:.0f} s, no end; lost is then "
    + "what was not read.",
    "prepared: Accelerate's own loader (dispatch_batches, split_batches): rank 0 reads, decodes and sends "
    + "out every sample. With one loader process it is exact here; with more, one whose shards end hands "
    + "over a short batch, and two nodes that share an odd one leave a sample out (or, where it is the "
    + "last, fill it up from the first).",
    "joined, with_epoch, once: WebDataset's split_by_node under torch's Join, with equally many batches "
    + "on each node, as it is. resampled: shards drawn with replacement, which WebDataset advises for many "
    + "nodes, and which loses and doubles on purpose.",
    "The stock sides have fixed seeds; by default every start draws its own, and none resumes where "
    + "another stopped. To resume they read the batches before the checkpoint again and drop them "
    + "(resampled draws afresh); chexdist begins at the next batch.",
)


@dataclass(frozen=True)
class Setting:
    """`pictures` of `side` px, 4 of 5 for training, in global batches of `batch`.

    A checkpoint follows every `save` batches; the kill comes in batch `kill_at`.
    """

    workers: int = 2
    pictures: int = 800
    side: int = 32
    batch: int = 16
    samples_per_shard: int = 100
    buffer: int = 100
    save: int = 10
    kill_at: int = 25
    sides: tuple[str, ...] = (OURS, *THEIRS)
    patience: Patience = field(default_factory=Patience)


SHIPPED = Setting()
TINY = Setting(
    workers=1, pictures=60, batch=8, samples_per_shard=7, buffer=8, save=2, kill_at=3,
    sides=(OURS, "shards, with_epoch"),
)  # fmt: skip

Outcomes = dict[str, dict[str, Any]]
"""What a side came to, by scenario."""


@dataclass(frozen=True)
class Result:
    """What was counted, by side."""

    setting: Setting
    reading: Reading
    outcomes: dict[str, Outcomes]

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how.

        No count depends on how busy the machine was.
        """
        return {
            "benchmark": "exactness",
            **about,
            "busy": False,
            "unit": f"lost / doubled of {self.reading.samples} samples",
            "settings": {
                "shards": len(self.reading.urls),
                "batch": self.reading.batch,
                "workers": self.reading.workers,
                "checkpoint every": f"{self.reading.save} batches",
                "killed in batch": self.setting.kill_at,
                **{package: version(package) for package in ("webdataset", "accelerate")},
            },
            "columns": list(COLUMNS),
            "rows": [{"name": side, "cells": cells(found)} for side, found in self.outcomes.items()],
            "notes": [note.format(**asdict(self.setting.patience)) for note in NOTES],
            "outcomes": self.outcomes,
        }


def measure(work: Path, setting: Setting = SHIPPED) -> Result:
    """All sides in all scenarios; pictures, shards and runs are made in the empty directory `work`."""
    write_pictures(work, setting.pictures, 1, setting.side, 0, setting.side)
    build_shards(
        work / "small", work / "shards", setting.side, setting.samples_per_shard, "train=0.8,val=0.2"
    )
    urls = tuple(str(file) for file in read_manifest(str(work / "shards")).splits["train"].files)
    split = names(urls)
    reading = Reading(
        urls, len(split), setting.side, setting.batch, setting.workers, setting.buffer, setting.save
    )
    outcomes = {}
    with Progress("exactness", STARTS * len(setting.sides), "starts") as progress:
        for side in setting.sides:
            job = partial(command.train, work / "shards") if side == OURS else partial(stock.train, side)
            outcomes[side] = scenarios(
                partial(job, reading), split, work / "runs" / side, setting, progress.advance
            )
    return Result(setting, reading, outcomes)


def names(urls: tuple[str, ...]) -> list[str]:
    """The samples of the split, read by one process that splits nothing."""
    dataset = webdataset.WebDataset(list(urls), shardshuffle=False).decode("l8").to_tuple("png")
    found = [name_of(pixels) for (pixels,) in dataset]
    if len(set(found)) < len(found):
        raise WorkError("two pictures have the same pixels, so samples can't be identified")
    return found


def scenarios(
    side: Callable[..., None], split: list[str], folder: Path, setting: Setting, done: Callable[[], None]
) -> Outcomes:
    """One side's runs: undisturbed on two nodes; killed, and resumed on two and on one."""

    def begin(run: str, number: int, nodes: int, kill_at: int | None = None) -> str:
        (folder / run).mkdir(parents=True, exist_ok=True)
        job: Job = partial(side, folder / run)
        state = start(job, nodes, folder / run / f"start-{number}", kill_at, setting.patience)
        done()
        if state == "failed" or (state == "killed") != (kill_at is not None):
            log = (folder / run / f"start-{number}" / "log").read_text().splitlines() or ["nothing"]
            raise WorkError(f"{folder.name}, run {run}, start {number} {state}; its last output: {log[-1]}")
        return state

    state = begin("undisturbed", 1, 2)
    undisturbed = contributed([folder / "undisturbed" / "start-1"])
    results = {"two nodes": outcome(state, split, undisturbed)}
    begin("killed", 1, 2, setting.kill_at)
    for nodes, name in ((2, "on two again"), (1, "then on one")):
        shutil.copytree(folder / "killed", folder / name)
        state = begin(name, 2, nodes)
        second = contributed([folder / name / "start-2"])
        batches = contributed([folder / name / "start-1", folder / name / "start-2"])
        results[name] = outcome(state, split, batches) | {
            "after restart": len(second),
            "kept": sum(samples == undisturbed.get(t) for t, samples in second.items()),
        }
    return results


def outcome(state: str, split: list[str], batches: Batches) -> dict[str, Any]:
    """How a run ended, and what its weights come from."""
    return {"state": state, "batches": len(batches), **asdict(count(split, batches))}


def cells(results: Outcomes) -> list[str]:
    """A row of the table."""

    def counted(result: dict[str, Any]) -> str:
        return f"{result['lost']} / {result['doubled']}{', hung' if result['state'] == 'hung' else ''}"

    found = [counted(results["two nodes"])]
    for name in ("on two again", "then on one"):
        found += [counted(results[name]), f"{results[name]['kept']} of {results[name]['after restart']}"]
    return found
