"""The cache of a node: one fetch for all processes, a limit that holds, kills and full disks at any time."""

import errno
import itertools
import multiprocessing
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from helpers import shard_server
from helpers.shard_server import ShardServer, slow, status

from chexdist.data import cache as cache_module
from chexdist.data import remote
from chexdist.data.cache import Shard, ShardCache
from chexdist.data.remote import TryFailed
from chexdist.errors import WorkError

Files = tuple[Path, list[Shard]]
MakeCache = Callable[..., ShardCache]
FORK = multiprocessing.get_context("fork")


def in_a_process(action: Callable[[], object]) -> BaseProcess:
    """A process that ends with 0, or with 1 and a line in `errors` when a `WorkError` is raised."""

    def run() -> None:
        try:
            action()
        except WorkError as error:
            with Path(os.environ["ERRORS"]).open("a") as file:
                file.write(f"{error}\n")
            os._exit(1)
        os._exit(0)

    process = FORK.Process(target=run, daemon=True)
    process.start()
    return process


@pytest.fixture
def errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "errors"
    path.touch()
    monkeypatch.setenv("ERRORS", str(path))
    return path


def codes(processes: list[BaseProcess]) -> list[int | None]:
    for process in processes:
        process.join(20)
    return [process.exitcode for process in processes]


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def size(cache: ShardCache) -> int:
    """Bytes of all files, while none is renamed, removed or gets room."""
    with cache._locked():
        return sum(found.st_size for _, found in cache._files())


def read(cache: ShardCache, shard: Shard, folder: Path) -> None:
    with cache.open(shard) as file:
        assert file.read() == (folder / shard.name).read_bytes()


def test_fetched_once_by_many_processes(server: ShardServer, files: Files, make_cache: MakeCache) -> None:
    folder, shards = files
    for shard in shards:
        server.goes_wrong(shard.name, slow(0.1))
    cache = make_cache()

    def read_all(first: int) -> None:
        for shard in shards[first:] + shards[:first]:
            read(cache, shard, folder)

    processes = [in_a_process(partial(read_all, number)) for number in range(6)]
    assert codes(processes) == [0] * 6
    assert server.requests == {shard.name: 1 for shard in shards}
    assert cache.fetched() == sum(shard.bytes for shard in shards)


def test_two_caches_of_one_directory_share_it(
    server: ShardServer, files: Files, make_cache: MakeCache
) -> None:
    make_cache().open(files[1][0]).close()
    make_cache().open(files[1][0]).close()
    assert server.requests[files[1][0].name] == 1


def test_the_limit_holds_and_what_was_used_last_stays(
    server: ShardServer, files: Files, make_cache: MakeCache
) -> None:
    folder, shards = files
    cache = make_cache(limit=130_000)
    watched: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if cache.directory.exists():
                watched.append(size(cache))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in (0, 1, 2, 0, 3):
        read(cache, shards[number], folder)
    stop.set()
    watcher.join()
    assert max(watched) <= 130_000 and len(watched) > 10
    assert [cache.holds(shard) for shard in shards] == [True, False, True, True, False, False]
    read(cache, shards[1], folder)  # and what was removed is fetched again
    assert server.requests[shards[1].name] == 2


def test_the_limit_holds_for_many_processes(
    server: ShardServer, files: Files, make_cache: MakeCache, errors: Path
) -> None:
    """Space for two shards, four processes that want six: each waits, none fails or reads another."""
    folder, shards = files
    cache = make_cache(limit=90_000)

    def read_all(first: int) -> None:
        for shard in itertools.islice(itertools.cycle(shards), first, first + 20):
            read(cache, shard, folder)
            if size(cache) > 90_000:
                raise WorkError(f"{size(cache)} bytes")

    processes = [in_a_process(partial(read_all, number)) for number in range(4)]
    assert codes(processes) == [0] * 4, errors.read_text()


def test_ahead_of_need_nothing_that_is_kept_makes_room(
    server: ShardServer, files: Files, make_cache: MakeCache
) -> None:
    _, shards = files
    cache = make_cache(limit=130_000)
    assert all(cache.fetch(shard, keep=shards[:3]) for shard in shards[:3])
    assert not cache.fetch(shards[3], keep=shards[:4])
    assert [cache.holds(shard) for shard in shards[:4]] == [True, True, True, False]
    assert cache.fetch(shards[3], keep=shards[1:4])
    assert [cache.holds(shard) for shard in shards[:4]] == [False, True, True, True]
    assert not cache.fetch(shards[3], keep=()), "it is there"


def test_an_open_shard_stays_readable(files: Files, make_cache: MakeCache, server: ShardServer) -> None:
    folder, shards = files
    cache = make_cache(limit=45_000)
    with cache.open(shards[0]) as file:
        read(cache, shards[1], folder)
        assert not cache.holds(shards[0])
        assert file.read() == (folder / shards[0].name).read_bytes()


def test_a_shard_larger_than_the_cache(files: Files, make_cache: MakeCache, server: ShardServer) -> None:
    with pytest.raises(WorkError, match="40,000 bytes are more than data.cache_gib allows"):
        make_cache(limit=39_999).open(files[1][0])


@pytest.mark.parametrize("answer", ["silent", "deaf"])
def test_killed_while_it_fetches(
    answer: str, server: ShardServer, files: Files, make_cache: MakeCache
) -> None:
    """Another one waits at the same time: it begins anew at once, from what is left."""
    folder, (shard, *_) = files
    server.goes_wrong(shard.name, getattr(shard_server, answer))
    cache = make_cache(timeout=60, limit=80_000)
    victim = in_a_process(lambda: cache.open(shard))
    until(lambda: server.requests[shard.name])
    waiting = in_a_process(lambda: read(cache, shard, folder))
    time.sleep(0.1)
    assert server.requests[shard.name] == 1
    victim.kill()
    assert codes([victim, waiting]) == [-9, 0]
    assert server.requests[shard.name] == 2
    read(make_cache(limit=80_000), shard, folder)
    assert server.requests[shard.name] == 2


