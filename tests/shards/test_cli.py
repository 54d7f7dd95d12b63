"""The command line: mistakes are one or two lines with exit code 2, and --help loads nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.xray_files import class_folders, write_png

from chexdist.report.collect import BASELINES
from chexdist.run import layout
from shards.__main__ import main
from shards.refusals import NOT_CLASSES


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("cli") / "in", 4)


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["bulid"], "bulid"),
    "no source": (["build", "--out", "{tmp}/out"], "SOURCE"),
    "missing source": (["build", "{tmp}/nowhere", "--out", "{tmp}/out"], "nowhere is not a folder"),
    "empty source": (["build", "{tmp}", "--out", "{tmp}/out"], "no images in"),
    "size": (["build", "{source}", "--out", "{tmp}/out", "--size", "0"], "from 8 to 4096"),
    "bits": (["build", "{source}", "--out", "{tmp}/out", "--bits", "12"], "12"),
    "split sum": (["build", "{source}", "--out", "{tmp}/out", "--split", "train=0.8,val=0.1"], "add up to 1"),
    "split nan": (["build", "{source}", "--out", "{tmp}/out", "--split", "train=nan,val=0.1"], "from 0 to 1"),
    "split name": (
        ["build", "{source}", "--out", "{tmp}/out", "--split", "train=0.5,valid=0.5"],
        "train, val and test",
    ),
    "split twice": (
        ["build", "{source}", "--out", "{tmp}/out", "--split", "train=0.5,train=0.5"],
        "at most once",
    ),
    "split train": (["build", "{source}", "--out", "{tmp}/out", "--split", "val=1"], "train needs"),
    "split form": (["build", "{source}", "--out", "{tmp}/out", "--split", "80/10/10"], "not like train="),
    "regex": (
        ["build", "{source}", "--out", "{tmp}/out", "--patient-pattern", "("],
        "not a regular expression",
    ),
    "no group": (["build", "{source}", "--out", "{tmp}/out", "--patient-pattern", "^...."], "has no group"),
    "no match": (
        ["build", "{source}", "--out", "{tmp}/out", "--patient-pattern", "^(0001)_"],
        "Finding/0000_0.png",
    ),
    "per class": (
        ["build", "{source}", "--out", "{tmp}/out", "--per-class", "5"],
        "class no_finding has only 4",
    ),
    "class real": (
        ["build", "{source}", "--out", "{tmp}/out", "--labels", "{tmp}/real.csv"],
        "no class can be called real",
    ),
    "out in use": (["build", "{source}", "--out", "{source}"], "not an empty folder"),
    "no labels": (["build", "{source}", "--out", "{tmp}/out", "--labels", "{tmp}/none.csv"], "none.csv"),
    "columns": (["build", "{source}", "--out", "{tmp}/out", "--labels", "{tmp}/columns.csv"], "path,label"),
    "empty cell": (
        ["build", "{source}", "--out", "{tmp}/out", "--labels", "{tmp}/empty.csv"],
        "line 2: an empty cell",
    ),
    "binary": (
        ["build", "{source}", "--out", "{tmp}/out", "--labels", "{tmp}/binary.csv"],
        "not a CSV file in UTF-8",
    ),
    "no rows": (["build", "{source}", "--out", "{tmp}/out", "--labels", "{tmp}/other.csv"], "has a row"),
    "rule without labels": (
        ["build", "{source}", "--out", "{tmp}/out", "--label-rule", "all"],
        "give --labels",
    ),
    "allow missing": (["build", "{source}", "--out", "{tmp}/out", "--allow-missing", "some"], "nor all"),
    "bad key": (["build", "{source}", "--out", "{tmp}/out", "--key-file", "{tmp}/bad.key"], "not a key file"),
    "key folder": (["build", "{source}", "--out", "{tmp}/out", "--key-file", "{tmp}"], "not a plain file"),
    "key nowhere": (
        ["build", "{source}", "--out", "{tmp}/out", "--key-file", "{tmp}/no/key"],
        "can't write the key",
    ),
    "verify": (["verify", "{tmp}"], "not a finished shard directory"),
    "inspect": (["inspect", "{tmp}/none"], "not a finished shard directory"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_two_lines_at_most_and_exits_2(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "columns.csv").write_text("file,class\na,b\n")
    (tmp_path / "empty.csv").write_text("path,label\na.png,\n")
    (tmp_path / "binary.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    (tmp_path / "other.csv").write_text("path,label\na.png,finding\n")
    (tmp_path / "real.csv").write_text("path,label\nFinding/0000_0.png,Real\n")
    (tmp_path / "bad.key").write_text("short")
    before = sorted(tmp_path.iterdir())
    arguments, expected = MISTAKES[name]
    try:
        code = main([argument.format(tmp=tmp_path, source=source) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert expected in error and len(error.splitlines()) <= 2
    assert sorted(tmp_path.iterdir()) == before


def test_folders_with_the_names_of_metrics_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("All", "Mean image", "finding"):
        write_png(tmp_path / "in" / folder / "0.png", 1)
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "no class can be called all or mean_image" in error and "rename the folder" in error
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_names_that_are_refused_are_those_of_metrics_and_pictures() -> None:
    assert {layout.UNCONDITIONAL, layout.REAL, *BASELINES} == NOT_CLASSES


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["bulid"]])
def test_help_and_mistakes_load_nothing_heavy(arguments: list[str]) -> None:
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    command = [sys.executable, "-m", "shards", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=False)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"numpy", "pydicom", "torch", "webdataset", "PIL", "rich", "pydantic", "jsonschema"}


def test_phantoms_are_built_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["phantom", "--out", str(tmp_path / "raw"), "--patients", "6", "--size", "48"]
    assert main(arguments) == 0
    options = ["--labels", str(tmp_path / "raw" / "labels.csv"), "--size", "16", "--workers", "1"]
    assert main(["build", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), *options]) == 0
    assert main(["verify", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main(arguments) == 2
    assert "already holds" in capsys.readouterr().err
