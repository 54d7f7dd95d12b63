"""A disk that takes half a second for each line of the log holds up no rank, and none of it is lost."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest
from helpers import jobs
from helpers.faults import APPEND, STEP, Both, Raises, Signal, Slow, at_call

from chexdist.errors import WorkError
from chexdist.run import writer
from chexdist.run.writer import Writer

SLOW = Slow(APPEND, 0.5)
BARE = ["--checkpoint.every", "0", "--eval.every", "0", "--control.every", "1"]
"""A line of the log after each batch, and nothing else."""


def lines(run: Path) -> list[dict[str, object]]:
    """The log but for its times."""
    return [{**line, "time": 0} for line in jobs.metrics(run)]


@dataclass(frozen=True)
class Notes:
    """Each rank notes when it begins a batch; rank 0 too when half a second of writing begins and ends."""

    directory: Path

    def __call__(self, rank: int) -> None:
        def note(what: str) -> None:
            with (self.directory / str(rank)).open("a") as file:
                file.write(f"{what} {time.monotonic()}\n")

        def write(*_: object) -> None:
            note("from")
            time.sleep(0.5)
            note("to")

        at_call(STEP, None, lambda *_: note("batch"))
        at_call(APPEND, None, write)

    def of(self, rank: int, what: str) -> list[float]:
        found = [line.split() for line in (self.directory / str(rank)).read_text().splitlines()]
        return [float(when) for said, when in found if said == what]


def test_no_rank_waits_for_the_log(shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """Batches of milliseconds go on while a line is half a second under way; the log is the same."""
    notes = Notes(tmp_path)
    jobs.run(jobs.small(shards, tmp_path / "run", "vanilla", *BARE), tmp_path / "log", 2, notes)
    assert lines(tmp_path / "run") == lines(undisturbed("vanilla", 2, *BARE))
    writes = list(zip(notes.of(0, "from"), notes.of(0, "to"), strict=True))
    for rank in (0, 1):
        batches = notes.of(rank, "batch")
        assert len(batches) == 12
        meanwhile = max(sum(begin < batch < end for batch in batches) for begin, end in writes)
        assert meanwhile >= 3, f"rank {rank} began {meanwhile} batches while one line was written"


def test_a_checkpoint_has_its_log_beside_it(
    shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """`kill -9` once a checkpoint is whole: the log up to it is there, and a resumed run ends the same."""
    run, whole = tmp_path / "run", undisturbed("vanilla", 1)
    words = jobs.small(shards, run, "vanilla")
    job = jobs.start(words, tmp_path / "log", 1, Slow(APPEND, 0.2))
    job.until(lambda: (run / "checkpoints/images-144").exists())
    job.kill()
    assert [line for line in lines(run) if line["images"] <= 144] == [
        line for line in lines(whole) if line["images"] <= 144
    ]
    jobs.run(words, tmp_path / "log")
    jobs.same_result(run, whole)


@pytest.mark.parametrize(
    "fault, code", [(Raises(STEP, 9), 1), (Signal(STEP, 9, number=signal.SIGTERM), 75)], ids=["error", "stop"]
)
def test_a_run_that_ends_early_writes_its_log(
    fault: jobs.Fault, code: int, shards: Path, tmp_path: Path
) -> None:
    """What waits to be written when an error or a stop signal comes is written before the process ends."""
    for name, slow in (("slow", Both(SLOW, fault)), ("fast", fault)):
        words = jobs.small(shards, tmp_path / name, "vanilla", *BARE)
        assert jobs.start(words, tmp_path / "log", 1, slow).wait() == [code]
    assert lines(tmp_path / "slow") == lines(tmp_path / "fast")
    assert max(line["images"] for line in jobs.metrics(tmp_path / "slow")) >= 6 * jobs.BATCH


@dataclass(frozen=True)
class FullDisk:
    """From its fifth batch on, what rank 0 appends to the log goes to a disk that is full."""

    run: Path

    def __call__(self, rank: int) -> None:
        def fill(*_: object) -> None:
            while jobs.status(self.run)["images"] != 48:  # by a thread, which may still be at work
                time.sleep(0.01)
            (self.run / "metrics.jsonl").rename(self.run / "kept")
            (self.run / "metrics.jsonl").symlink_to("/dev/full")

        if rank == 0:
            at_call(STEP, 5, fill)


@pytest.mark.parametrize("size", [1, 2])
def test_a_full_disk_under_the_log_ends_all_ranks(
    size: int, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """At the next line or checkpoint, which is not written; the same command resumes."""
    run = tmp_path / "run"
    words = jobs.small(shards, run, "vanilla")
    job = jobs.start(words, tmp_path / "log", size, FullDisk(run))
    assert job.wait(60) == [1] * size, job.output
    assert job.output.count("No space left") == 1 and "Traceback" not in job.output, job.output
    found = jobs.status(run)
    assert (found["state"], found["images"]) == ("failed", 48)
    assert found["cause"].startswith(f"{run}/metrics.jsonl: No space left"), found["cause"]
    assert "bytes are needed" in found["cause"]
    assert jobs.newest(run).name == "images-48"
    (run / "kept").replace(run / "metrics.jsonl")
    jobs.run(words, tmp_path / "log", size)
    jobs.same_result(run, undisturbed("vanilla", size))


def test_the_writer_keeps_order_and_stops_at_a_failure() -> None:
    done: list[int] = []
    with Writer() as slow:
        slow.timeout = 5
        for number in range(5):
            slow.put(lambda number=number: (time.sleep(0.02), done.append(number)))
        slow.flush()
        assert done == [0, 1, 2, 3, 4]

        def fail() -> None:
            raise WorkError("the disk")

        slow.put(fail)
        with pytest.raises(WorkError, match="the disk"):
            slow.flush()
        with pytest.raises(WorkError, match="the disk"):
            slow.put(lambda: done.append(5))
    assert done == [0, 1, 2, 3, 4]


def test_the_writer_holds_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings more waits; at an error it is waited for as long as is said."""
    monkeypatch.setattr(writer, "MOST", 3)
    gate, done = Event(), []
    blocked = Writer()
    brings = Thread(target=lambda: [blocked.put(lambda: (gate.wait(), done.append(0))) for _ in range(9)])
    brings.start()
    brings.join(0.3)
    assert brings.is_alive()
    began = time.monotonic()
    blocked.close(0.2)
    assert time.monotonic() - began < 2
    gate.set()
    brings.join()
    blocked.flush()
    assert len(done) == 9
