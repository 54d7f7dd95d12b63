"""A stop signal while a batch takes long: agreed between parts of the critic's step, or after the batch."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import jobs
from helpers.faults import Both, Signal

PARTS = 4
ESTIMATE = 2
"""Calls of a step's functions on shapes alone, for the estimate of memory."""
PART = "chexdist.training.step:Step.rows"  # of the critic's step alone: PARTS calls in each batch, and as
WARM_UP = ESTIMATE + PARTS  # many in the warm-up
GENERATOR = "chexdist.training.step:Step.generator_gradients"


@dataclass(frozen=True)
class Every:
    """Batches that take longer than this are slow."""

    seconds: float

    def __call__(self, rank: int) -> None:
        from chexdist.training import stop_vote

        setattr(stop_vote, "SLOW", self.seconds)  # noqa: B010


def words(shards: Path, run: Path) -> list[str]:
    return jobs.small(shards, run, "wgan-gp", "--train.accumulate", str(PARTS), "--train.n_critic", "2")


def stopped(words: list[str], log: Path, fault: Signal, slow: float = 0.0, size: int = 2) -> int:
    """Images after which all ranks have stopped."""
    job = jobs.start(words, log, size, Both(Every(slow), fault))
    assert job.wait() == [75] * size, job.output
    assert "Traceback" not in job.output, job.output
    found = jobs.status(Path(words[words.index("--run.dir") + 1]))
    assert found["state"] == "preempted"
    return int(found["images"])


@pytest.mark.parametrize("size", [1, 2])
def test_between_two_parts(size: int, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """The last rank is asked in the first part of a batch, which none finishes: the run ends as if it had not
    begun. A batch that has a checkpoint is not saved again."""
    run, log, rank = words(shards, tmp_path / "run"), tmp_path / "log", size - 1
    fifth = Signal(PART, WARM_UP + 4 * PARTS + 1, rank, signal.SIGTERM)
    assert stopped(run, log, fifth, size=size) == 64
    assert jobs.newest(tmp_path / "run").name == "images-64"
    assert stopped(run, log, Signal(PART, WARM_UP + 1, rank, signal.SIGUSR1), size=size) == 64
    last = Signal(PART, WARM_UP + 2 * PARTS, rank, signal.SIGTERM)  # the critic is not yet changed
    assert stopped(run, log, last, size=size) == 80
    jobs.run(run, log, size)
    more = ("--train.accumulate", str(PARTS), "--train.n_critic", "2")
    jobs.same_result(tmp_path / "run", undisturbed("wgan-gp", size, *more))


def test_in_the_first_batch(shards: Path, tmp_path: Path) -> None:
    """There is nothing to save."""
    run = words(shards, tmp_path / "run")
    assert stopped(run, tmp_path / "log", Signal(PART, WARM_UP + 2, 0, signal.SIGTERM)) == 0
    assert not [*(tmp_path / "run").glob("checkpoints/*")]
    assert "stopped in the first batch; the same command" in (tmp_path / "log").read_text()


def test_in_the_generator_s_step(shards: Path, tmp_path: Path) -> None:
    """The critic has changed, so that batch is finished, and no other one begun."""
    run = words(shards, tmp_path / "run")
    third = Signal(
        GENERATOR, ESTIMATE + 1 + 2, 1, signal.SIGTERM
    )  # the warm-up, then those of two batches each
    assert stopped(run, tmp_path / "log", third) == 64


def test_quick_batches_are_not_waited_for(shards: Path, tmp_path: Path) -> None:
    """The vote on the way when a signal comes knows nothing of it: the next batch's does."""
    run = words(shards, tmp_path / "run")
    fifth = Signal(PART, WARM_UP + 4 * PARTS + 1, 1, signal.SIGTERM)
    assert stopped(run, tmp_path / "log", fifth, slow=60) == 96
