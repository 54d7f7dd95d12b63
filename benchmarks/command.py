"""chexdist's side of `exactness`: the command that users type, with a record of what its step is given."""

import sys
import time
from pathlib import Path
from unittest.mock import patch

from torch import Tensor

from benchmarks.stock import Reading
from benchmarks.tally import Trained
from chexdist.__main__ import main
from chexdist.run import layout
from chexdist.training.step import Step


def train(shards: Path, reading: Reading, run: Path, rank: int, start: Path, kill_at: int | None) -> None:
    """An epoch on this rank, from the newest checkpoint of the run directory `run/run`."""
    trained = Trained(start, rank, kill_at)
    production = Step.__call__

    def recorded(self: Step, t: int, images: Tensor, labels: Tensor) -> None:
        # a checkpoint is written while training continues; tiny batches would be over before it
        while t == kill_at and not layout.checkpoints(run / "run"):
            time.sleep(0.01)
        trained.before(t)
        production(self, t, images, labels)
        trained.after(t, ((images[:, 0] + 1) * 127.5).round().byte().numpy())

    settings: dict[str, object] = {
        "data.shards": shards,
        "data.workers": reading.workers,
        "model.size": reading.side,
        "model.width": 4,
        "model.latent": 8,
        "train.batch": reading.batch,
        "train.group": reading.batch // 2,
        "train.images": reading.samples,
        "checkpoint.every": reading.save * reading.batch,
        "eval.every": 0,
        "eval.samples": 64,
        "eval.extractor": "random-conv",
        "run.dir": run / "run",
    }
    words = ["train", "--config", "vanilla"]
    words += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with patch.object(Step, "__call__", recorded):
        code = main(words)
    sys.exit(code)
