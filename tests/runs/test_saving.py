"""A checkpoint is written during training, and holds the batch after which it was begun."""

import errno
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest
from helpers import jobs
from helpers.faults import (
    FLUSH,
    SNAPSHOT,
    STEP,
    WRITE,
    Both,
    Diary,
    Raises,
    Scores,
    Signal,
    Slow,
    Synchronous,
)

from chexdist.errors import UserError
from chexdist.metrics.kid import UNIT
from chexdist.metrics.value import Metric
from chexdist.run import directory
from chexdist.run.directory import RunDirectory
from chexdist.run.retention import best_images
from chexdist.run.trained import load_run

KEEP_ALL = ["--checkpoint.every", "48", "--checkpoint.keep", "9"]
SLOW = Slow(WRITE, 0.1)


def files_of(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("checkpoints/*/*")}


def checkpoints(run: Path) -> list[int]:
    """The images of those that are there; nothing else may be there."""
    return sorted(int(path.name.removeprefix("images-")) for path in (run / "checkpoints").iterdir())


def test_a_slow_writer_writes_the_bytes_of_a_synchronous_one(shards: Path, tmp_path: Path) -> None:
    """Batches go by between two files of one checkpoint, which holds nothing of them."""
    diary = Diary(tmp_path / "diary")
    for name, fault in (("slow", Both(SLOW, diary)), ("synchronous", Synchronous())):
        jobs.run(jobs.small(shards, tmp_path / name, "dcgan", *KEEP_ALL), tmp_path / f"{name}.log", 1, fault)
    assert checkpoints(tmp_path / "slow") == [48, 96, 144, 192]
    assert files_of(tmp_path / "slow") == files_of(tmp_path / "synchronous")
    jobs.same_result(tmp_path / "slow", tmp_path / "synchronous")
    lines = diary.path.read_text().splitlines()
    between = []
    for images in (48, 96, 144):  # the last one is waited for
        files = [i for i, line in enumerate(lines) if line.startswith(f".partial-images-{images} ")]
        assert len(files) == 6
        between += [line for line in lines[files[0] : files[-1]] if line.startswith("batch")]
    assert between
    saved = [line for line in lines if not line.startswith("batch")]
    assert saved == sorted(saved, key=lambda line: int(line.split()[0].rpartition("-")[2])), "two in flight"


def test_a_save_on_request_is_whole_before_the_process_ends(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    fault = Both(SLOW, Signal(STEP, 3, number=signal.SIGTERM))
    assert jobs.start(words, tmp_path / "log", 1, fault).wait() == [75]
    assert jobs.newest(tmp_path / "run").name == "images-64"
    assert jobs.status(tmp_path / "run")["state"] == "preempted"


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "save, noticed, size",
    [(1, "vote", 2), (2, "evaluation", 1), (4, "end", 2)],
    ids=lambda value: str(value),
)
def test_a_writer_that_fails_ends_all_ranks(
    save: int, noticed: str, size: int, shards: Path, tmp_path: Path
) -> None:
    """At the next vote, or where the last save is waited for; what was saved before is what resumes."""
    words = jobs.small(shards, tmp_path / "run", "vanilla", *KEEP_ALL)
    fault = Raises(FLUSH, 8 * (save - 1) + 4, FULL)
    job = jobs.start(words, tmp_path / "log", size, fault)
    assert job.wait(60) == [1] * size, job.output
    assert job.output.count("No space left") == 1 and "Traceback" not in job.output, job.output
    found = jobs.status(tmp_path / "run")
    assert (found["state"], found["images"]) == ("failed", 48 * (save - 1))
    assert f"images-{48 * save}" in found["cause"] and "No space left" in found["cause"]
    assert checkpoints(tmp_path / "run") == [48 * number for number in range(1, save)]
    if noticed == "vote":
        assert max(line["images"] for line in jobs.metrics(tmp_path / "run")) < 96, (
            "noticed by the next save only"
        )


def test_an_unforeseen_error_of_the_writer_ends_the_run(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 1, Raises(WRITE, 2))
    assert job.wait(60) == [1], job.output
    assert jobs.status(tmp_path / "run")["cause"] == "LookupError: not foreseen"


