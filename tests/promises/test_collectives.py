"""Collectives: whatever the shards, ranks and loader processes, no rank waits for one that does not come."""

import faulthandler
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.worlds import run_world

from chexdist.distributed.world import World

SECONDS = 60
IMAGES, BATCH, BATCHES = 96, 12, 9  # 72 training images: one epoch and a half
SAMPLES_PER_SHARD = {1: 72, 3: 24, 7: 11}
"""Training shards -> samples in each; the last of seven has fewer than a batch."""


def _train(world: World, combinations: list[tuple[Path, int, Path]]) -> list[int]:
    """The command's exit code for each (shards, loader processes, run directory); the last one evaluates."""
    from chexdist.__main__ import main
    from chexdist.evaluation.findings import Findings
    from chexdist.training.validation import Validation

    codes, measured = [], (Validation.baselines, Validation.evaluate)
    Validation.baselines = lambda self: Findings(self.gan.config, 0)  # type: ignore[method-assign]
    grid = torch.zeros(1, 1, 32, 32)
    Validation.evaluate = lambda self, n: (Findings(self.gan.config, n), grid, {})  # type: ignore[method-assign]
    for shards, workers, run in combinations:
        settings = {
            "data.shards": shards,
            "data.workers": workers,
            "model.size": 32,
            "model.width": 4,
            "model.latent": 8,
            "train.batch": BATCH,
            "train.group": 1,
            "train.images": BATCH * BATCHES,
            "checkpoint.every": 4 * BATCH,
            "eval.every": 0,
            "eval.samples": 64,
            "eval.extractor": "random-conv",
            "control.every": 4,
            "run.dir": run,
        }
        if run == combinations[-1][2]:
            Validation.baselines, Validation.evaluate = measured  # type: ignore[method-assign]
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        faulthandler.dump_traceback_later(SECONDS, exit=True)  # says where it hangs, and ends the rank
        codes.append(main(["train", "--config", "vanilla", *words]))
        faulthandler.cancel_dump_traceback_later()
    return codes


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_any_shards_and_workers_never_hang(
    size: int, build_shards: Callable[..., Path], tmp_path: Path
) -> None:
    """1, 3 and 7 shards with 0, 1 and 3 loader processes a rank, past the end of an epoch."""
    directories = {
        number: build_shards(IMAGES, samples, split="train=0.75,val=0.25")
        for number, samples in SAMPLES_PER_SHARD.items()
    }
    for number, shards in directories.items():
        assert len(list(shards.glob("train-*.tar"))) == number
    combinations = [
        (shards, workers, tmp_path / f"{number}-{workers}")
        for number, shards in directories.items()
        for workers in (0, 1, 3)
    ]
    for codes in run_world(size, _train, combinations, limit=9 * SECONDS):
        assert codes == [0] * 9
