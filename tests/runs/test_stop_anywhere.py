"""Asked to stop where no batch ends: in start-up at once, in an evaluation after the time that is stated."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import jobs
from helpers.faults import STEP, Both, Waits, at_call

import chexdist

MEASURE = "chexdist.training.validation:Validation.baselines"
EVALUATE = "chexdist.training.validation:Validation.evaluate"


@dataclass(frozen=True)
class Patience:
    """An evaluation may take so many seconds after the signal."""

    seconds: float

    def __call__(self, rank: int) -> None:
        from chexdist.training import start

        start.PATIENCE["evaluating"] = self.seconds


def ask(job: jobs.Job, number: signal.Signals = signal.SIGTERM) -> float:
    """Ask every rank, and return after how many seconds the last has ended."""
    began = time.monotonic()
    for rank in job.ranks:
        os.kill(rank.pid or 0, number)
    assert job.wait(30) == [75] * len(job.ranks), job.output
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_in_start_up(
    number: signal.Signals, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """At once, though the main thread never comes by; nothing was trained, and the status says so."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    gate = Waits(MEASURE, 1, tmp_path / "gate")
    job = jobs.start(words, tmp_path / "log", 1, gate)
    job.until(gate.reached)
    assert jobs.status(tmp_path / "run")["state"] == "running"
    assert ask(job, number) < 5
    assert f"{number.name}: stopped in start-up; the same command resumes" in job.output
    assert jobs.status(tmp_path / "run")["state"] == "preempted"
    assert not list((tmp_path / "run/checkpoints").glob("*"))
    jobs.run(words, tmp_path / "log")
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", 1))


@pytest.mark.parametrize("asked", [0, 1])
def test_one_rank_alone_in_start_up(asked: int, shards: Path, tmp_path: Path) -> None:
    """There can be no vote; the other one learns why it is alone, and that nothing failed."""
    words, run = jobs.small(shards, tmp_path / "run", "vanilla"), tmp_path / "run"
    gate = Waits(MEASURE, 1, tmp_path / "gate")
    job = jobs.start(words, tmp_path / "log", 2, gate)
    job.until(lambda: gate.reached(0) and gate.reached(1))
    os.kill(job.ranks[asked].pid or 0, signal.SIGUSR1)
    job.ranks[asked].join(10)
    gate.gate.touch()
    assert job.wait(30) == [75, 75], job.output
    assert re.search(rf"^chexdist: rank {asked} on \S+ was asked to stop; ", job.output, re.MULTILINE)
    assert "lost another rank" not in job.output and "Traceback" not in job.output
    assert jobs.status(run)["state"] == "preempted"


@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_in_an_evaluation(size: int, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """The one after 96 images takes longer than it may; the checkpoint of 48 is the newest."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    gate = Waits(EVALUATE, 2, tmp_path / "gate")
    job = jobs.start(words, tmp_path / "log", size, Both(gate, Patience(1)))
    job.until(lambda: all(map(gate.reached, range(size))) and jobs.status(tmp_path / "run")["images"] == 48)
    assert 1 <= ask(job) < 10
    assert "SIGTERM: stopped after 1 s without a batch's end" in job.output and "Traceback" not in job.output
    found = jobs.status(tmp_path / "run")
    assert found["state"] == "preempted" and jobs.newest(tmp_path / "run").name == "images-48"
    jobs.run(words, tmp_path / "log", size)
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", size))


def test_an_evaluation_that_ends_in_time_is_saved(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    gate = Waits(EVALUATE, 2, tmp_path / "gate")
    job = jobs.start(words, tmp_path / "log", 1, gate)
    job.until(gate.reached)
    os.kill(job.ranks[0].pid or 0, signal.SIGTERM)
    job.until(lambda: "SIGTERM: saving soon" in job.output)
    gate.gate.touch()
    assert job.wait() == [75], job.output
    assert jobs.newest(tmp_path / "run").name == "images-112"


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_world_that_is_left_in_the_shell(rank: int, shards: Path, tmp_path: Path) -> None:
    """Without a launcher nobody else comes: what is waited for is said in seconds, and a signal obeyed."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 2, only=rank)
    job.until(lambda: "waits at 127.0.0.1:" in job.output, seconds=30)
    assert f"rank {rank} waits" in job.output and "at most 60 s (control.timeout)" in job.output
    assert "WORLD_SIZE=2 says that there are 2" in job.output
    assert "unset RANK WORLD_SIZE LOCAL_RANK" in job.output
    assert ask(job) < 5
    assert not (tmp_path / "run/status.json").exists()


@dataclass(frozen=True)
class Without:
    """A variable that the launcher sets is not there."""

    name: str

    def __call__(self, rank: int) -> None:
        del os.environ[self.name]


def test_half_a_world_that_is_left_in_the_shell(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 2, Without("MASTER_ADDR"), only=0)
    assert job.wait(30) == [2] and "Traceback" not in job.output, job.output
    assert "not at which address (MASTER_ADDR not set)" in job.output and "unset RANK" in job.output


@dataclass(frozen=True)
class NoLauncher:
    """The only rank of a launcher that was killed before the rendezvous."""

    def __call__(self, rank: int) -> None:
        world = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        os.environ.update(world, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(jobs.free_port()))


def test_a_launcher_that_is_gone(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--control.timeout", "5")
    job = jobs.start(words, tmp_path / "log", 1, NoLauncher())
    assert job.wait(60) == [1] and "Traceback" not in job.output, job.output
    assert "the launcher did not answer within 5 s" in job.output
    assert jobs.status(tmp_path / "run")["state"] == "failed"


@dataclass(frozen=True)
class InAThread:
    """In place of the command: a program that trains in a thread, and stops it before its third batch."""

    words: list[str]
    stops: bool

    def __call__(self, rank: int) -> None:
        before, stop = signal.getsignal(signal.SIGTERM), threading.Event()
        codes: list[int] = []
        if self.stops:
            at_call(STEP, 3, lambda *_, **__: stop.set())
        thread = threading.Thread(target=lambda: codes.append(chexdist.train(self.words, stop)))
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is before
        sys.stdout.flush()
        sys.exit(codes[0])


def test_in_a_thread(shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """As Ray Train calls it: the process's signals stay as they were, and a call stops the run."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 1, InAThread(words[1:], True))
    assert job.wait() == [75], job.output
    assert jobs.status(tmp_path / "run")["state"] == "preempted"
    assert jobs.newest(tmp_path / "run").name == "images-64"
    jobs.run(words, tmp_path / "log", 1, InAThread(words[1:], False))
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", 1))
