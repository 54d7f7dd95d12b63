"""What the ranks of a start, and the nodes that share a cache directory, fetch once."""

import ctypes
import fcntl
import hashlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.shard_server import ShardServer, slow, status

from chexdist.data.cache import Shard, ShardCache
from chexdist.data.once import FRESH, once
from chexdist.data.remote import RemoteDirectory, TryFailed
from chexdist.errors import UserError, WorkError

Files = tuple[Path, list[Shard]]
MakeCache = Callable[..., ShardCache]
NEW_HOST_NAME = 0x04000000
"""CLONE_NEWUTS of `unshare`."""


def ranks(url: str, cache: Path, size: int, port: int = 29511) -> list[tuple[int, str]]:
    """Exit code and output of each rank of a dry run."""
    words = ["train", "--config", "wgan-gp", "--model.size", "32", "--train.batch", "8", "--train.group", "2"]
    words += ["--data.shards", url, "--data.cache", str(cache), "--data.timeout", "5", "--dry-run"]
    world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "chexdist", *words],
            env=os.environ | world | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [each.communicate(timeout=120)[0] for each in started]
    return [(each.returncode, output) for each, output in zip(started, outputs, strict=True)]


def test_four_ranks_fetch_the_manifest_once(build_shards: Callable[..., Path], tmp_path: Path) -> None:
    """Each start fetches it anew, also through the same port."""
    with ShardServer(build_shards(40, 8, split="train=0.8,val=0.2")) as server:
        server.goes_wrong("manifest.json", slow(0.5))
        for starts in (1, 2):
            results = ranks(server.url, tmp_path / "cache", 4)
            assert [code for code, _ in results] == [0] * 4, results
            assert "rank 3: images 6 to 7 of each batch" in results[0][1]
            assert server.requests == {"manifest.json": starts}


def test_all_ranks_know_why_it_could_not_be_had(build_shards: Callable[..., Path], tmp_path: Path) -> None:
    """By one rank's requests, and rank 0 says it."""
    with ShardServer(build_shards(32, 8)) as server:
        server.goes_wrong("manifest.json", *[status(404)] * 9)
        results = ranks(server.url, tmp_path / "cache", 3)
        assert [code for code, _ in results] == [2] * 3, results
        assert "manifest.json: there is no such file" in results[0][1]
        assert results[1][1] == results[2][1] == "" and server.requests == {"manifest.json": 1}


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`as_rank(r)`: this process is rank r of two."""

    def be(rank: int) -> None:
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": 1}.items():
            monkeypatch.setenv(name, str(value))

    return be


def test_a_rank_that_comes_again_is_of_another_start(
    make_cache: MakeCache, as_rank: Callable[[int], None]
) -> None:
    answers = iter([b"first", b"second\nline", b"third"])
    received = []
    for rank in (0, 1, 1, 0, 0):
        as_rank(rank)
        received.append(once(make_cache(), 1, lambda: next(answers)))
    assert received == [b"first", b"first", b"second\nline", b"second\nline", b"third"]


def test_what_is_old_or_not_whole_is_not_taken(
    make_cache: MakeCache, as_rank: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for spoil in ("cut", "old", "no directory"):
        cache = make_cache(directory=tmp_path / spoil)
        as_rank(0)
        assert once(cache, 1, lambda: b"x" * 100) == b"x" * 100
        (record,) = cache.directory.glob("*.manifest")
        as_rank(1)
        if spoil == "cut":
            record.write_bytes(record.read_bytes()[:-50])
        if spoil == "old":
            now = time.time()
            monkeypatch.setattr(time, "time", lambda now=now: now + FRESH + 1)
        if spoil == "no directory":
            record.unlink()
            record.mkdir()
        assert once(cache, 1, lambda: b"anew") == b"anew", spoil


@pytest.mark.parametrize("kind", [UserError, WorkError])
def test_an_error_is_every_rank_s(
    kind: type[Exception], make_cache: MakeCache, as_rank: Callable[[int], None]
) -> None:
    def fail() -> bytes:
        raise kind("no such server")

    for rank, fetch in ((0, fail), (1, lambda: b"never asked")):
        as_rank(rank)
        with pytest.raises(kind, match="no such server"):
            once(make_cache(), 1, fetch)


def node(number: int, action: Callable[[], None]) -> int:
    """A process with a host name of its own, where that is allowed."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        name = f"node-{number}".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(NEW_HOST_NAME) == 0 and libc.sethostname(name, len(name)) == 0:
            assert os.uname().nodename == name.decode()
        action()
        code = 0
    except Exception:  # noqa: BLE001  shown, since a forked process ends without a message
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_nodes_that_share_a_directory_fetch_a_shard_once(
    server: ShardServer, files: Files, make_cache: MakeCache
) -> None:
    """Two jobs on two nodes, each with caches of its own in one directory whose locks all nodes see."""
    folder, shards = files
    for shard in shards:
        server.goes_wrong(shard.name, slow(0.05))

    def read_all() -> None:
        cache = make_cache()
        for shard in shards:
            with cache.open(shard) as file:
                assert file.read() == (folder / shard.name).read_bytes()

    assert wait([node(number, read_all) for number in range(2)]) == [0, 0]
    assert server.requests == {shard.name: 1 for shard in shards}


@pytest.fixture
def own_locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Locks that no other node sees, as on NFS mounted with local_lock=flock."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    yield


def test_where_locks_are_local_each_node_fetches_and_none_reads_another_s_half(
    own_locks: None, files: Files, make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node fails in the middle of a shard, and empties the file, while another writes the rest of it."""
    folder, (shard, *_) = files
    content = (folder / shard.name).read_bytes()
    half, failed, calls = len(content) // 2, tmp_path / "failed", [0]

    def chunks(number: int) -> Iterator[bytes]:
        calls[0] += 1
        if calls[0] == 1 and number == 1:
            while not (tmp_path / "begun").exists():
                time.sleep(0.01)
            yield content[: half // 2]
            raise TryFailed("cut")
        if number == 1:  # the other has read what it has written by then
            while not (tmp_path / "read").exists():
                time.sleep(0.01)
        yield content[:half]
        if calls[0] == 1:
            (tmp_path / "begun").touch()
            while not failed.exists():
                time.sleep(0.01)
        yield content[half:]

    def read(number: int) -> None:
        cache = make_cache()
        original = cache._download

        def download(*arguments: object) -> None:
            try:
                original(*arguments)  # type: ignore[arg-type]
            except TryFailed:
                failed.touch()
                raise

        cache._download = download  # type: ignore[method-assign]
        monkeypatch.setattr(RemoteDirectory, "chunks", lambda *_: chunks(number))
        try:
            with cache.open(shard) as file:
                assert file.read() == content
        finally:
            (tmp_path / "read").touch()

    assert wait([node(number, lambda number=number: read(number)) for number in range(2)]) == [0, 0]
    cached = make_cache().path(shard)
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == shard.sha256
