"""A shard behind a server that goes wrong: the same bytes in the end, or a line that names it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import shard_server
from helpers.shard_server import Answer, ShardServer, status

from chexdist.data import remote
from chexdist.data.cache import Shard, ShardCache
from chexdist.data.remote import RemoteDirectory
from chexdist.errors import UserError, WorkError

Files = tuple[Path, list[Shard]]
MakeCache = Callable[..., ShardCache]
FAULTS: dict[str, tuple[Answer, str]] = {
    "cut": (shard_server.cut, "ClientPayloadError after [0-9,]+ bytes"),
    "short": (shard_server.short, "it ends after 39,900 of 40,000 bytes"),
    "endless": (shard_server.endless, "it has more than 40,000 bytes"),
    "corrupt": (shard_server.corrupt, "its SHA-256 is not the manifest's"),
    "silent": (shard_server.silent, "no byte for 1 s"),
    "deaf": (shard_server.deaf, "no byte for 1 s, after 0 bytes"),
    "dripping": (shard_server.dripping, "bytes in [0-9]+ s are too few"),
    "page": (shard_server.page, "it ends after 28 of 40,000 bytes"),
    "500": (status(500), "HTTP 500"),
    "503": (status(503), "HTTP 503"),
}
WAITING = ("silent", "deaf", "dripping")


@pytest.mark.parametrize("fault", FAULTS)
def test_survived(fault: str, server: ShardServer, files: Files, make_cache: MakeCache) -> None:
    folder, (shard, *_) = files
    server.goes_wrong(shard.name, FAULTS[fault][0])
    cache = make_cache(timeout=1 if fault in WAITING else 20)
    with cache.open(shard) as file:
        assert file.read() == (folder / shard.name).read_bytes()
    assert server.requests == {shard.name: 2}
    assert cache.path(shard).read_bytes() == (folder / shard.name).read_bytes()
    assert {path.name for path in cache.directory.iterdir()} == {cache.path(shard).name, "lock"}


@pytest.mark.parametrize("fault", FAULTS)
def test_named(
    fault: str,
    server: ShardServer,
    files: Files,
    make_cache: MakeCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "TRIES", 2)
    shard = files[1][0]
    server.goes_wrong(shard.name, *[FAULTS[fault][0]] * 2)
    cache = make_cache(timeout=1 if fault in WAITING else 20)
    reason = f"shard {server.url}/{shard.name}: 2 tries in [0-9]+ s, the last: .*{FAULTS[fault][1]}"
    with pytest.raises(WorkError, match=reason):
        cache.open(shard)
    assert not cache.holds(shard)
    assert server.bytes[shard.name] < 40_000_000, "more was taken than a connection holds"
    with cache.open(shard) as file:  # and the next one begins anew
        assert len(file.read()) == shard.bytes


def test_pauses_grow(server: ShardServer, files: Files, make_cache: MakeCache) -> None:
    shard, slept = files[1][0], []
    server.goes_wrong(shard.name, *[status(500)] * 99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote.time, "sleep", slept.append)
        with pytest.raises(WorkError, match="6 tries"):
            make_cache().open(shard)
    assert server.requests[shard.name] == 6
    longest = [0.005, 0.01, 0.02, 0.04, 0.08]
    assert all(most / 2 <= slept_for <= most for slept_for, most in zip(slept, longest, strict=True))


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_what_can_not_pass_is_reported_at_once(
    code: int, server: ShardServer, files: Files, make_cache: MakeCache
) -> None:
    shard = files[1][0]
    server.goes_wrong(shard.name, *[status(code)] * 9)
    with pytest.raises(WorkError, match=rf"{shard.name}: (HTTP {code}|there is no such file)"):
        make_cache().open(shard)
    assert server.requests[shard.name] == 1


def test_a_server_that_is_gone(files: Files, make_cache: MakeCache, server: ShardServer) -> None:
    cache = make_cache()
    cache.open(files[1][0]).close()
    server.__exit__(None, None, None)
    began = time.monotonic()
    with pytest.raises(WorkError, match="6 tries in .*Connect"):
        cache.open(files[1][1])
    assert time.monotonic() - began < 5
    with cache.open(files[1][0]) as file:  # what is there needs no server
        assert len(file.read()) == files[1][0].bytes


def test_one_request_without_range_or_head(server: ShardServer, files: Files, make_cache: MakeCache) -> None:
    make_cache().open(files[1][0]).close()
    assert len(server.headers) == 1 and "range" not in server.headers[0]


def test_secrets_are_sent_and_not_shown(server: ShardServer, files: Files) -> None:
    url = server.url.replace("http://", "http://reader:hunter2@") + "/deep/?token=s3cret"
    directory = RemoteDirectory(url, 1)
    assert str(directory) == f"{server.url}/deep"
    assert directory.read(files[1][0].name, 1 << 20) == (files[0] / files[1][0].name).read_bytes()
    assert server.headers[0]["authorization"].startswith("Basic ")
    assert server.headers[0]["path"] == f"/deep/{files[1][0].name}?token=s3cret"
    server.goes_wrong("manifest.json", *[status(500)] * 9)
    for name, expected in (("absent", UserError), ("manifest.json", (UserError, WorkError))):
        with pytest.raises(expected) as caught:
            directory.read(name, 100)
        assert "hunter2" not in str(caught.value) and "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "local:///etc",
        "simplecache::http://127.0.0.1/x",
        "http://127.0.0.1/x::file:///etc",
        "nothing-of-the-kind://there",
        "pipe://cat /etc/passwd",
        "pipe://cat",
        "http://",
        "http://reader:hun/ter2@127.0.0.1/",
        "http://127.0.0.1:port/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="data.shards") as caught:
        RemoteDirectory(url, 1)
    assert "ter2" not in str(caught.value)
