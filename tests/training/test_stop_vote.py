"""How often ranks vote on a stop: with each batch, or about once a second, the same batches on all ranks."""

from typing import Any

import pytest
import torch

from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.training import stop_vote
from chexdist.training.stop_vote import MOST_BATCHES, StopVote


class Clock:
    """Seconds that pass by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Asked:
    """In place of a StopRequest."""

    requested = False


class Counted(Collectives):
    """Of one rank; counts what would be sums over ranks."""

    def __init__(self) -> None:
        super().__init__(World(0, 1, 0, 0), 10)
        self.sums = 0

    def all_reduce_async(self, values: torch.Tensor) -> Any:
        self.sums += 1
        return super().all_reduce_async(values)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stop_vote, "time", clock)
    return clock


def begun(collectives: Collectives, asked: Asked) -> StopVote:
    """After a warm-up of a second."""
    vote = StopVote(collectives, asked)  # type: ignore[arg-type]
    vote.warmed_up(1.0)
    return vote


def batches(vote: StopVote, clock: Clock, seconds: list[float]) -> list[bool]:
    """Whether to stop, after each batch that takes so long."""
    answers = []
    for each in seconds:
        vote.begin()
        clock.now += each
        answers.append(vote.end())
    return answers


@pytest.mark.parametrize(
    ("seconds", "votes"), [(0.001, 1000 // MOST_BATCHES), (0.01, 10), (0.4, 500), (1.0, 1000), (30.0, 1000)]
)
def test_about_one_vote_a_second(seconds: float, votes: int, clock: Clock) -> None:
    collectives = Counted()
    vote = begun(collectives, Asked())
    assert not any(batches(vote, clock, [seconds] * 1000))
    assert votes <= collectives.sums <= votes + 1


def test_a_request_waits_for_the_next_vote(clock: Clock) -> None:
    """100 batches of 10 ms are a second."""
    asked = Asked()
    vote = begun(Counted(), asked)
    assert not any(batches(vote, clock, [0.01] * 102))  # votes with the first, the second and the 102nd
    asked.requested = True
    answers = batches(vote, clock, [0.01] * 100)
    assert answers == [False] * 99 + [True]


def test_slower_batches_bring_votes_back(clock: Clock) -> None:
    collectives = Counted()
    vote = begun(collectives, Asked())
    batches(vote, clock, [0.01] * 102)
    before = collectives.sums
    batches(vote, clock, [7.0] * 99)
    assert collectives.sums == before and not vote.slow
    batches(vote, clock, [7.0])  # the one a second after the last vote, as batches were then
    assert vote.slow
    batches(vote, clock, [7.0] * 3)
    assert collectives.sums == before + 4
