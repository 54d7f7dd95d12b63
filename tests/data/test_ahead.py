"""Which shards are cached at a stream position: never too late, never too many, from wherever it starts."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chexdist.data.ahead import ReadAhead, cache_bytes, max_skew, widest_window
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
def test_a_cache_that_follows_it(
    shards: list[tuple[int, int]], seed: int, window: int, batch: int, workers: int, first: int
) -> None:
    """From any batch on: what a rank reads is cached, nothing needed is fetched twice, the bytes suffice."""
    sizes, amounts = zip(*shards, strict=True)
    skew = max_skew(batch, workers)
    ahead = ReadAhead(sizes, seed, window, skew)
    limit = cache_bytes(sizes, amounts, window, skew)
    cached: set[int] = set()
    for t in range(first, first + 40):
        wanted, kept = ahead.to_fetch_and_keep(t * batch)
        assert len({*wanted}) == len(wanted) and {*wanted} <= {*kept}
        if {*wanted} - cached:  # all that is not kept may have to make room
            cached = cached & {*kept} | {*wanted}
            assert sum(amounts[shard] for shard in cached) <= limit
        slowest, farthest = max(first, t - skew // batch), t + skew // batch - 1
        for other in (slowest, t, farthest):
            assert shards_read(sizes, seed, window, batch, other) <= cached


@given(SHARDS, SEEDS, WINDOWS, st.integers(0, 10**6))
def test_the_next_window_is_fetched_too(
    shards: list[tuple[int, int]], seed: int, window: int, position: int
) -> None:
    sizes = tuple(size for size, _ in shards)
    ahead = ReadAhead(sizes, seed, window, 0)
    (_, now), (_, after) = itertools.islice(ahead.windows(position), 2)
    assert ahead.to_fetch_and_keep(position) == (list(dict.fromkeys(now + after)),) * 2


@given(SHARDS, SEEDS, WINDOWS, st.integers(0, 2000))
def test_windows_follow_each_other(
    shards: list[tuple[int, int]], seed: int, window: int, position: int
) -> None:
    sizes = tuple(size for size, _ in shards)
    parts = list(itertools.islice(ReadAhead(sizes, seed, window, 0).windows(position), 20))
    assert position in parts[0][0]
    for (positions, _), (following, _) in itertools.pairwise(parts):
        assert positions.stop == following.start
    for positions, mixed in parts:
        assert len(positions) == sum(sizes[shard] for shard in mixed)
        assert 1 <= len(mixed) <= (window or len(sizes))
        shard_of_sample = np.repeat(np.arange(len(sizes)), sizes)
        epoch, start = divmod(positions.start, sum(sizes))
        order = epoch_order(sizes, seed, epoch, window)[start : start + len(positions)]
        assert {*shard_of_sample[order].tolist()} == {*mixed}


@given(SHARDS, WINDOWS, st.integers(0, 300), st.integers(0, 14_000))
def test_cache_bytes_grow_with_the_window_and_one_that_fits_is_found(
    shards: list[tuple[int, int]], window: int, skew: int, limit: int
) -> None:
    sizes, amounts = zip(*shards, strict=True)
    needed = cache_bytes(sizes, amounts, window, skew)
    assert max(amounts) <= needed <= sum(amounts) == cache_bytes(sizes, amounts, 0, skew)
    found = widest_window(sizes, amounts, skew, limit)
    if found is None:
        assert cache_bytes(sizes, amounts, 1, skew) > limit
    else:
        assert cache_bytes(sizes, amounts, found, skew) <= limit


def test_cache_bytes_of_a_usual_run() -> None:
    """Two windows: the one that is read and the one after it."""
    assert cache_bytes((256,) * 100, (10,) * 100, 20, max_skew(64, 1)) == 400
    assert cache_bytes((256,) * 100, (10,) * 100, 60, max_skew(64, 1)) == 1000
    assert (
        cache_bytes((256,) * 100, (10,) * 100, 1, max_skew(64, 1)) == 80
    )  # 1,536 samples, and both windows that they begin and end in
    assert widest_window((256,) * 100, (10,) * 100, max_skew(64, 1), 410) == 20
