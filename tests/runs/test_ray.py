"""Ray Train on a cluster of Ray's on this machine: two workers are two ranks; a lost one is started again."""

import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import psutil
import pytest
from helpers import jobs

pytest.importorskip("ray", reason="pip install 'ray[train]', as make test-slow does")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start(shards: Path, run: Path, log: Path, *more: str) -> subprocess.Popen[bytes]:
    """The shipped file with two workers."""
    script = resources.files("chexdist.launch") / "ray" / "train.py"
    words = jobs.small(shards, run, "vanilla", *more)[1:]
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, str(script), "2", *words],
            stdout=file,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        )


def test_two_workers_train(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start(shards, run, tmp_path / "log")
    assert job.wait(300) == 0, (tmp_path / "log").read_text()
    assert jobs.status(run)["state"] == "done"
    assert "ranks: 2 (cpu" in (tmp_path / "log").read_text()


def test_a_lost_worker_is_started_again(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start(shards, run, tmp_path / "log", "--train.images", "12000", "--eval.every", "0")
    end = time.monotonic() + 300
    while not (beat := run / "heartbeats/rank-1.json").exists() or not list(run.glob("checkpoints/images-*")):
        assert time.monotonic() < end and job.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    os.kill(worker_of(beat.parent.parent), signal.SIGKILL)
    assert job.wait(300) == 0, (tmp_path / "log").read_text()
    found = jobs.status(run)
    assert (found["state"], found["images"]) == ("done", 12000)
    assert "resuming from images-" in (tmp_path / "log").read_text()


def worker_of(run: Path) -> int:
    """The process that holds the run's lock: rank 0's."""
    for process in psutil.process_iter():
        try:
            if any(file.path == str(run / "lock") for file in process.open_files()):
                return process.pid
        except psutil.Error:
            continue
    raise AssertionError("no process holds the lock")
