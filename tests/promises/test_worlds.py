"""The harness of these tests itself: a rank that raises, dies or hangs is named."""

import os
import time

import pytest
from helpers.worlds import WorldFailed, run_world

from chexdist.distributed.world import World


def _ranks(world: World) -> tuple[int, int, int]:
    return world.rank, world.size, os.getpid()


def _fails(world: World, how: str) -> None:
    if world.rank == 1:
        if how == "raises":
            raise ValueError("on purpose")
        if how == "dies":
            os.kill(os.getpid(), 9)
        time.sleep(60)


def test_ranks_are_processes() -> None:
    found = run_world(3, _ranks, limit=60)
    assert [(rank, size) for rank, size, _ in found] == [(0, 3), (1, 3), (2, 3)]
    assert len({os.getpid(), *(process for _, _, process in found)}) == 4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "rank 1 of 2 raised"),
        ("dies", "rank 1 died with code -9"),
        ("hangs", "no answer from rank 1\n"),
    ],
)
def test_failure_names_the_rank(how: str, said: str) -> None:
    with pytest.raises(WorldFailed) as failure:
        run_world(2, _fails, how, limit=8)
    assert said in str(failure.value)
    if how == "hangs":
        assert "in _fails" in str(failure.value)
