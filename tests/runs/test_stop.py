"""Asked to stop, all ranks save and stop at one batch; a value that is not finite stops all, unsaved."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers import jobs
from helpers.faults import STEP, Both, Raises, Signal, Waits
from safetensors.numpy import load_file

from chexdist.distributed.world import World
from chexdist.training import stop_vote
from chexdist.training.step import Losses


def test_one_rank_is_asked_and_all_stop(
    shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """Between two checkpoints and two lines of losses; the same command resumes and ends with the same."""
    words = jobs.small(shards, tmp_path / "run", "wgan-gp")
    job = jobs.start(words, tmp_path / "log", 2, Signal(STEP, 4, rank=1, number=signal.SIGTERM))
    assert job.wait() == [75, 75], job.output
    stopped_at(tmp_path / "run", 5)
    jobs.run(words, tmp_path / "log", 2)
    assert "resuming from images-80" in job.output and "Traceback" not in job.output
    jobs.same_result(tmp_path / "run", undisturbed("wgan-gp", 2))


def stopped_at(run: Path, batches: int) -> None:
    found = jobs.status(run)
    assert (found["state"], found["images"]) == ("preempted", 16 * batches)
    assert jobs.newest(run).name == f"images-{16 * batches}"


def test_every_signal_that_asks(shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """One after the other in the same run, each noticed before the next batch."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    for number, batches in ((signal.SIGUSR1, 2), (signal.SIGHUP, 4), (signal.SIGINT, 6)):
        job = jobs.start(words, tmp_path / "log", 1, Signal(STEP, 1, number=number))
        assert job.wait() == [75], job.output
        assert f"{number.name}: saving soon" in job.output
        assert f"saved images-{batches * jobs.BATCH}; the same command resumes" in job.output
        stopped_at(tmp_path / "run", batches)
    jobs.run(words, tmp_path / "log")
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", 1))


def test_a_stop_leaves_the_checkpoints_of_the_schedule(
    shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """Stopped between the last two of them: what was written for that does not push one out."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 1, Signal(STEP, 9, number=signal.SIGTERM))
    assert job.wait() == [75], job.output
    stopped_at(tmp_path / "run", 10)
    jobs.run(words, tmp_path / "log")
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", 1))


def test_a_stop_after_the_last_batch_is_a_done_run(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 1, Signal(STEP, 11, number=signal.SIGTERM))
    assert job.wait() == [0], job.output
    assert jobs.status(tmp_path / "run")["state"] == "done"
    again = jobs.start(words, tmp_path / "log", 1)
    assert again.wait() == [0] and "images were done before" in again.output


def test_the_whole_process_group_is_asked(shards: Path, tmp_path: Path) -> None:
    """As Slurm asks: its SIGTERM reaches the loader processes too, and they must not end the rank."""
    more = ["--data.workers", "2", "--control.every", "20", "--train.images", "800"]
    more += ["--checkpoint.every", "0", "--eval.every", "0"]
    words = jobs.small(shards, tmp_path / "run", "vanilla", *more)
    job = jobs.start(words, tmp_path / "log", 1, Signal(STEP, 2, number=signal.SIGTERM, group=True))
    assert job.wait() == [75], job.output
    stopped_at(tmp_path / "run", 3)


@pytest.mark.parametrize("ranks", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_losses_that_no_line_has_yet_stay_in_the_sum(ranks: int, size: int) -> None:
    """Saved by so many ranks, and gone on with by so many."""
    rows = torch.arange(3.0 * ranks).reshape(ranks, 3)
    worlds = [World(rank, size, 0, rank) for rank in range(size)]
    parts = [Losses.of(rows.tolist(), world, torch.device("cpu")) for world in worlds]
    assert [sum(float(part.critic) for part in parts), sum(float(part.generator) for part in parts)] == [
        float(rows[:, 0].sum()),
        float(rows[:, 2].sum()),
    ]
    if ranks == size:
        assert [float(part.penalty) for part in parts] == rows[:, 1].tolist()


@pytest.mark.parametrize(
    "setting, value, size",
    [
        ("optim.critic.lr", "1e30", 2),
        ("optim.critic.lr", "1e39", 1),  # finite gradients, but a step beyond the largest float32
        ("optim.generator.lr", "1e39", 1),
    ],
)
def test_what_is_not_finite_is_not_saved(
    setting: str, value: str, size: int, shards: Path, tmp_path: Path
) -> None:
    """All ranks end with exit code 1, the cause is on record, and every checkpoint that is left is finite."""
    run = tmp_path / "run"
    more = [f"--{setting}", value, "--checkpoint.every", "16"]
    words = jobs.small(shards, run, "vanilla", *more)
    job = jobs.start(words, tmp_path / "log", size)
    codes = job.wait()
    saved = sorted(run.glob("checkpoints/*/*.safetensors"))
    bad = [
        f"{path.parent.name}/{path.name} {name}"
        for path in saved
        for name, tensor in load_file(path).items()
        if not np.isfinite(tensor).all()
    ]
    assert bad == [], job.output
    assert codes == [1] * size, job.output
    found = jobs.status(run)
    assert found["state"] == "failed" and "not finite" in found["cause"] and "lr" in found["cause"]
    assert "Traceback" not in job.output, job.output


def test_a_loader_process_that_dies_is_a_line(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--data.workers", "1")
    gate = Waits(STEP, 5, tmp_path / "gate")
    job = jobs.start(words, tmp_path / "log", 1, gate)
    job.until(gate.reached)
    for worker in psutil.Process(job.ranks[0].pid).children():
        worker.kill()
    gate.gate.touch()
    assert job.wait(60) == [1], job.output
    assert "Traceback" not in job.output and "DataLoader worker" in job.output
    found = jobs.status(tmp_path / "run")
    assert found["state"] == "failed" and "DataLoader worker" in found["cause"]


def test_an_error_that_nobody_foresaw_ends_the_process(shards: Path, tmp_path: Path) -> None:
    """Its traceback holds the loader, whose workers ignore the signal with which Python would end them."""
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--data.workers", "1")
    job = jobs.start(words, tmp_path / "log", 1, Raises(STEP, 5))
    assert job.wait(60) == [1], job.output
    found = jobs.status(tmp_path / "run")
    assert found["state"] == "failed" and found["cause"] == "LookupError: not foreseen"


class Real:
    """Votes as far apart as they are for a user."""

    def __call__(self, rank: int) -> None:
        setattr(stop_vote, "SECONDS_BETWEEN", 1.0)  # noqa: B010


def test_two_ranks_stop_after_the_same_batch(shards: Path, tmp_path: Path) -> None:
    """Rank 1 alone is asked in the third of 5,000 quick batches."""
    run = tmp_path / "run"
    more = ("--train.images", "80000", "--eval.every", "80000", "--checkpoint.every", "0")
    fault = Both(Real(), Signal(STEP, 3, 1, signal.SIGTERM))
    job = jobs.start(jobs.small(shards, run, "vanilla", *more), tmp_path / "log", 2, fault)
    assert job.wait() == [75, 75], job.output
    found = jobs.status(run)
    assert found["state"] == "preempted" and 48 <= found["images"] < 80000
    assert jobs.newest(run).name == f"images-{found['images']}"


def test_under_nohup_a_closed_terminal_stops_nothing(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 1, Nohup())
    assert job.wait() == [0] and "SIGHUP" not in job.output, job.output


class Nohup(Signal):
    """SIGHUP, ignored from the start of the process, during the third batch."""

    def __init__(self) -> None:
        super().__init__(STEP, 3, number=signal.SIGHUP)

    def __call__(self, rank: int) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        super().__call__(rank)
