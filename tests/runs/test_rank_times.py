"""The rank that the others wait for is named, in the log and on the screen."""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers import jobs

from chexdist.training.rank_times import busy_seconds, held_up_by


@pytest.mark.parametrize(
    "waits, busy, said",
    [
        ([0.0, 0.0, 0.0], [0.9, 0.92, 0.95], []),
        ([0.0, 0.0, 0.0], [0.4, 0.97, 0.5], ["rank 1 is busy 97% of the time, the median of ranks 50%"]),
        (
            [0.01, 0.02, 0.3],
            [0.5, 0.5, 0.5],
            ["rank 2 waits for data 30% of the time, the median of ranks 2%"],
        ),
        ([0.0, 0.0, 0.05], [0.0, 0.0, 0.0], []),
    ],
)
def test_who_is_named(waits: list[float], busy: list[float], said: list[str]) -> None:
    rows = torch.tensor([[0.1, wait, each, 1e9] for wait, each in zip(waits, busy, strict=True)])
    assert [line.partition(":")[0] for line in held_up_by(rows)] == said


def test_a_thread_that_sleeps_is_not_busy() -> None:
    before, begun = busy_seconds(), time.monotonic()
    while time.monotonic() < begun + 0.3:
        pass
    worked = busy_seconds() - before
    time.sleep(0.5)
    assert 0.2 < worked < 0.45
    assert busy_seconds() - before - worked < 0.1


@dataclass(frozen=True)
class Straggles:
    """A line with every vote, and one rank that has more to do in each step."""

    rank: int
    seconds: float

    def __call__(self, rank: int) -> None:
        from chexdist.training import rank_times
        from chexdist.training.step import Step

        setattr(rank_times, "SECONDS_BETWEEN", 0.01)  # noqa: B010
        original, seconds = Step.__call__, self.seconds if rank == self.rank else 0.0

        def step(*arguments: object) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                pass
            original(*arguments)  # type: ignore[arg-type]

        setattr(Step, "__call__", step)  # noqa: B010


def test_a_straggler_is_named(shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--eval.every", "0", "--checkpoint.every", "0")
    job = jobs.run(words, tmp_path / "log", 2, Straggles(1, 0.3))
    lines = [json.loads(line) for line in (tmp_path / "run/ranks.jsonl").read_text().splitlines()]
    assert len(lines) > 3
    for line in lines[1:]:
        assert [len(line[name]) for name in ("batch_seconds", "memory_bytes")] == [2, 2]
        assert min(line["batch_seconds"]) > 0.25 and min(line["memory_bytes"]) > 50e6
        assert line["busy_share"][1] > 0.8 > line["busy_share"][0]
    assert re.search(
        r"rank 1 is busy \d+% of the time, the median of ranks \d+%: the others wait", job.output
    )
