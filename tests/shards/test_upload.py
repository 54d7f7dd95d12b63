"""`--out URL`: what is there in the end is what a folder would hold, and the manifest comes last."""

import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from helpers.xray_files import class_folders, contents

from shards import manifest
from shards.__main__ import main

OPTIONS = ["--size", "16", "--workers", "1", "--samples-per-shard", "8"]


class Bucket(MemoryFileSystem):
    """A store in this process that notes what is written, and can fail or spoil a file."""

    protocol = "bucket"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    written: list[str] = []  # noqa: RUF012
    full_after: int | None = None
    spoiled = ""

    def put_file(self, lpath: str, rpath: str, *more: Any, **named: Any) -> None:
        name = rpath.rpartition("/")[2]
        if self.full_after is not None and len(self.written) == self.full_after:
            raise OSError("quota exceeded")
        self.written.append(name)
        self.pipe_file(rpath, Path(lpath).read_bytes()[: -1 if name == self.spoiled else None])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Bucket]:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "written", [])
    monkeypatch.chdir(tmp_path)
    return Bucket


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("source") / "in", 12)


def local(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a folder holds that is built with the same key."""
    key = str(tmp_path / "set.key")
    assert main(["build", str(source), "--out", str(tmp_path / "local"), "--key-file", key, *OPTIONS]) == 0
    return contents(tmp_path / "local")


def test_a_file_url_holds_what_a_folder_would(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"file://{tmp_path}/disk/set"
    assert main(["build", str(source), "--out", url, *OPTIONS]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "set.key", "set.quarantine.csv"]
    assert contents(tmp_path / "disk/set") == local(source, tmp_path)
    assert main(["verify", str(tmp_path / "disk/set")]) == 0
    assert main(["build", str(source), "--out", url, *OPTIONS]) == 2
    assert "holds" in capsys.readouterr().err


def test_shards_come_first_and_what_failed_goes_on(
    bucket: type[Bucket],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["build", str(source), "--out", "bucket://shelf/set", *OPTIONS]
    with monkeypatch.context() as full:
        full.setattr(bucket, "full_after", 2)
        assert main(words) == 1
    said = capsys.readouterr().err
    assert "OSError: quota exceeded" in said and "Traceback" not in said
    assert not any(name.endswith("manifest.json") for name in bucket.store)
    assert main(words) == 0
    assert "scan" not in capsys.readouterr().err  # it only had to upload the rest
    assert bucket.written[-1] == "manifest.json"
    assert len(bucket.written) == len(set(bucket.written))
    held = {name.rpartition("/")[2]: file.getvalue() for name, file in bucket.store.items()}
    assert held == local(source, tmp_path)
    assert not (tmp_path / "set").exists() and not (tmp_path / "set.work").exists()


def test_what_reads_back_otherwise_is_reported(
    bucket: type[Bucket], source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bucket, "spoiled", "train-000000.tar")
    assert main(["build", str(source), "--out", "bucket://shelf/set", *OPTIONS]) == 1
    assert "train-000000.tar is not what was uploaded" in capsys.readouterr().err
    assert not any(name.endswith("manifest.json") for name in bucket.store)


def test_parts_merge_behind_a_url(bucket: type[Bucket], source: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        part = ["--part", f"{number}/2", "--out", str(tmp_path / f"p{number}")]
        assert main(["build", str(source), *OPTIONS, *part]) == 0
    assert main(["merge", "p1", "p2", "--out", "bucket://shelf/set", "--workers", "1"]) == 0
    held = {name.rpartition("/")[2]: file.getvalue() for name, file in bucket.store.items()}
    assert held == local(source, tmp_path)


def test_what_was_set_aside_is_accepted_later(bucket: type[Bucket], tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 6)
    (source / "Finding/bad.png").write_bytes(b"junk")
    words = ["build", str(source), "--out", "bucket://shelf/set", *OPTIONS]
    assert main(words) == 1 and manifest.read(tmp_path / "set").quarantine["total"] == 1
    uploaded = list(bucket.written)
    assert main([*words, "--allow-quarantine", "1"]) == 0
    assert bucket.written == uploaded and not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("gopher9://bucket/set", "Protocol not known: gopher9"),
        ("https://host/set", "can only be read"),
        ("s3://key:secret@bucket/set", "give these in the environment"),
        ("s3://bucket", "give a folder below"),
        ("simplecache::s3://bucket/set", "give a folder below"),
    ],
)
def test_a_url_that_can_not_be_written_is_one_line(
    url: str,
    reason: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", str(source), "--out", url, *OPTIONS]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1 and "secret" not in said
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert main(["build", str(source), "--out", "s3://bucket/set", *OPTIONS]) == 2
    assert "Install s3fs" in capsys.readouterr().err


def test_append_and_part_take_folders(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["append", "s3://bucket/set", str(source)]) == 2
    assert "s3://bucket/set is no folder of this machine" in capsys.readouterr().err
    assert main(["build", str(source), "--out", "s3://bucket/set", "--part", "1/2"]) == 2
    assert "--part goes into a folder" in capsys.readouterr().err
