"""A rank that dies, hangs or drifts ends the job within `control.timeout`; the others name it."""

import json
import os
import platform
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import jobs
from helpers.faults import DESCRIBE, STEP, Drifts, Signal, Waits
from hypothesis import given
from hypothesis import strategies as st

from chexdist.data.manifest import read_manifest
from chexdist.data.order import batch_samples
from chexdist.distributed.heartbeat import Heartbeat
from chexdist.distributed.replica_check import digests
from chexdist.distributed.world import World

TIMEOUT = 6
BASELINES = "chexdist.training.validation:Validation.baselines"
EVALUATE = "chexdist.training.validation:Validation.evaluate"
SAVE = "chexdist.run.checkpoint:save"
LAST_SEEN = rf"rank {{}} on {re.escape(platform.node())} was last seen at image {{}}, {{}}, \d+ s before"


def words(shards: Path, run: Path, config: str = "vanilla", *more: str) -> list[str]:
    return jobs.small(shards, run, config, "--control.timeout", str(TIMEOUT), *more)


def survivors(job: jobs.Job, lost: int, seconds: float) -> list[int | None]:
    """Exit codes of all ranks but one, within `seconds` of its loss; one that is left is killed then."""
    end = time.monotonic() + seconds
    rest = [rank for number, rank in enumerate(job.ranks) if number != lost]
    for rank in rest:
        rank.join(max(0.0, end - time.monotonic()))
    codes = [rank.exitcode for rank in rest]
    job.kill()
    return codes


def is_reported(job: jobs.Job, run: Path, message: str, by: int) -> None:
    """The message is a line of `by` ranks, the cause in `status.json`, and there is no traceback."""
    assert "Traceback" not in job.output, job.output
    lines = [
        line for line in job.output.splitlines() if line.startswith("chexdist") and re.search(message, line)
    ]
    assert len(lines) == by, job.output
    found = jobs.status(run)
    assert found["state"] == "failed" and re.search(message, found["cause"]), found


def stopped(job: jobs.Job, rank: int) -> Callable[[], bool]:
    """Whether a rank has been hit by SIGSTOP."""
    stat = Path(f"/proc/{job.ranks[rank].pid}/stat")
    return lambda: stat.read_text().rpartition(")")[2].split()[0] == "T"


def test_rank_0_is_killed(shards: Path, tmp_path: Path) -> None:
    """With it goes the store through which the ranks found each other."""
    run = tmp_path / "run"
    job = jobs.start(words(shards, run), tmp_path / "log", 2, Signal(STEP, 8))
    job.until(lambda: job.ranks[0].exitcode == -signal.SIGKILL)
    assert survivors(job, 0, TIMEOUT + 6) == [1], job.output
    is_reported(job, run, f"lost another rank: {LAST_SEEN.format(0, '[0-9]+', 'training')}", by=1)
    assert jobs.newest(run).name in ("images-48", "images-96"), "the second may have been in flight"


