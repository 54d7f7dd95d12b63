"""As many ranks as one machine bears: they train as one rank does, stop together, and all know of a rank that
dies, not its neighbours in the ring alone.
"""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import jobs
from helpers.cases import Case, full_case
from helpers.checks import check_same_training
from helpers.faults import STEP, Waits
from helpers.training import train_cases
from helpers.worlds import run_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RANKS = 64
HIT = 37
BATCH = 2 * RANKS
TIMEOUT = 600
"""Of collectives, in seconds: so long that no rank ends because of it."""
WITHIN = 15
"""Seconds until all ranks have ended, and said so."""


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(96, 20, split="train=0.75,val=0.25")


def hit(shards: Path, folder: Path, number: signal.Signals) -> tuple[jobs.Job, list[int | None], float]:
    """Start a run of which one rank gets a signal in its third batch: its job, the codes in the end, and the
    seconds until then.
    """
    more = ["--control.timeout", str(TIMEOUT), "--train.batch", str(BATCH), "--eval.every", "0"]
    more += ["--train.images", str(BATCH * 1000), "--checkpoint.every", "0"]
    words = jobs.small(shards, folder / "run", "vanilla", *more)
    gate = Waits(STEP, 3, folder / "gate")
    job = jobs.start(words, folder / "log", RANKS, gate)
    job.until(lambda: gate.reached(HIT), 600)
    job.ranks[HIT].kill() if number == signal.SIGKILL else job.ranks[HIT].terminate()
    gate.gate.touch()
    begun = time.monotonic()
    codes = job.wait(4 * WITHIN)
    return job, codes, time.monotonic() - begun


def test_a_dead_rank_is_known_everywhere(shards: Path, tmp_path: Path) -> None:
    job, codes, seconds = hit(shards, tmp_path, signal.SIGKILL)
    print(f"{RANKS} ranks have ended {seconds:.1f} s after one was killed")
    assert codes == [1] * HIT + [-signal.SIGKILL] + [1] * (RANKS - HIT - 1), job.output
    assert seconds < WITHIN
    found = jobs.status(tmp_path / "run")
    assert found["state"] == "failed"
    seen = rf"rank {HIT} on \S+ was last seen at image \d+, training"
    assert re.match(f"lost another rank: {seen}", found["cause"])
    said = re.findall(r"^chexdist.*: lost another rank: (.*)", job.output, re.MULTILINE)
    assert len(said) == RANKS - 1 and "Traceback" not in job.output
    seen_last = [line for line in said if re.match(seen, line)]
    assert seen_last and all(line in seen_last or re.match(r"ranks [\d, ]+ say which", line) for line in said)


def test_all_stop(shards: Path, tmp_path: Path) -> None:
    job, codes, seconds = hit(shards, tmp_path, signal.SIGTERM)
    print(f"{RANKS} ranks have stopped {seconds:.1f} s after one was asked to")
    assert codes == [75] * RANKS, job.output
    assert seconds < WITHIN
    found = jobs.status(tmp_path / "run")
    assert found["state"] == "preempted" and found["images"] in (3 * BATCH, 4 * BATCH)
    assert jobs.newest(tmp_path / "run").name == f"images-{found['images']}"


def test_the_same_training(shards: Path) -> None:
    """Twenty batches in float64 with every kind of random number."""
    few = full_case()
    case = Case(few.name, {**few.settings, "train.batch": BATCH}, 20)
    ranks = run_world(RANKS, train_cases, shards, [(case, 1, "float64")], limit=800)
    ((alone,),) = run_world(1, train_cases, shards, [(case, 1, "float64")], limit=800)
    assert check_same_training(alone, [trained for (trained,) in ranks], f"{RANKS} ranks") <= 1e-10