def test_what_a_killed_process_left_makes_room(
    server: ShardServer, files: Files, make_cache: MakeCache
) -> None:
    folder, (shard, other, *_) = files
    server.goes_wrong(shard.name, shard_server.silent)
    cache = make_cache(timeout=60, limit=80_000)
    victim = in_a_process(lambda: cache.open(shard))
    until(lambda: server.bytes[shard.name])
    until(lambda: size(cache) == shard.bytes)
    victim.kill()
    victim.join()
    left = cache.path(shard).with_suffix(".partial")
    assert left.stat().st_size == shard.bytes
    read(cache, other, folder)
    assert not left.exists()


@pytest.fixture
def stopped(server: ShardServer, files: Files, make_cache: MakeCache) -> Iterator[BaseProcess]:
    """A process that is stopped while it fetches the first shard."""
    shard = files[1][0]
    server.goes_wrong(shard.name, shard_server.silent)
    cache = make_cache(timeout=60)
    process = in_a_process(lambda: cache.open(shard))
    until(lambda: server.bytes[shard.name])
    assert process.pid
    os.kill(process.pid, signal.SIGSTOP)
    yield process
    process.kill()


def test_stopped_while_it_fetches(
    stopped: BaseProcess, files: Files, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "PATIENCE", 0.5)
    cache = make_cache(timeout=0)
    began = time.monotonic()
    with pytest.raises(
        WorkError, match="train-000000.tar: the process that fetches it into .* has made no progress"
    ):
        cache.open(files[1][0])
    assert time.monotonic() - began < 5
    assert not cache.fetch(files[1][0], keep=()), "the one ahead does not wait"


def test_those_who_wait_do_not_try_it_all_again(
    server: ShardServer, files: Files, make_cache: MakeCache, errors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.1)
    shard = files[1][0]
    server.goes_wrong(shard.name, *[status(500)] * 99)
    cache = make_cache()
    processes = [in_a_process(lambda: cache.open(shard)) for _ in range(4)]
    assert codes(processes) == [1] * 4
    assert server.requests[shard.name] == 6
    lines = {*errors.read_text().splitlines()}
    assert len(lines) == 1 and f"{shard.name}: 6 tries" in lines.pop()


def test_a_shard_that_is_cut_on_the_disk_is_fetched_again(
    files: Files, make_cache: MakeCache, server: ShardServer
) -> None:
    folder, (shard, *_) = files
    cache = make_cache()
    cache.open(shard).close()
    os.truncate(cache.path(shard), 100)
    read(cache, shard, folder)
    assert server.requests[shard.name] == 2


def test_the_files_of_others_stay(files: Files, make_cache: MakeCache, server: ShardServer) -> None:
    """A cache in a directory of shards."""
    folder, shards = files
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    cache = make_cache(limit=50_000, directory=folder)
    for shard in shards:
        cache.open(shard).close()
    assert before.items() <= {path.name: path.read_bytes() for path in folder.iterdir()}.items()


def test_a_file_size_limit(files: Files, make_cache: MakeCache, server: ShardServer, errors: Path) -> None:
    """Stands in for a full disk where nobody may mount one."""
    cache = make_cache()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        cache.open(files[1][0])

    assert codes([in_a_process(limited)]) == [1]
    assert f"data.cache {cache.directory}: File too large" in errors.read_text()
    assert "train-000000.tar: 6 tries" in errors.read_text() and not cache.holds(files[1][0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_is_named(
    small_disk: Path, files: Files, make_cache: MakeCache, server: ShardServer
) -> None:
    (small_disk / "other").write_bytes(bytes(100_000))
    cache = make_cache(directory=small_disk)
    with pytest.raises(WorkError, match=f"6 tries in .* data.cache {small_disk}: No space left on device"):
        cache.open(files[1][0])
    with pytest.raises(TryFailed, match="No space left on device"):
        cache.fetch(files[1][0], keep=())
    assert not cache.holds(files[1][0])


def test_a_full_disk_that_gets_room_is_survived(
    small_disk: Path, files: Files, make_cache: MakeCache, server: ShardServer
) -> None:
    other = small_disk / "other"
    other.write_bytes(bytes(100_000))
    server.goes_wrong(
        files[1][0].name, shard_server.right, lambda *_: (other.unlink(), shard_server.right(*_))
    )
    read(make_cache(directory=small_disk), files[1][0], files[0])
    assert server.requests[files[1][0].name] == 2


def test_a_directory_that_can_not_be_made(files: Files, make_cache: MakeCache, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match=f"data.cache {tmp_path}/file/x: {os.strerror(errno.ENOTDIR)}"):
        make_cache(directory=tmp_path / "file" / "x").open(files[1][0])


def test_the_default_directory_must_be_ones_own(
    files: Files, server: ShardServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module.tempfile, "gettempdir", lambda: str(tmp_path))
    cache = ShardCache(remote.RemoteDirectory(server.url, 1), "", 1 << 20, 1)
    cache.open(files[1][0]).close()
    assert cache.directory == tmp_path / f"chexdist-{os.getuid()}"
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    theirs = tmp_path / "theirs"
    cache.directory.rename(theirs)
    cache.directory.symlink_to(theirs)
    with pytest.raises(WorkError, match="another user's"):
        cache.open(files[1][1])
