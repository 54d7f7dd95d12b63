"""Two hosts and a cable that is cut: both sides end within `control.timeout`; the same command resumes."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import jobs
from helpers.hosts import NAMES, TwoHosts, missing

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
TIMEOUT = 10
TO_LEAVE = 15
"""Seconds to look at heartbeats and to end a process, on a busy machine."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    if why := missing():
        give_up = pytest.fail if os.environ.get("CHEXDIST_ALLOW_APT") == "1" else pytest.skip
        give_up(why)
    with TwoHosts() as made:
        yield made


@pytest.fixture
def words(build_shards: Callable[..., Path], tmp_path: Path) -> list[str]:
    """Of a run long enough to be cut in its middle."""
    shards = build_shards(96, 20, split="train=0.75,val=0.25")
    more = ["--control.timeout", str(TIMEOUT), "--train.images", "1600", "--eval.every", "0"]
    return jobs.small(shards, tmp_path / "run", "vanilla", *more)


def codes(ranks: list[subprocess.Popen[bytes]], seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    return [rank.wait(max(0.0, end - time.monotonic())) for rank in ranks]


def said(logs: Path, attempt: int) -> list[str]:
    return [(logs / f"{attempt}-{rank}").read_text() for rank in (0, 1)]


def test_cut_while_they_train(hosts: TwoHosts, words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    ranks = hosts.train(words, tmp_path, 1)
    end = time.monotonic() + 120
    while not (run / "checkpoints/images-96").exists():
        assert time.monotonic() < end and None in [rank.poll() for rank in ranks], said(tmp_path, 1)
        time.sleep(0.01)
    hosts.cable("down")
    try:
        assert codes(ranks, TIMEOUT + TO_LEAVE) == [1, 1], said(tmp_path, 1)
    finally:
        hosts.cable("up")
    for rank, output in enumerate(said(tmp_path, 1)):
        (line,) = re.findall(r"^chexdist.*: lost another rank: .*", output, re.MULTILINE)
        assert f"rank {1 - rank} on {NAMES[1 - rank]}" in line and "image" in line
        assert "Traceback" not in output
    found = jobs.status(run)
    assert found["state"] == "failed" and found["cause"].startswith("lost another rank: rank ")

    assert codes(hosts.train(words, tmp_path, 2), 300) == [0, 0], said(tmp_path, 2)
    assert "resuming from images-" in said(tmp_path, 2)[0]
    assert (jobs.status(run)["state"], jobs.status(run)["images"]) == ("done", 1600)


def test_cut_before_they_meet(hosts: TwoHosts, words: list[str], tmp_path: Path) -> None:
    hosts.cable("down")
    try:
        assert codes(hosts.train(words, tmp_path, 1), 60 + TIMEOUT + TO_LEAVE) == [1, 1], said(tmp_path, 1)
    finally:
        hosts.cable("up")
    for output in said(tmp_path, 1):
        assert f"the 2 ranks did not all join within {TIMEOUT} s" in output and "Traceback" not in output
