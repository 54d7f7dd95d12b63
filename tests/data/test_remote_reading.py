"""Batches of remote shards, through the production loader: the bytes of local ones, or the shard's name."""

import itertools
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from helpers import shard_server
from helpers.shard_server import ShardServer, status

from chexdist.config.tree import Data
from chexdist.data import remote
from chexdist.data.ahead import ReadAhead, cache_bytes, max_skew
from chexdist.data.cache import Shard, ShardCache
from chexdist.data.loader import Batch, batches
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.partition import share
from chexdist.errors import WorkError

WORKERS = pytest.mark.parametrize("workers", [0, 1, 3])
BATCH = 16


@pytest.fixture(scope="session")
def shards(build_shards: Callable[..., Path]) -> Path:
    """96 training images in 12 shards."""
    return build_shards(images=96, samples_per_shard=8)


@pytest.fixture
def served(shards: Path) -> Iterator[ShardServer]:
    with ShardServer(shards) as server:
        yield server


Remote = Callable[..., Manifest]


@pytest.fixture
def remote_manifest(served: ShardServer, tmp_path: Path) -> Remote:
    def read(limit: int = 1 << 30, timeout: int = 20) -> Manifest:
        settings = Data(cache=str(tmp_path / "cache"), cache_gib=limit / 2**30, timeout=timeout)
        return read_manifest(served.url, settings)

    return read


def stream(
    manifest: Manifest,
    workers: int = 0,
    *,
    window: int = 0,
    rank: int = 0,
    size: int = 1,
    memory: int = 0,
    batch: int = BATCH,
) -> Iterator[Batch]:
    return batches(
        SampleReader(manifest, "train", memory),
        seed=5,
        window=window,
        batch=batch,
        share=share(batch, 2, size, rank),
        first=0,
        workers=workers,
    )


def taken(data: Iterator[Batch], count: int) -> list[tuple[bytes, bytes]]:
    """The next batches as bytes."""
    return [
        (pixels.numpy().tobytes(), labels.numpy().tobytes())
        for pixels, labels in itertools.islice(data, count)
    ]


def names(shards: Path) -> list[str]:
    return sorted(path.name for path in shards.glob("train-*.tar"))


def least_cache(manifest: Manifest, window: int, workers: int) -> int:
    train = manifest.splits["train"]
    return cache_bytes(train.shard_sizes, train.shard_bytes, window, max_skew(BATCH, workers))


@WORKERS
def test_a_bad_server_does_not_change_the_batches(
    workers: int, served: ShardServer, shards: Path, remote_manifest: Remote
) -> None:
    wrong = [
        shard_server.cut,
        shard_server.short,
        shard_server.corrupt,
        shard_server.endless,
        shard_server.page,
        status(500),
        shard_server.silent,
    ]
    for name, answer in zip(names(shards), wrong, strict=False):
        served.goes_wrong(name, answer)
    with closing(stream(read_manifest(str(shards)))) as local:
        expected = taken(local, 13)
    with closing(stream(remote_manifest(timeout=2), workers)) as data:
        assert taken(data, 13) == expected
    assert served.requests == {
        "manifest.json": 1,
        **{name: 2 if i < len(wrong) else 1 for i, name in enumerate(names(shards))},
    }


@WORKERS
def test_or_the_shard_is_named(
    workers: int, served: ShardServer, shards: Path, remote_manifest: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TRIES", 3)
    name = names(shards)[7]
    served.goes_wrong(name, *[shard_server.corrupt] * 99)
    reason = f"shard {served.url}/{name}: 3 tries in .* SHA-256"
    with closing(stream(remote_manifest(), workers)) as data, pytest.raises(WorkError, match=reason):
        taken(data, 13)


def test_once_for_two_ranks_of_three_workers(
    served: ShardServer, shards: Path, remote_manifest: Remote
) -> None:
    """Over three epochs."""
    with closing(stream(read_manifest(str(shards)))) as local:
        expected = taken(local, 18)
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(closing(stream(remote_manifest(), 3, rank=rank, size=2))) for rank in (0, 1)
        ]
        parts = [[taken(rank, 1)[0] for rank in ranks] for _ in range(18)]
    joined = [(first[0] + second[0], first[1] + second[1]) for first, second in parts]
    assert joined == expected
    assert served.requests == {"manifest.json": 2, **dict.fromkeys(names(shards), 1)}


@pytest.fixture(scope="session")
def many_shards(build_shards: Callable[..., Path]) -> Path:
    """400 training images in 50 shards."""
    return build_shards(images=400, samples_per_shard=8)


@pytest.mark.parametrize(("workers", "window", "ranks"), [(0, 1, 1), (1, 2, 1), (3, 1, 2)])
def test_a_small_cache(workers: int, window: int, ranks: int, many_shards: Path, tmp_path: Path) -> None:
    """The bytes asked for suffice: over two epochs the limit holds, and nothing is fetched twice in either.

    What one rank has passed, another may still read.
    """
    batch, batches_read = 4, 200
    local = read_manifest(str(many_shards))
    train = local.splits["train"]
    limit = cache_bytes(train.shard_sizes, train.shard_bytes, window, max_skew(batch, workers))
    assert limit < sum(train.shard_bytes) / 2
    settings = Data(cache=str(tmp_path / "cache"), cache_gib=limit / 2**30, timeout=20)
    with ShardServer(many_shards) as server, ExitStack() as stack:
        manifests = [read_manifest(server.url, settings) for _ in range(ranks)]
        data = [
            stack.enter_context(
                closing(stream(manifest, workers, window=window, rank=rank, size=ranks, batch=batch))
            )
            for rank, manifest in enumerate(manifests)
        ]
        whole = stack.enter_context(closing(stream(local, window=window, batch=batch)))
        for expected in taken(whole, batches_read):
            parts = [taken(rank, 1)[0] for rank in data]
            assert (
                b"".join(pixels for pixels, _ in parts),
                b"".join(labels for _, labels in parts),
            ) == expected
            assert manifests[0].cache
            with manifests[0].cache._locked():  # nothing is removed meanwhile
                assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.tar")) <= limit
        del server.requests["manifest.json"]
        # twice for two epochs, thrice for what the third needs first
        assert len(server.requests) == 50 and 2 <= max(server.requests.values()) <= 3
        assert min(server.requests.values()) >= 1 and sum(server.requests.values()) < 125
        fetched = sum(manifest.cache.fetched() for manifest in manifests if manifest.cache)
        assert fetched <= sum((many_shards / name).stat().st_size * n for name, n in server.requests.items())


