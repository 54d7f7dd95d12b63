"""Killed at any instant, the same command line goes on, and ends with the bytes of a run that nobody disturbed."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from faults import DESCRIBE, FLUSH, RENAME, REPLACE, STEP, HalfALine, Records, Signal

from chexdist.data.manifest import read_manifest
from chexdist.data.order import batch_samples

CASES: dict[str, tuple[int, str, list[str], list[jobs.Fault]]] = {
    "vanilla, 1 rank": (
        1,
        "vanilla",
        [],
        [
            Signal(DESCRIBE, 1),  # right after the start
            Signal(FLUSH, 3),  # within the first save, when there is nothing to fall back to
            Signal(STEP, 5),  # between the first checkpoint and the second
            Signal(RENAME, 1),  # the second checkpoint is whole, but not under its name
            Signal(FLUSH, 7),  # the second checkpoint has its name, the directory is not flushed
            HalfALine(4),
            Signal(FLUSH, 4),  # within the last save
        ],
    ),
    "wgan, 2 ranks": (
        2,
        "wgan-gp",
        ["--train.n_critic", "2", "--train.accumulate", "2"],
        [Signal(STEP, 5, rank=1), Signal(FLUSH, 4)],
    ),
    "dcgan, 4 ranks": (4, "dcgan", ["--penalty.every", "32"], [Signal(STEP, 8, rank=3)]),
}


def disturbed(words: list[str], log: Path, size: int, fault: jobs.Fault) -> None:
    """One start that ends in `kill -9`: of the rank that the fault hits, then of those that are left."""
    job = jobs.start(words, log, size, fault)
    job.until(lambda: any(rank.exitcode == -signal.SIGKILL for rank in job.ranks))
    job.kill()


@pytest.mark.parametrize("case", CASES)
def test_killed_run_ends_bitwise_alike(
    case: str, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    size, config, more, faults = CASES[case]
    words = jobs.small(shards, tmp_path / "run", config, *more)
    for fault in faults:
        disturbed(words, tmp_path / "log", size, fault)
    jobs.run(words, tmp_path / "log", size)
    jobs.same_result(tmp_path / "run", undisturbed(config, size, *more))


def test_killed_while_a_sheet_of_samples_is_drawn(
    shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """What is left of it under a passing name must not be in the way."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    disturbed(words, tmp_path / "log", 1, Signal(REPLACE, 5))
    jobs.run(words, tmp_path / "log")
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", 1))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("config", ["vanilla", "dcgan", "wgan-clip", "wgan-gp"])
def test_killed_anywhere_ends_bitwise_alike(
    config: str, size: int, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    words = jobs.small(shards, tmp_path / "run", config)
    for number, call in enumerate((2, 4, 6)):
        disturbed(words, tmp_path / "log", size, Signal(STEP, call, rank=number % size))
    for call in range(1, 8):  # every place in a save; after the last, that save counts
        disturbed(words, tmp_path / "log", size, Signal(FLUSH, call))
    jobs.run(words, tmp_path / "log", size)
    jobs.same_result(tmp_path / "run", undisturbed(config, size))


def test_the_command_itself_is_killed(shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """`python -m chexdist` with a loader process, all killed from outside at no particular instant."""
    more = ["--data.workers", "1", "--penalty.every", "32"]
    words = jobs.small(shards, tmp_path / "run", "dcgan", *more)
    with jobs.true_command(words) as first:
        while first.poll() is None and not (tmp_path / "run/checkpoints/images-48").exists():
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    with jobs.true_command(words) as second:
        output, errors = second.communicate(timeout=90)
    assert second.returncode == 0, errors
    assert "going on from images-" in output
    jobs.same_result(tmp_path / "run", undisturbed("dcgan", 1, *more))


def test_another_world_size_goes_on_with_the_next_keys(shards: Path, tmp_path: Path) -> None:
    """1 rank, then 2, then 1: a line says so, and no key is lost or read twice."""
    read: list[list[str]] = []
    for number, size in enumerate((1, 2, 1)):
        notes = tmp_path / f"keys-{number}"
        notes.mkdir()
        words = jobs.small(shards, tmp_path / "run", "vanilla", "--train.images", str(64 * (number + 1)))
        output = jobs.run(words, tmp_path / f"log-{number}", size, Records(notes)).output
        read += Records(notes).batches()
        if number:
            line = f"going on from images-{64 * number}; world_size changed, so rounding will differ"
            assert output.count("going on") == output.count(line) == 1
    split = read_manifest(str(shards)).splits["train"]
    assert len(read) == 12
    for t, keys in enumerate(read):
        assert keys == split.key[batch_samples(split.shard_sizes, 0, 0, jobs.BATCH, t)].tolist()
