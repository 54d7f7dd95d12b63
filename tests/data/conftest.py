"""Shards behind a server that may go wrong, with pauses between tries that a test can wait for."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec.implementations.http  # noqa: F401 - here, not in each of a test's processes
import numpy as np
import pytest
from helpers.shard_server import ShardServer

from chexdist.data import remote
from chexdist.data.cache import Shard, ShardCache
from chexdist.data.remote import RemoteDirectory

MakeCache = Callable[..., ShardCache]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.005)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, list[Shard]]:
    """Six files of 40,000 to 45,000 random bytes, and what a manifest would say of them."""
    folder = tmp_path / "served"
    folder.mkdir()
    random, made = np.random.default_rng(0), []
    for number in range(6):
        content = random.bytes(40_000 + 1000 * number)
        name = f"train-{number:06d}.tar"
        (folder / name).write_bytes(content)
        made.append(Shard(name, len(content), hashlib.sha256(content).hexdigest()))
    return folder, made


@pytest.fixture
def server(files: tuple[Path, list[Shard]]) -> Iterator[ShardServer]:
    with ShardServer(files[0]) as server:
        yield server


@pytest.fixture
def make_cache(server: ShardServer, tmp_path: Path) -> MakeCache:
    def make(limit: int = 1 << 20, timeout: int = 20, directory: Path | None = None) -> ShardCache:
        return ShardCache(
            RemoteDirectory(server.url, timeout), str(directory or tmp_path / "cache"), limit, timeout
        )

    return make
