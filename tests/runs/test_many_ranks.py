"""As many ranks as one machine bears: a rank that dies is known of by all of them, not by its neighbours in
the ring alone.
"""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import jobs
from helpers.faults import STEP, Signal

RANKS = 64
DIES = 37
TIMEOUT = 600
"""So long that no rank ends because of it."""
WITHIN = 15
"""Seconds until all ranks have ended, and said so."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_know_of_a_dead_rank(build_shards: Callable[..., Path], tmp_path: Path) -> None:
    shards = build_shards(96, 20, split="train=0.75,val=0.25")
    more = ["--control.timeout", str(TIMEOUT), "--train.batch", str(2 * RANKS), "--eval.every", "0"]
    more += ["--train.images", str(2 * RANKS * 1000), "--checkpoint.every", "0"]
    words = jobs.small(shards, tmp_path / "run", "vanilla", *more)
    fault = Signal(STEP, 3, rank=DIES, number=signal.SIGKILL)
    os.environ["OMP_NUM_THREADS"] = "1"
    job = jobs.start(words, tmp_path / "log", RANKS, fault)
    dead = job.ranks[DIES]
    job.until(lambda: dead.exitcode is not None, 600)
    died = time.monotonic()
    codes = job.wait(4 * WITHIN)
    took = time.monotonic() - died
    print(f"{RANKS} ranks: all ended {took:.1f} s after rank {DIES} died")
    assert codes == [1] * DIES + [-signal.SIGKILL] + [1] * (RANKS - DIES - 1), job.output
    assert took < WITHIN
    found = jobs.status(tmp_path / "run")
    assert found["state"] == "failed"
    seen = rf"rank {DIES} on \S+ was last seen at image \d+, training"
    assert re.match(f"lost another rank: {seen}", found["cause"])
    said = re.findall(r"^chexdist.*: lost another rank: (.*)", job.output, re.MULTILINE)
    assert len(said) == RANKS - 1 and "Traceback" not in job.output
    told = [line for line in said if re.match(seen, line)]
    assert told and all(line in told or re.match(r"ranks [\d, ]+ say which", line) for line in said)
