"""No step waits for the device: the host asks for the sums of losses every `control.every` batches, and reads
them a batch later."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.host_waits import train_watched
from helpers.worlds import run_world

from chexdist.training.step import Step

CONFIGURATIONS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.yaml"))
BATCH, BATCHES, EVERY = 16, 8, 3
SMALL = {
    "model.size": 32,
    "model.width": 4,
    "model.latent": 8,
    "train.batch": BATCH,
    "train.group": 8,
    "train.images": BATCH * BATCHES,
    "penalty.every": 2 * BATCH,
    "data.workers": 0,
    "train.precision": "bf16",
    "control.every": EVERY,
    "eval.extractor": "random-conv",
    "eval.samples": 64,
}


@pytest.mark.parametrize("config", CONFIGURATIONS)
def test_a_step_waits_for_nothing(config: str, shards: Path, tmp_path: Path) -> None:
    """Also where its sums are asked for; where nobody asks, nothing is read."""
    more = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    (waits,) = run_world(1, train_watched, shards, tmp_path / "run", config, more)
    assert waits.steps == BATCHES and waits.asked == [3, 6, 8]
    assert waits.beside == []


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_drawn_numbers_are_pinned_for_a_gpu_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy from other memory is waited for, whatever it is asked."""
    done: list[Any] = []

    def pin(drawn: torch.Tensor) -> torch.Tensor:
        done.append("pinned")
        return drawn

    def copy(drawn: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        done.append((device.type, non_blocking))
        return drawn

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", copy)
    step: Any = SimpleNamespace(gan=SimpleNamespace(device=torch.device(kind)))
    Step.moved(step, torch.zeros(3))
    assert done == [*(["pinned"] if kind == "cuda" else []), (kind, True)]
