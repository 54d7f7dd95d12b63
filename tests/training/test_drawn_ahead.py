"""Numbers that were drawn a batch ahead are those that are drawn at once, whatever is asked for."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.training.drawn_ahead import DrawnAhead

ASKED = st.tuples(
    st.sampled_from([(noise.normal, 6), (noise.uniform, 3), (noise.labels, (3, 5))]),
    st.sampled_from([Draw.CRITIC_LATENT, Draw.GENERATOR_LATENT]),
    st.integers(0, 3),
    st.sampled_from([range(4), range(4, 8), range(1)]),
)


@given(st.lists(ASKED, max_size=30), st.booleans())
def test_they_are_the_same(asked: list[Any], forwards: bool) -> None:
    drawn = DrawnAhead()
    for (function, more), draw, step, rows in sorted(asked, key=lambda one: one[2]) if forwards else asked:
        found = drawn(function, 7, draw, step, rows, more)
        np.testing.assert_array_equal(found, function(7, draw, step, rows, more))


def recorded(drew: list[tuple[int, str]]) -> Callable[..., np.ndarray]:
    """A function that notes for which batch it draws, and in which thread."""

    def draw(seed: int, draw: Draw, step: int, rows: range, width: int) -> np.ndarray:
        drew.append((step, threading.current_thread().name.split("_")[0]))
        return np.full((len(rows), width), float(step))

    return draw


def test_the_next_batch_is_drawn_in_a_thread_and_once() -> None:
    drew: list[tuple[int, str]] = []
    drawn, function = DrawnAhead(), recorded(drew)
    for step in range(5, 10):
        assert drawn(function, 0, Draw.CRITIC_LATENT, step, range(2), 3).tolist() == [[step] * 3] * 2
    expected = [(5, "MainThread"), *((step, "draws") for step in range(6, 10))]
    assert sorted(one for one in drew if one[0] < 10) == expected


def test_a_batch_that_was_not_expected() -> None:
    """After a resume, or where a penalty is not due in every batch: nothing piles up."""
    drawn = DrawnAhead()
    for step in (0, 1, 7, 3, 3):
        for width in (2, 4) if step % 2 else (2,):
            found = drawn(noise.uniform, 0, Draw.INTERPOLATION, step, range(3), width)
            np.testing.assert_array_equal(found, noise.uniform(0, Draw.INTERPOLATION, step, range(3), width))
        assert len(drawn._asked) + len(drawn._next) <= 4


def test_an_error_is_raised_where_the_numbers_are_asked_for() -> None:
    def fails(seed: int, draw: Draw, step: int, rows: range, width: int) -> np.ndarray:
        if step:
            raise MemoryError("numbers of batch 1")
        return np.zeros((len(rows), width))

    drawn = DrawnAhead()
    drawn(fails, 0, Draw.CRITIC_LATENT, 0, range(2), 3)
    with pytest.raises(MemoryError, match="batch 1"):
        drawn(fails, 0, Draw.CRITIC_LATENT, 1, range(2), 3)
