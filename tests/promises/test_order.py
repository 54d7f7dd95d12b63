"""Order: the stream is the concatenation of the epochs' permutations, whoever reads it, from wherever."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from helpers.checks import check_continues, open_stream
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chexdist.data.manifest import read_manifest
from chexdist.data.order import batch_samples, epoch_order
from chexdist.distributed.partition import micro_batches, share

SHARD_SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=13).map(tuple)
SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(0, 10**6)
WINDOWS = st.integers(0, 15)
IMAGES, BATCH = 40, 16


@given(SHARD_SIZES, SEEDS, EPOCHS, WINDOWS)
def test_epoch_is_a_permutation(sizes: tuple[int, ...], seed: int, epoch: int, window: int) -> None:
    assert np.sort(epoch_order(sizes, seed, epoch, window)).tolist() == list(range(sum(sizes)))


@given(SHARD_SIZES, SEEDS, EPOCHS, WINDOWS)
def test_epoch_is_a_pure_function(sizes: tuple[int, ...], seed: int, epoch: int, window: int) -> None:
    order = epoch_order(sizes, seed, epoch, window)
    epoch_order.cache_clear()
    assert epoch_order(sizes, seed, epoch, window) is not order
    assert epoch_order(sizes, seed, epoch, window).tobytes() == order.tobytes()
    with pytest.raises(ValueError):
        order[0] = 0  # it is cached: nobody may change it


@given(SHARD_SIZES, SEEDS, EPOCHS, st.integers(1, 15))
def test_window_bounds_the_open_shards(sizes: tuple[int, ...], seed: int, epoch: int, window: int) -> None:
    """From a shard's first to its last sample, at most `window` shards are in use: what a cache must hold."""
    shard_of_sample = np.repeat(np.arange(len(sizes)), sizes)
    read = shard_of_sample[epoch_order(sizes, seed, epoch, window)]
    first = [int(np.argmax(read == shard)) for shard in range(len(sizes))]
    last = [len(read) - 1 - int(np.argmax(read[::-1] == shard)) for shard in range(len(sizes))]
    in_use = [sum(first[s] <= index <= last[s] for s in range(len(sizes))) for index in range(len(read))]
    assert max(in_use) <= window


