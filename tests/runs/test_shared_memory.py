"""Loader processes hand over batches in /dev/shm: too little of it is refused, and no lost batch is waited
for.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import jobs

from chexdist.data.ahead import handed_over_bytes

TIMEOUT = 6
UNCHECKED = (
    "import sys; from chexdist.training import start; start.check_shared_memory = lambda *_: None; "
    "from chexdist.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


def words(shards: Path, run: Path, *more: str) -> list[str]:
    loaded = ("--data.workers", "1", "--data.memory", "0", "--control.timeout", str(TIMEOUT))
    return jobs.small(shards, run, "vanilla", *loaded, *more)


def in_a_container(kib: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with a /dev/shm of its own, of so many KiB."""
    try:
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting needs root")
    script = f'mount -t tmpfs -o size={kib}k tmpfs /dev/shm && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "bash", *command],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@dataclass(frozen=True)
class LittleMemory:
    """The last rank finds this many bytes free in /dev/shm."""

    bytes: int

    def __call__(self, rank: int) -> None:
        from chexdist.training import shared_memory

        if rank == 1:
            setattr(shared_memory, "_free", lambda: self.bytes)  # noqa: B010


@dataclass(frozen=True)
class Full:
    """/dev/shm is full when a loader process hands over its third batch."""

    def __call__(self, rank: int) -> None:
        import torch

        share, calls = torch.Tensor.share_memory_, []

        def full(tensor: torch.Tensor) -> torch.Tensor:
            calls.append(tensor)
            if len(calls) > 4:
                raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")
            return share(tensor)

        setattr(torch.Tensor, "share_memory_", full)  # noqa: B010


@dataclass(frozen=True)
class FullBefore:
    """/dev/shm is full when the loader makes its queues."""

    def __call__(self, rank: int) -> None:
        from multiprocessing.context import BaseContext

        def full(context: BaseContext, size: int = 0) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        setattr(BaseContext, "Queue", full)  # noqa: B010


@dataclass(frozen=True)
class Stuck:
    """Loader processes read nothing after the first batches, as from storage that does not answer."""

    seconds_to_stop: float

    def __call__(self, rank: int) -> None:
        from chexdist.data.reader import SampleReader
        from chexdist.training import patience

        main, read, calls = os.getpid(), SampleReader.read, []

        def stuck(reader: SampleReader, samples: list[int]) -> object:
            calls.append(samples)
            if os.getpid() != main and len(calls) > 3:
                time.sleep(600)
            return read(reader, samples)

        setattr(SampleReader, "read", stuck)  # noqa: B010
        setattr(patience, "SECONDS_TO_STOP", self.seconds_to_stop)  # noqa: B010


def test_the_bytes_that_batches_take() -> None:
    """Four batches a worker and the trained one; 16-bit pixels as int32; labels of 8 bytes; some locks."""
    assert handed_over_bytes(16, 32, 8, 2, kept=False) == 9 * 16 * (32 * 32 + 8) + 2 * 65536
    assert handed_over_bytes(16, 32, 16, 1, kept=False) == 5 * 16 * (4 * 32 * 32 + 8) + 65536
    assert handed_over_bytes(16, 32, 8, 2, kept=True) == 2 * 65536
    assert handed_over_bytes(16, 32, 8, 0, kept=False) == 0


def test_memory_that_is_full_before_the_loader_starts(shards: Path, tmp_path: Path) -> None:
    """One line, and no traceback of what torch had half made."""
    job = jobs.start(words(shards, tmp_path / "run"), tmp_path / "log", 1, FullBefore())
    assert job.wait(60) == [1], job.output
    assert "could not hand over a batch: [Errno 28]" in job.output and "Traceback" not in job.output


def test_too_little_is_refused_by_all_ranks(shards: Path, tmp_path: Path) -> None:
    """Both ranks share this node: twice the bytes of one. One byte less is too little, and all know it."""
    needed = 2 * handed_over_bytes(jobs.BATCH // 2, 32, 8, 1, kept=False)
    run = tmp_path / "run"
    job = jobs.start(words(shards, run), tmp_path / "log", 2, LittleMemory(needed - 1))
    assert job.wait() == [2, 2], job.output
    lines = [line for line in job.output.splitlines() if line.startswith("chexdist")]
    assert len(lines) == 1 and "/dev/shm of " in lines[0] and "--data.workers 0" in lines[0], job.output
    assert "Traceback" not in job.output and jobs.status(run)["state"] == "failed"
    jobs.run(words(shards, run, "--train.images", "48"), tmp_path / "log", 2, LittleMemory(needed))


@pytest.mark.slow
def test_a_container_with_little(shards: Path, tmp_path: Path) -> None:
    """The command itself is refused, in seconds."""
    command = [sys.executable, "-m", "chexdist", *words(shards, tmp_path / "run", "--train.images", "16")]
    done = in_a_container(64, command)
    assert done.returncode == 2 and done.stderr.count("chexdist: /dev/shm of ") == 1, done.stderr


def test_memory_that_fills_up_later(shards: Path, tmp_path: Path) -> None:
    """Torch would print the error of the lost batch, and train would wait for it."""
    run = tmp_path / "run"
    job = jobs.start(words(shards, run), tmp_path / "log", fault=Full())
    assert job.wait(30) == [1], job.output
    assert job.output.count("chexdist: loader processes could not hand over a batch: ") == 1, job.output
    assert "Traceback" not in job.output and "/dev/shm" in jobs.status(run)["cause"]


@pytest.mark.slow
@pytest.mark.parametrize("kib", [4, 64])
def test_memory_that_is_too_small_all_the_same(kib: int, shards: Path, tmp_path: Path) -> None:
    """For the locks of a queue (torch then complains of its own), or for a batch: the check is left out."""
    run, more = tmp_path / "run", ["--train.batch", "64", "--train.images", "640"]
    done = in_a_container(kib, [sys.executable, "-c", UNCHECKED, *words(shards, run, *more)])
    assert done.returncode == 1 and (kib == 4 or "Traceback" not in done.stderr), done.stderr
    assert done.stderr.count("chexdist: loader processes could not hand over a batch: ") == 1, done.stderr
    assert jobs.status(run)["state"] == "failed" and "/dev/shm" in jobs.status(run)["cause"]


@pytest.mark.slow
def test_a_batch_that_never_comes(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = jobs.start(words(shards, run), tmp_path / "log", fault=Stuck(60))
    assert job.wait(TIMEOUT + 20) == [1], job.output
    cause = jobs.status(run)["cause"]
    assert "no batch came from the loader for" in cause and f"chexdist: {cause}" in job.output
    assert "Traceback" not in job.output


def test_a_stop_while_no_batch_comes(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = jobs.start(
        words(shards, run, "--control.timeout", "300"), tmp_path / "log", fault=Stuck(seconds_to_stop=1)
    )
    job.until(lambda: "resume" in job.output or "ranks: 1" in job.output)
    time.sleep(2)
    os.kill(job.ranks[0].pid or 0, signal.SIGTERM)
    assert job.wait(15) == [1], job.output
    assert "stopped as requested" in jobs.status(run)["cause"] and "Traceback" not in job.output
