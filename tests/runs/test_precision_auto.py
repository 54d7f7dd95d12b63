"""`train.precision: auto`: decided when a run begins, said and frozen; a resumed run never changes it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import jobs

from chexdist.training import precision

AUTO = ["--train.precision", "auto", "--eval.every", "0", "--checkpoint.every", "32"]


class Gain:
    """Planted in each rank: bf16 is so many times as fast. Rank 1 says the contrary."""

    def __init__(self, times: float) -> None:
        self.times = times

    def __call__(self, rank: int) -> None:
        precision.remembered_gain = lambda device: self.times if rank == 0 else 1 / self.times


def precision_of(run: Path) -> tuple[str, str]:
    """In `config.yaml` and in the newest checkpoint."""
    state = json.loads((jobs.newest(run) / "state.json").read_text())
    return yaml.safe_load((run / "config.yaml").read_text())["train"]["precision"], state["settings"][
        "train.precision"
    ]


@pytest.mark.parametrize(("times", "expected", "said"), [(2.0, "bf16", "bf16"), (0.5, "no", "float32")])
def test_a_run_keeps_what_it_began_with(
    times: float, expected: str, said: str, shards: Path, tmp_path: Path
) -> None:
    """Rank 0 decides for all; resumed where the answer would be the other one, the run's own counts."""
    words = jobs.small(shards, tmp_path / "run", "wgan-clip", *AUTO, "--train.images", "32")
    job = jobs.run(words, tmp_path / "log", 2, Gain(times))
    assert precision_of(tmp_path / "run") == (expected, expected)
    (first,) = [line for line in job.output.splitlines() if line.startswith("wgan of 32 px")]
    assert first.endswith(f", {said}")
    again = jobs.run([*words, "--train.images", "64"], tmp_path / "again", 2, Gain(1 / times))
    assert "resuming from images-32" in again.output and f", {said}" in again.output
    assert precision_of(tmp_path / "run") == (expected, expected)
    asked = "bf16" if expected == "no" else "no"
    refused = jobs.start([*words, "--train.precision", asked], tmp_path / "other")
    assert refused.wait() == [2] and f"train.precision was {expected}, is {asked}" in refused.output


def test_auto_trains_as_what_it_is(shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """To the bit, on both ranks, though the second one would choose otherwise."""
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--train.precision", "auto")
    job = jobs.run(words, tmp_path / "log", 2, Gain(0.5))
    assert ", float32" in job.output
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", 2))