def test_a_rank_is_stopped(shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """The launcher's SIGTERM changes nothing of it: there can be no vote. The same command resumes."""
    run = tmp_path / "run"
    gate = Waits(STEP, 5, tmp_path / "gate")
    job = jobs.start(words(shards, run), tmp_path / "log", 2, gate)
    job.until(lambda: beat(run, 1).get("images") == 64)
    os.kill(job.ranks[1].pid or 0, signal.SIGSTOP)
    gate.gate.touch()
    job.ranks[0].terminate()
    assert survivors(job, 1, TIMEOUT + 10) == [1], job.output
    is_reported(job, run, f"lost another rank: {LAST_SEEN.format(1, 64, 'training')}", by=1)
    assert jobs.newest(run).name == "images-48", "nothing is saved without a vote"
    jobs.run(words(shards, run), tmp_path / "log", 2)
    jobs.same_result(run, undisturbed("vanilla", 2))


def test_a_second_interrupt_stops_at_once(shards: Path, tmp_path: Path) -> None:
    """Also a rank that waits for a dead one, where Python runs no signal handler."""
    more = ["--control.timeout", "300"]
    fault = Signal(STEP, 5, rank=1, number=signal.SIGSTOP)
    job = jobs.start(words(shards, tmp_path / "run", "vanilla", *more), tmp_path / "log", 2, fault)
    job.until(stopped(job, 1))
    time.sleep(0.5)  # to let rank 0 begin to wait
    for _ in range(2):
        os.kill(job.ranks[0].pid or 0, signal.SIGINT)
        time.sleep(0.1)
    assert survivors(job, 1, 5) == [130], job.output
    assert "stopped at once" in job.output


def test_one_rank_reads_a_corrupt_shard(shards: Path, tmp_path: Path) -> None:
    """In the middle of training; the other rank learns the cause."""
    run, copy = tmp_path / "run", tmp_path / "shards"
    shutil.copytree(shards, copy)
    split = read_manifest(str(copy)).splits["train"]
    sample = batch_samples(split.shard_sizes, 0, 0, jobs.BATCH, 3)[jobs.BATCH - 1]
    gate = Waits(STEP, 3, tmp_path / "gate")
    job = jobs.start(words(copy, run), tmp_path / "log", 2, gate)
    job.until(lambda: gate.reached(0) and gate.reached(1))
    with split.files[split.shard[sample]].open("r+b") as file:
        file.seek(int(split.offset[sample]) + int(split.size[sample]) // 2)
        file.write(b"corrupt")
    gate.gate.touch()
    assert job.wait(TIMEOUT + 10) == [1, 1], job.output
    is_reported(job, run, f"sample {split.key[sample]} at byte .*: checksum differs", by=2)
    assert re.search(r"rank 1: shard ", job.output)
    assert re.search(r"lost another rank: rank 1 on \S+ failed at image 48: shard ", job.output)


def test_ranks_that_drift_apart(shards: Path, tmp_path: Path) -> None:
    """By the last bit of one number, which no gradient carries to the other rank."""
    run = tmp_path / "run"
    job = jobs.start(words(shards, run), tmp_path / "log", 2, Drifts(5))
    assert job.wait() == [1, 1], job.output
    is_reported(job, run, r"drifted apart by image 96: ema layers\.0\.weight of rank 1 is not", by=1)
    assert jobs.newest(run).name == "images-48"


def test_a_rank_never_comes(shards: Path, tmp_path: Path) -> None:
    """Neither rank 0 nor another waits for ever."""
    started = [
        jobs.start(words(shards, tmp_path / f"run{rank}"), tmp_path / f"log{rank}", 2, only=rank)
        for rank in (0, 1)
    ]
    for job in started:
        assert survivors(job, -1, TIMEOUT + 15) == [1], job.output
        assert "the 2 ranks did not all join within 6 s" in job.output and "Traceback" not in job.output
    assert jobs.status(tmp_path / "run0")["state"] == "failed"


def beat(run: Path, rank: int) -> dict[str, Any]:
    """What a rank last said of itself."""
    path = run / f"heartbeats/rank-{rank}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


@pytest.mark.parametrize(
    "other, reported",
    [
        ("silent", r"rank 1 on \S+ was last seen at image 32, training, \d+ s before"),
        ("runs", r"rank 1 on \S+ runs at image 32, training, but does not answer"),
        ("failed", r"rank 1 on \S+ failed at image 32: a reason"),
        ("lost us too", r"rank 1 on \S+ at image 32 gave up too: the network .*"),
        ("never came", r"rank 1 was never seen"),
    ],
)
def test_what_is_reported_of_the_other(other: str, reported: str, tmp_path: Path) -> None:
    mine, its = (Heartbeat(tmp_path, World(rank, 2, rank, 0)) for rank in (0, 1))
    mine.seconds = its.seconds = 0.4
    its.at(32, "training")
    if other in ("silent", "failed", "lost us too"):
        its.end({"silent": "", "failed": "a reason"}.get(other, "lost another rank"))
    else:
        time.sleep(0.1)
    if other == "silent":
        path = tmp_path / "rank-1.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "ended": None}))
    if other == "never came":
        its.end("")
        (tmp_path / "rank-1.json").unlink()
    assert re.fullmatch(reported, mine.lost())
    its.end("")


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.data())
def test_one_changed_bit_shows(values: list[float], data: st.DataObject) -> None:
    """In the digest of its own tensor, whatever the layout in memory."""
    tensors = [torch.tensor(values), torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 2, 2)]
    tensors[1] = tensors[1].to(memory_format=torch.channels_last)
    before = digests(tensors)
    changed = data.draw(st.integers(0, 1))
    number = tensors[changed].view(torch.int32 if changed == 0 else torch.int64)
    index = np.unravel_index(data.draw(st.integers(0, number.numel() - 1)), number.shape)
    number[index] ^= 1 << data.draw(st.integers(0, 30))
    assert (digests(tensors) != before).any(dim=1).tolist() == [changed == 0, changed == 1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("place, call", [(BASELINES, 1), (DESCRIBE, 1), (EVALUATE, 2), (SAVE, 2), (STEP, 3)])
def test_anywhere(
    place: str, call: int, lost: int, number: signal.Signals, shards: Path, tmp_path: Path
) -> None:
    """Of three ranks; what only rank 0 does, only rank 0 can be lost in."""
    if lost and place in (DESCRIBE, SAVE):
        pytest.skip("rank 0 alone does this")
    run = tmp_path / "run"
    job = jobs.start(words(shards, run), tmp_path / "log", 3, Signal(place, call, rank=lost, number=number))
    killed = number == signal.SIGKILL
    job.until(lambda: job.ranks[lost].exitcode == -signal.SIGKILL if killed else stopped(job, lost)())
    assert survivors(job, lost, 2 * TIMEOUT + 10) == [1, 1], job.output
    is_reported(job, run, f"lost another rank: {LAST_SEEN.format(lost, '[0-9]+', '[a-z ]+')}", by=2)
    jobs.run(words(shards, run), tmp_path / "log", 3)
