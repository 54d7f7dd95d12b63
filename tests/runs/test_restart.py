"""Restart: half-written lines and pictures, a kill from outside, another world size. Kills: `test_kills`."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import jobs
from helpers.faults import REPLACE, STEP, Both, HalfALine, Records, Signal, Synchronous

from chexdist.data.manifest import read_manifest
from chexdist.data.order import batch_samples


@pytest.mark.parametrize(
    "fault", [HalfALine(4), Signal(REPLACE, 5)], ids=["metrics.jsonl", "a sheet of samples"]
)
def test_killed_while_something_else_is_written(
    fault: jobs.Fault, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """What is left of it, a half line or a passing name, must not be in the way."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    jobs.killed(words, tmp_path / "log", 1, fault)
    jobs.run(words, tmp_path / "log")
    run, expected = tmp_path / "run", undisturbed("vanilla", 1)
    assert jobs.tensors(jobs.newest(run)) == jobs.tensors(jobs.newest(expected))
    assert jobs.metrics(run) == jobs.metrics(expected)
    jobs.same_result(run, expected)


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
    assert "resuming from images-" in output
    jobs.same_result(tmp_path / "run", undisturbed("dcgan", 1, *more))


def test_another_world_size_resumes_at_the_next_keys(shards: Path, tmp_path: Path) -> None:
    """1 rank, then 2, then 4, then 1, all but the last killed: a line says so, no key is lost or doubled."""
    read: list[list[str]] = []
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--checkpoint.every", "32")
    for number, size in enumerate((1, 2, 4, 1)):
        notes, log = Records(tmp_path / f"keys-{number}"), tmp_path / f"log-{number}"
        notes.directory.mkdir()
        if number < 3:
            jobs.killed(words, log, size, Both(Both(notes, Synchronous()), Signal(STEP, 4, rank=size - 1)))
        else:
            jobs.run(words, log, size, notes)
        output, first = log.read_text(), 2 * number
        if number:
            line = f"resuming from images-{16 * first}; world_size changed, so rounding will differ"
            assert output.count("resuming") == output.count(line) == 1
        read[first:] = notes.batches()  # those after the checkpoint were for nothing
    split = read_manifest(str(shards)).splits["train"]
    assert len(read) == 12
    for t, keys in enumerate(read):
        assert keys == split.key[batch_samples(split.shard_sizes, 0, 0, jobs.BATCH, t)].tolist()