@pytest.mark.parametrize("window", [0, 1, 3])
def test_epochs_seeds_and_windows_differ(window: int) -> None:
    sizes = (20, 20, 20, 20, 20)
    orders = {epoch_order(sizes, seed, epoch, window).tobytes() for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    first_shards = {epoch_order(sizes, 0, epoch, 1)[0] // 20 for epoch in range(60)}
    assert first_shards == set(range(5)), "shards are not permuted"


def test_every_index_is_equally_likely() -> None:
    indices = np.array([np.argsort(epoch_order((4, 3, 5), 1, epoch, 0)) for epoch in range(2000)])
    assert np.abs(indices.mean(axis=0) - 5.5).max() < 5 * np.sqrt((12**2 - 1) / 12 / 2000)


@given(SHARD_SIZES, SEEDS, WINDOWS, st.integers(1, 150), st.integers(0, 50))
def test_batches_are_the_stream(sizes: tuple[int, ...], seed: int, window: int, batch: int, t: int) -> None:
    """Also when a batch straddles two epochs, and when the split is smaller than a batch."""
    samples = sum(sizes)
    epochs = range(t * batch // samples, (t + 3) * batch // samples + 1)
    stream = np.concatenate([epoch_order(sizes, seed, epoch, window) for epoch in epochs])
    start = t * batch - epochs.start * samples
    joined = np.concatenate([batch_samples(sizes, seed, window, batch, t + k) for k in range(3)])
    assert joined.tolist() == stream[start : start + 3 * batch].tolist()


@settings(max_examples=60)
@given(st.integers(1, 1100), st.integers(1, 9), st.integers(1, 1024))
def test_shares_are_a_partition(groups: int, group: int, world_size: int) -> None:
    batch = groups * group
    shares = [share(batch, group, world_size, rank) for rank in range(world_size)]
    assert list(itertools.chain(*shares)) == list(range(batch))
    assert all(len(part) % group == 0 for part in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= group


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 9), st.integers(1, 12))
def test_micro_batches_are_a_partition(first: int, groups: int, group: int, accumulate: int) -> None:
    indices = range(first * group, (first + groups) * group)
    parts = micro_batches(indices, group, accumulate)
    assert list(itertools.chain(*parts)) == list(indices)
    assert all(len(part) % group == 0 for part in parts) and len(parts) == accumulate
    if accumulate <= groups:
        assert all(parts)


def stock_pixels(shards: Path) -> dict[str, np.ndarray]:
    """Pixels by key as webdataset itself reads the tars, decoded by Pillow alone."""
    urls = [str(path) for path in sorted(shards.glob("train-*.tar"))]
    return {
        sample["__key__"]: np.asarray(Image.open(io.BytesIO(sample["png"])))
        for sample in webdataset.WebDataset(urls, shardshuffle=False)
    }


def read_keys(shards: Path, world_size: int, workers: int, count: int, **stream: int) -> list[list[str]]:
    """The keys of `count` batches, the ranks' shares joined: found by their pixels, their labels compared."""
    key_of = {pixels.astype(np.int32).tobytes(): key for key, pixels in stock_pixels(shards).items()}
    assert len(key_of) == IMAGES, "two test images are the same"
    split = read_manifest(str(shards)).splits["train"]
    label_of = dict(zip(split.key.tolist(), split.label.tolist(), strict=True))
    whole: list[list[str]] = [[] for _ in range(count)]
    for rank in range(world_size):
        mine = open_stream(shards, world_size=world_size, rank=rank, workers=workers, **stream)
        for keys, (pixels, labels) in zip(whole, mine, strict=False):
            found = [key_of[image.astype(np.int32).tobytes()] for image in pixels.numpy()]
            assert labels.tolist() == [label_of[key] for key in found]
            keys += found
    return whole


def expected_keys(shards: Path, count: int, window: int = 0) -> list[list[str]]:
    split = read_manifest(str(shards)).splits["train"]
    return [split.key[batch_samples(split.shard_sizes, 5, window, BATCH, t)].tolist() for t in range(count)]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("world_size", "per_shard"), [(1, 40), (2, 14), (3, 6), (4, 40)])
def test_loader_reads_the_stream(
    world_size: int, per_shard: int, workers: int, build_shards: Callable[..., Path]
) -> None:
    """1, 3 and 7 shards; six batches of 16 from 40 images straddle three epochs."""
    shards = build_shards(images=IMAGES, samples_per_shard=per_shard)
    assert read_keys(shards, world_size, workers, 6) == expected_keys(shards, 6)


def test_loader_with_a_window(build_shards: Callable[..., Path]) -> None:
    shards = build_shards(images=IMAGES, samples_per_shard=6)
    assert read_keys(shards, 2, 1, 6, window=2) == expected_keys(shards, 6, window=2)
    assert expected_keys(shards, 6, window=2) != expected_keys(shards, 6)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("first", [1, 2, 7])
def test_starting_later_continues_the_stream(
    first: int, workers: int, build_shards: Callable[..., Path]
) -> None:
    shards = build_shards(images=IMAGES, samples_per_shard=14)
    assert check_continues(shards, workers, first, world_size=3, rank=1) == 4


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_memory_changes_no_pixel(bits: int, workers: int, build_shards: Callable[..., Path]) -> None:
    """Three epochs, so that every sample is also read from memory."""
    shards = build_shards(images=IMAGES, samples_per_shard=14, bits=bits)
    kept = open_stream(shards, workers=workers, memory_mib=64)
    decoded = open_stream(shards, workers=workers, memory_mib=0)
    for (pixels, _), (expected, _) in itertools.islice(zip(kept, decoded, strict=False), 8):
        assert pixels.equal(expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_are_those_of_stock_webdataset(bits: int, build_shards: Callable[..., Path]) -> None:
    shards = build_shards(images=IMAGES, samples_per_shard=14, bits=bits)
    stock, split = stock_pixels(shards), read_manifest(str(shards)).splits["train"]
    assert sorted(stock) == sorted(split.key.tolist())
    assert max(pixels.max() for pixels in stock.values()) > 2 ** (bits - 1)
    order = expected_keys(shards, 3)
    for keys, (pixels, _) in zip(order, open_stream(shards), strict=False):
        assert pixels.shape == (BATCH, 32, 32)
        for key, image in zip(keys, pixels.numpy(), strict=True):
            np.testing.assert_array_equal(image, stock[key])
