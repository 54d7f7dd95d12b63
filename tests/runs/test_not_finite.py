"""A value that is not finite ends the run, and the ranks that had it are named with their nodes."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import jobs

from chexdist.training.not_finite import Seen, cause


@dataclass(frozen=True)
class Infected:
    """From batch 4 on, the images of these ranks hold a NaN, as a faulty device might make it."""

    ranks: tuple[int, ...]

    def __call__(self, rank: int) -> None:
        from chexdist.training.step import Step

        train = Step.__call__

        def infected(step: Step, t: int, images: torch.Tensor, labels: torch.Tensor) -> None:
            if rank in self.ranks and t >= 4:
                images[0, 0, 0, 0] = torch.nan
            train(step, t, images, labels)

        setattr(Step, "__call__", infected)  # noqa: B010


@pytest.mark.parametrize("every", [2, 100])
def test_one_rank_is_named(every: int, shards: Path, tmp_path: Path) -> None:
    """At the log line, or else at the save; its generator was fine."""
    run = tmp_path / "run"
    words = jobs.small(shards, run, "vanilla", "--control.every", str(every))
    job = jobs.start(words, tmp_path / "log", 2, Infected((1,)))
    assert job.wait() == [1, 1], job.output
    found = jobs.status(run)["cause"]
    assert f"only on rank 1 on {platform.node()}: not finite is loss of the critic, finite " in found
    assert "weights" in found and "rank 0" not in found and "lr" not in found
    assert job.output.count(f"chexdist: {found}") == 1 and "Traceback" not in job.output
    assert jobs.newest(run).name == "images-48"


def test_all_ranks_are_the_settings(shards: Path, tmp_path: Path) -> None:
    job = jobs.start(jobs.small(shards, tmp_path / "run", "vanilla"), tmp_path / "log", 2, Infected((0, 1)))
    assert job.wait() == [1, 1], job.output
    found = jobs.status(tmp_path / "run")
    assert "lower optim.*.lr" in found["cause"]
    assert found["health"]["verdict"] == "diverged" and found["health"]["cures"]


def seen(node: str, *finite: bool) -> Seen:
    names = ("loss of the critic", "penalty", "loss of the generator", "weights")
    return Seen(node, dict(zip(names, finite, strict=True)))


@pytest.mark.parametrize(
    "ranks, words",
    [
        ([seen("a", True, True, True, True)] * 2, ["finite on all ranks", "backward", "lower optim.*.lr"]),
        ([seen("a", False, True, True, True)], ["lower optim.*.lr"]),
        (
            [seen("a", True, True, True, True), seen("b", True, True, True, False)],
            ["rank 1 on b", "not finite is weights, finite loss of the critic", "The other 1 of 2"],
        ),
        (
            [seen("a", True, True, True, True), *[seen("b", *[False] * 4)] * 5],
            ["and 2 more", "finite nothing"],
        ),
    ],
)
def test_what_is_said(ranks: list[Any], words: list[str]) -> None:
    assert [word for word in words if word not in cause(ranks, "bf16")] == []


def test_a_precision_that_is_set_already_is_no_cure() -> None:
    ranks = [seen("a", False, True, True, True)]
    assert "train.precision no" in cause(ranks, "bf16") and "train.precision" not in cause(ranks, "no")


def test_what_is_seen() -> None:
    """The fourth sum counts, and is no loss."""
    sums = torch.tensor([torch.nan, 1.0, 2.0, 3.0], dtype=torch.float64)
    assert list(Seen.of(sums, torch.tensor(torch.inf)).finite.values()) == [False, True, True, False]