def test_fetched_before_it_is_read(
    many_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given time, what any rank may read next is cached, and the reader fetches only at the start."""
    by_the_reader: list[str] = []
    original = ShardCache._fetch_waiting

    def fetch(cache: ShardCache, shard: Shard) -> object:
        by_the_reader.append(shard.name)
        return original(cache, shard)

    monkeypatch.setattr(ShardCache, "_fetch_waiting", fetch)
    with ShardServer(many_shards) as server:
        manifest = read_manifest(server.url, Data(cache=str(tmp_path / "cache")))
        split, cache = manifest.splits["train"], manifest.cache
        ahead = ReadAhead(split.shard_sizes, 5, 1, max_skew(4, 0))
        assert cache
        with closing(stream(manifest, window=1, batch=4)) as data:
            taken(data, 1)
            at_the_start = len(by_the_reader)
            for t in range(40):
                wanted, _ = ahead.to_fetch_and_keep(t * 4)
                end = time.monotonic() + 10
                while not all(cache.holds(split.shards[shard]) for shard in wanted):
                    assert time.monotonic() < end
                    time.sleep(0.005)
                taken(data, 1)
        assert len(by_the_reader) == at_the_start < 3 < len(server.requests)


def test_decoded_samples_need_no_shard(
    served: ShardServer, shards: Path, tmp_path: Path, remote_manifest: Remote
) -> None:
    """Once all are decoded, neither the server nor the cache is asked again."""
    with closing(stream(read_manifest(str(shards)))) as local:
        expected = taken(local, 18)
    with closing(stream(remote_manifest(), memory=64)) as data:
        assert taken(data, 6) == expected[:6]
        served.requests.clear()
        shutil.rmtree(tmp_path / "cache")
        assert taken(data, 12) == expected[6:]
        time.sleep(0.3)  # for the one that fetches ahead
    assert not served.requests


@WORKERS
def test_goes_on_when_the_fetcher_is_killed(
    workers: int, served: ShardServer, shards: Path, remote_manifest: Remote
) -> None:
    manifest = remote_manifest(least_cache(read_manifest(str(shards)), 1, workers))
    with closing(stream(read_manifest(str(shards)), window=1)) as local:
        expected = taken(local, 12)
    with closing(stream(manifest, workers, window=1)) as data:
        assert taken(data, 1) == expected[:1]
        fetcher = [child for child in multiprocessing.active_children() if child.name == "fetcher"]
        assert len(fetcher) == 1
        fetcher[0].kill()
        assert taken(data, 11) == expected[1:]


def test_nothing_outlives_a_rank_that_is_killed(
    served: ShardServer, shards: Path, remote_manifest: Remote
) -> None:
    """Neither the loader workers nor the fetcher, even where the server leaves them waiting."""
    for name in names(shards)[6:]:
        served.goes_wrong(name, *[status(503)] * 999)

    def train() -> None:
        with closing(stream(remote_manifest(), 2, window=1)) as data:
            taken(data, 99)

    rank = multiprocessing.get_context("fork").Process(target=train)
    rank.start()
    tree: list[psutil.Process] = []
    while len(tree) < 3:
        tree = psutil.Process(rank.pid).children(recursive=True)
        time.sleep(0.01)
    time.sleep(0.2)
    rank.kill()
    rank.join()
    _, alive = psutil.wait_procs(tree, timeout=15)
    assert not alive


def test_nothing_outlives_the_stream(served: ShardServer, remote_manifest: Remote) -> None:
    this = psutil.Process(os.getpid())
    others = set(this.children())
    with closing(stream(remote_manifest(), 1)) as data:
        taken(data, 1)
        made = set(this.children()) - others
        assert len(made) >= 2
    assert not [
        child
        for child in set(this.children()) - others
        if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline())
    ]


def test_no_shard_is_kept_open(tmp_path: Path, remote_manifest: Remote, served: ShardServer) -> None:
    """Its room in the cache would not be free when it is removed."""
    reader = SampleReader(remote_manifest(), "train", 0)
    reader.read([0, 9, 50])
    opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [name for name in opened if str(tmp_path) in name]


def test_a_damaged_file_in_the_cache_is_named(
    served: ShardServer, tmp_path: Path, remote_manifest: Remote
) -> None:
    manifest = remote_manifest()
    train = manifest.splits["train"]
    reader = SampleReader(manifest, "train", 0)
    reader.read([0])
    with train.files[0].open("r+b") as file:
        file.seek(int(train.offset[0]) + 20)
        file.write(b"xx")
    with pytest.raises(WorkError, match=f"shard {train.files[0]}.*remove the file and start again"):
        reader.read([0])
    train.files[0].unlink()
    reader.read([0])
