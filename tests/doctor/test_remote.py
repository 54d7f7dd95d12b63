"""Shards behind a URL: fetched as training fetches them, into the same cache."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.doctors import Patient, faults, words
from helpers.shard_server import ShardServer, status

from chexdist.data import remote


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.005)


def behind(server: ShardServer, folder: Path, **more: object) -> list[str]:
    given = words(Path("shards"), folder / "run", data__cache=folder / "cache", **more)
    return [server.url.replace("//", "//me:secret@") if word == "shards" else word for word in given]


def test_a_server_that_works(patient: Patient, shards: Path, tmp_path: Path) -> None:
    """One shard is fetched, and read; passwords are not shown."""
    with ShardServer(shards) as server:
        code, lines = patient(behind(server, tmp_path))
        assert code == 0 and faults(lines) == []
        assert sum(count for name, count in server.requests.items() if name.endswith(".tar")) == 1
        (line,) = [line for line in lines if "fetching: " in line]
        assert "train-000000.tar" in line and " MB/s" in line
        assert any("of 72 training samples were decoded" in line for line in lines)
        assert any(line.startswith("ok           cache: ") for line in lines)
        assert "secret" not in "".join(lines)
        code, lines = patient(behind(server, tmp_path))
        assert code == 0 and any("was in it already" in line for line in lines)


def test_a_shard_that_the_server_does_not_give(patient: Patient, shards: Path, tmp_path: Path) -> None:
    with ShardServer(shards) as server:
        server.goes_wrong("train-000000.tar", *[status(403)] * 20)
        code, lines = patient(behind(server, tmp_path))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("fetching: ") and "train-000000.tar" in fault and "403" in fault


def test_no_server(patient: Patient, shards: Path, tmp_path: Path) -> None:
    with ShardServer(shards) as server:
        given = behind(server, tmp_path)
    code, lines = patient(given)
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("shards: ") and "manifest.json" in fault and "secret" not in fault


def test_a_disk_without_room_for_the_cache(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, cache = os.statvfs, tmp_path / "cache"
    full = SimpleNamespace(f_bavail=2, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: full if Path(path) == cache else true(path))
    with ShardServer(shards) as server:
        code, lines = patient(behind(server, tmp_path))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("cache: ")
    assert "cure: lower data.cache_gib, or give --data.cache a directory on a larger disk" in fault
