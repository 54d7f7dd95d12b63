"""Which shards are at hand while the stream stands somewhere: never too late, never too many, from wherever it starts."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chexdist.data.ahead import Ahead, reach, room, widest_window
from chexdist.data.order import batch_samples, epoch_order

SHARDS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 1000)), min_size=1, max_size=13)
SEEDS = st.integers(0, 2**63 - 1)
WINDOWS = st.integers(0, 15)
MANY_SHARDS = st.lists(st.tuples(st.integers(5, 40), st.integers(1, 1000)), min_size=6, max_size=30)


def shards_read(sizes: tuple[int, ...], seed: int, window: int, batch: int, t: int) -> set[int]:
    shard_of_sample = np.repeat(np.arange(len(sizes)), sizes)
    return {*shard_of_sample[batch_samples(sizes, seed, window, batch, t)].tolist()}


@given(MANY_SHARDS, SEEDS, st.integers(0, 4), st.integers(1, 6), st.integers(0, 3), st.integers(0, 500))
@settings(max_examples=60)
def test_a_cache_that_goes_by_it(
    shards: list[tuple[int, int]], seed: int, window: int, batch: int, workers: int, first: int
) -> None:
    """From any batch on: what any rank reads is there before, nothing is fetched twice while it is needed, the room suffices."""
    sizes, amounts = zip(*shards, strict=True)
    near = reach(batch, workers)
    ahead = Ahead(sizes, seed, window, near)
    limit = room(sizes, amounts, window, near)
    cached: set[int] = set()
    for t in range(first, first + 40):
        wanted, kept = ahead.at(t * batch)
        assert len({*wanted}) == len(wanted) and {*wanted} <= {*kept}
        if {*wanted} - cached:  # all that is not kept may have to make room
            cached = cached & {*kept} | {*wanted}
            assert sum(amounts[shard] for shard in cached) <= limit
        slowest, farthest = max(first, t - near // batch), t + near // batch - 1
        for other in (slowest, t, farthest):
            assert shards_read(sizes, seed, window, batch, other) <= cached


@given(SHARDS, SEEDS, WINDOWS, st.integers(0, 10**6))
def test_the_next_window_is_fetched_too(
    shards: list[tuple[int, int]], seed: int, window: int, position: int
) -> None:
    sizes = tuple(size for size, _ in shards)
    ahead = Ahead(sizes, seed, window, 0)
    (_, now), (_, after) = itertools.islice(ahead.windows(position), 2)
    assert ahead.at(position) == (list(dict.fromkeys(now + after)),) * 2


@given(SHARDS, SEEDS, WINDOWS, st.integers(0, 2000))
def test_windows_follow_each_other(
    shards: list[tuple[int, int]], seed: int, window: int, position: int
) -> None:
    sizes = tuple(size for size, _ in shards)
    parts = list(itertools.islice(Ahead(sizes, seed, window, 0).windows(position), 20))
    assert position in parts[0][0]
    for (places, _), (following, _) in itertools.pairwise(parts):
        assert places.stop == following.start
    for places, mixed in parts:
        assert len(places) == sum(sizes[shard] for shard in mixed)
        assert 1 <= len(mixed) <= (window or len(sizes))
        shard_of_sample = np.repeat(np.arange(len(sizes)), sizes)
        epoch, start = divmod(places.start, sum(sizes))
        order = epoch_order(sizes, seed, epoch, window)[start : start + len(places)]
        assert {*shard_of_sample[order].tolist()} == {*mixed}


@given(SHARDS, WINDOWS, st.integers(0, 300), st.integers(0, 14_000))
def test_room_grows_with_the_window_and_one_that_fits_is_found(
    shards: list[tuple[int, int]], window: int, near: int, limit: int
) -> None:
    sizes, amounts = zip(*shards, strict=True)
    needed = room(sizes, amounts, window, near)
    assert max(amounts) <= needed <= sum(amounts) == room(sizes, amounts, 0, near)
    found = widest_window(sizes, amounts, near, limit)
    if found is None:
        assert room(sizes, amounts, 1, near) > limit
    else:
        assert room(sizes, amounts, found, near) <= limit


def test_room_of_a_usual_run() -> None:
    """Two windows: the one that is read and the one after it."""
    assert room((256,) * 100, (10,) * 100, 20, reach(64, 1)) == 400
    assert room((256,) * 100, (10,) * 100, 60, reach(64, 1)) == 1000
    assert (
        room((256,) * 100, (10,) * 100, 1, reach(64, 1)) == 80
    )  # 1,536 samples, and both windows that they begin and end in
    assert widest_window((256,) * 100, (10,) * 100, reach(64, 1), 410) == 20
