"""Parts scanned by several machines and merged are the set of one build, byte for byte."""

import json
from pathlib import Path

import pytest
from helpers.xray_files import class_folders, contents, write_png

from shards import manifest
from shards.__main__ import main

OPTIONS = ["--size", "16", "--workers", "1", "--samples-per-shard", "12", "--patient-pattern", "^([0-9]+)_"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = class_folders(tmp_path_factory.mktemp("source") / "in", 20, 2)
    (folder / "Finding" / "0001_bad.png").write_bytes(b"junk")
    return folder


def parts(source: Path, folder: Path, count: int, *options: str) -> list[str]:
    found = [str(folder / f"part{number + 1}") for number in range(count)]
    for number, part in enumerate(found):
        words = ["build", str(source), *OPTIONS, *options, "--part", f"{number + 1}/{count}", "--out", part]
        assert main(words) == 0
    return found


@pytest.mark.parametrize("draw", [(), ("--per-class", "8")])
def test_four_parts_merge_to_the_bytes_of_one_build(
    source: Path, tmp_path: Path, draw: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(f"{tmp_path}/key").write_text("ab" * 32)
    key = ["--key-file", str(tmp_path / "key")]
    whole = ["build", str(source), *OPTIONS, *draw, *key, "--out", str(tmp_path / "whole")]
    assert main([*whole, "--allow-quarantine", "1"]) == 0
    made = parts(source, tmp_path, 4, *draw)
    assert not list(tmp_path.glob("*.work")) and not list(tmp_path.glob("part*.key"))
    capsys.readouterr()
    merge = ["merge", *made, "--out", str(tmp_path / "out"), *key, "--allow-quarantine", "1"]
    assert main(merge) == 0
    known = f"{16 if draw else 41} of {16 if draw else 41} images are known"
    assert known in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (tmp_path / "out.quarantine.csv").read_text() == (tmp_path / "whole.quarantine.csv").read_text()
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out", "out.quarantine.csv"]


def test_what_is_no_whole_set_of_parts(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = parts(source, tmp_path, 2)
    (other,) = parts(source, tmp_path / "other", 1, "--seed", "1")
    out = ["--out", str(tmp_path / "out")]
    for given, wanted in (
        (made[:1], "1/2"),
        ([*made, made[0]], "once"),
        ([str(source)], "no part"),
        ([*made, other], "another --seed"),
    ):
        assert main(["merge", *given, *out]) == 2
        assert wanted in capsys.readouterr().err
    damaged = tmp_path / "part1/part.json"
    damaged.write_text(json.dumps({"sources": 1}))
    assert main(["merge", *made, *out]) == 2
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()


def test_a_merge_scans_what_changed_since(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 12, 2)
    made = parts(source, tmp_path, 2)
    write_png(source / "Finding" / "0000_0.png", 999)
    write_png(source / "Finding" / "0099_0.png", 998)
    Path(f"{tmp_path}/out.key").write_text("ab" * 32)
    Path(f"{tmp_path}/whole.key").write_text("ab" * 32)
    assert main(["merge", *made, "--out", str(tmp_path / "out")]) == 0
    assert main(["build", str(source), *OPTIONS, "--out", str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sum(split.samples for split in manifest.read(tmp_path / "out").splits.values()) == 25
