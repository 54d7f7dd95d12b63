"""All ranks of a node read decoded samples from one memory, and have the pixels that are in the shards."""

from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from helpers.worlds import run_world
from hypothesis import given
from hypothesis import strategies as st

from chexdist.data import decoded
from chexdist.data.decoded import decoded_of_node, share_in_memory
from chexdist.data.loader import batches
from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.world import World
from chexdist.errors import WorkError


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(48, 10)


def read_parts_then_all(world: World, shards: Path, nodes: int) -> tuple[int, np.ndarray]:
    """Each rank reads its part; then how many samples it would have to decode, and all pixels.

    Rank r is on node r % nodes.
    """
    from accelerate import Accelerator

    from chexdist.distributed.collectives import Collectives

    Accelerator(cpu=True)
    collectives = Collectives(world, 60)
    with mock.patch.object(decoded, "_node", lambda: ("kernel", f"{world.rank % nodes}")):
        reader = SampleReader(read_manifest(str(shards)), "train", 64, collectives.gather)
    samples = len(reader.split)
    reader.read(list(collectives.rows_of_rank(samples)))
    collectives.gather(None)
    with mock.patch.object(reader, "_decode", wraps=reader._decode) as decode:
        pixels = reader.read(list(range(samples)))
        return decode.call_count, pixels


@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (2, 1), (4, 1), (4, 2), (2, 2)])
def test_what_one_rank_has_decoded_another_one_reads(ranks: int, nodes: int, shards: Path) -> None:
    found = run_world(ranks, read_parts_then_all, shards, nodes)
    plain = SampleReader(read_manifest(str(shards)), "train", 0)
    expected = plain.read(list(range(len(plain.split))))
    assert all((pixels == expected).all() for _, pixels in found)
    elsewhere = len(expected) - len(expected) // nodes  # parts are equal
    for node in range(nodes):  # of whose ranks one may decode what another one needs
        counts = [count for count, _ in found[node::nodes]]
        assert max(counts) <= elsewhere <= sum(counts)


def test_nothing_has_a_name(shards: Path) -> None:
    before = sorted(Path("/dev/shm").iterdir())
    memory = decoded_of_node(4, 32, np.dtype(np.uint16), decoded.alone)
    memory.pixels[3], memory.there[3] = 65535, 1
    assert sorted(Path("/dev/shm").iterdir()) == before
    assert memory.pixels.shape == (4, 32, 32) and memory.there.tolist() == [0, 0, 0, 1]
    assert not memory.pixels[:3].any()


def test_a_file_that_can_not_be_opened_is_done_without() -> None:
    """Another user's, or that of a process that is gone: this rank keeps its own."""

    def gather(mine: tuple[object, str] | None) -> list[object]:
        return [(mine[0], "/proc/0/fd/9"), mine] if mine else []

    memory = decoded_of_node(4, 32, np.dtype(np.uint8), gather)
    memory.there[:] = 1
    assert memory.pixels.shape == (4, 32, 32) and memory.there.all()


def test_a_damaged_sample_does_not_count_as_decoded(shards: Path) -> None:
    reader = SampleReader(read_manifest(str(shards)), "train", 64)
    with mock.patch.object(reader, "_decode", side_effect=WorkError("damaged")), pytest.raises(WorkError):
        reader.read([0])
    assert reader._decoded is not None and not reader._decoded.there.any()


@given(nodes=st.integers(1, 64), epoch=st.integers(1, 12))
def test_the_share_that_a_node_has(nodes: int, epoch: int) -> None:
    """Of 4,000 samples that each epoch deals out anew, against counting."""
    rng = np.random.default_rng(epoch)
    had = np.zeros(4000, bool)
    for _ in range(epoch - 1):
        had |= rng.integers(0, nodes, len(had)) == 0
    assert share_in_memory(nodes, epoch) == pytest.approx(had.mean(), abs=0.05)


@pytest.mark.parametrize("memory_mib", [0, 64])
def test_pixels_are_handed_over_only_where_memory_does_not_keep_them(shards: Path, memory_mib: int) -> None:
    """Loader processes share the decoded split with the trainer: sample numbers suffice."""
    manifest = read_manifest(str(shards))

    def read(memory: int, workers: int) -> list[tuple[np.ndarray, np.ndarray]]:
        reader = SampleReader(manifest, "train", memory)
        fetched = batches(reader, seed=3, window=0, batch=8, share=range(2, 7), first=1, workers=workers)
        with closing(fetched):
            return [(pixels.numpy(), labels.numpy()) for pixels, labels in islice(fetched, 12)]

    expected = read(0, 0)
    with mock.patch("chexdist.data.loader._shared", side_effect=lambda batch: WorkError("handed over")):
        if memory_mib:
            for found, true in zip(read(memory_mib, 2), expected, strict=True):
                np.testing.assert_array_equal(found[0], true[0])
                np.testing.assert_array_equal(found[1], true[1])
        else:
            with pytest.raises(WorkError, match="handed over"):
                read(memory_mib, 2)