def test_an_error_waits_for_the_save_in_flight(shards: Path, tmp_path: Path) -> None:
    """`status.json` ends with the cause, not with the checkpoint that was finished after it."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    job = jobs.start(words, tmp_path / "log", 1, Both(SLOW, Raises(STEP, 4)))
    assert job.wait(60) == [1], job.output
    found = jobs.status(tmp_path / "run")
    assert (found["state"], found["images"], found["cause"]) == ("failed", 48, "LookupError: not foreseen")


@dataclass(frozen=True)
class OneFails:
    """Rank 1 raises before its fifth batch, while rank 0 still writes the checkpoint of three."""

    def __call__(self, rank: int) -> None:
        if rank == 1:
            Raises(STEP, 5)(rank)
        else:
            Slow(WRITE, 0.7)(rank)


def test_another_rank_s_error_outlasts_the_save_in_flight(shards: Path, tmp_path: Path) -> None:
    """The checkpoint is whole some seconds after that rank has said why it ended; its cause stays."""
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--control.timeout", "20")
    job = jobs.start(words, tmp_path / "log", 2, OneFails())
    job.until(lambda: (tmp_path / "run/status.json").exists() and _state(tmp_path / "run") == "failed")
    assert not (tmp_path / "run/checkpoints/images-48").exists(), "the save was no longer in flight"
    assert job.wait(60) == [1, 1], job.output
    assert jobs.newest(tmp_path / "run").name == "images-48"
    found = jobs.status(tmp_path / "run")
    assert (found["state"], found["rank"], found["cause"]) == ("failed", 1, "LookupError: not foreseen")


def test_a_failure_recorded_as_a_save_ends_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between rank 0's look at the status and its replacement of it, another rank records why it ended."""
    rank_0, rank_1 = RunDirectory(tmp_path), RunDirectory(tmp_path)
    rank_0.status("running", 16)
    other = Thread(target=rank_1.fail, args=(1, "the first cause"))
    look = rank_0.failed

    def look_and_be_overtaken() -> bool:
        found = look()
        other.start()
        other.join(0.5)
        return found

    monkeypatch.setattr(rank_0, "failed", look_and_be_overtaken)
    rank_0.saved(32)
    other.join()
    found = jobs.status(tmp_path)
    assert (found["state"], found["images"], found["cause"]) == ("failed", 32, "the first cause")


def test_a_rank_that_stands_still_at_the_status_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "SECONDS_FOR_STATUS", 0.2)
    run = RunDirectory(tmp_path)
    with RunDirectory(tmp_path)._status_alone():
        run.fail(1, "the first cause")
    assert jobs.status(tmp_path)["state"] == "failed"


def _state(run: Path) -> str:
    return str(jobs.status(run)["state"])


APART = ["--checkpoint.every", "48", "--eval.every", "80", "--checkpoint.keep", "1"]
SCORES = Scores({0: 1.0, 80: 5.0, 160: 7.0, 192: 5.0})


def test_the_best_is_kept_through_kills(shards: Path, tmp_path: Path) -> None:
    """Best at 80 images, where no checkpoint is due; three kills later it is still that one.

    Two ranks, one of which knows the log, agree on it.
    """
    words = jobs.small(shards, tmp_path / "calm", "vanilla", *APART)
    jobs.run(words, tmp_path / "calm.log", 2, SCORES)
    assert checkpoints(tmp_path / "calm") == [80, 192]
    assert load_run(tmp_path / "calm", "best").images == 80
    words = jobs.small(shards, tmp_path / "run", "vanilla", *APART)
    for kill in (
        Signal(SNAPSHOT, 2),  # evaluated at 80 images, not saved yet
        Signal(STEP, 5),  # from 48 on: after the best was saved, before the next
        Signal(FLUSH, 11),  # within a save after the one at 96
    ):
        job = jobs.start(words, tmp_path / "log", 2, Both(SCORES, kill))
        job.until(lambda job=job: job.ranks[0].exitcode == -signal.SIGKILL)  # type: ignore[misc]
        job.kill()
    jobs.run(words, tmp_path / "log", 2, SCORES)
    jobs.same_result(tmp_path / "run", tmp_path / "calm")
    assert files_of(tmp_path / "run") == files_of(tmp_path / "calm")
    shutil.rmtree(tmp_path / "calm/checkpoints/images-80")
    assert load_run(tmp_path / "calm", "best").images == 192  # of those that are there
    (tmp_path / "calm/metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="kid_x1000 was measured for none of its checkpoints: images-192"):
        load_run(tmp_path / "calm", "best")


def test_no_best_is_kept_where_none_is_asked_for(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla", *APART, "--checkpoint.best", "none")
    jobs.run(words, tmp_path / "log", 1, SCORES)
    assert checkpoints(tmp_path / "run") == [192]


KID = "kid_x1000"


def kid(images: int, value: float, protocol: str = "a") -> Metric:
    return Metric(images, images, KID, UNIT, value, 64, value, value, 0.0, protocol, 0.0)


def test_the_best_is_a_function_of_the_log() -> None:
    """The untrained generator, losses, other protocols' values don't count; of equals the first is best."""
    loss = Metric(20, 20, "loss/critic", "mean per image", 0.0, 16, None, None, None, None, 0.0)
    log = [kid(0, 1), kid(10, 9), loss, kid(20, 5), kid(30, 5), kid(40, 6)]
    assert [best_images(log[:length], KID) for length in range(len(log) + 1)] == [
        None,
        None,
        10,
        10,
        20,
        20,
        20,
    ]
    assert best_images([*log, kid(50, 8, "b")], KID) == 50
    assert best_images([*log, kid(50, 8, "b"), kid(60, 7, "b")], KID) == 60
