"""What `chexdist evaluate` refuses of a run, by one line and before it measures anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chexdist.__main__ import main
from chexdist.data.manifest import read_manifest

MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no run": ((), ("RUN", "--help")),
    "nowhere": (("{tmp}/nowhere",), ("{tmp}/nowhere", "no such run directory")),
    "a file": (("{tmp}/file",), ("{tmp}/file", "no such run directory")),
    "other checkpoint": (("{run}", "--checkpoint", "images-50"), ("images-50", "images-40, images-80")),
    "checkpoint elsewhere": (
        ("{run}", "--checkpoint", "../images-40"),
        ("../images-40", "images-40, images-80"),
    ),
    "split": (("{run}", "--split", "train"), ("train", "val", "test")),
    "split that is not there": (("{run}", "--split", "test"), ("--split test", "train, val")),
    "few samples": (("{run}", "--samples", "3"), ("--samples 3", "64")),
    "no pairs": (("{run}", "--pairs", "0"), ("--pairs 0", "16")),
    "seed": (("{run}", "--seed", "-1"), ("--seed -1",)),
    "word for a number": (("{run}", "--pairs", "many"), ("--pairs", "many")),
    "extractor": (("{run}", "--extractor", "inception"), ("inception", "random-conv", "FILE:size=N")),
    "extractor's file": (("{run}", "--extractor", "{tmp}/none.pt:size=32,range=-1..1"), ("{tmp}/none.pt",)),
    "extractor's range": (("{run}", "--extractor", "{tmp}/file:size=32"), ("range=-1..1",)),
    "unknown option": (("{run}", "--epochs", "3"), ("--epochs", "evaluate --help")),
    "shards nowhere": (("{run}", "--data.shards", "{tmp}/none"), ("{tmp}/none", "no directory")),
    "other shards": (("{run}", "--data.shards", "{other}"), ("{other}", "{digest}", "{otherdigest}")),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line(
    case: str,
    runs: dict[bool, Path],
    shards: Path,
    build_shards: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("text")
    other = build_shards(24, 20)
    digests = [read_manifest(str(directory)).digest[:12] for directory in (shards, other)]
    names = {"tmp": tmp_path, "run": runs[True], "other": other}
    names |= {"digest": digests[0], "otherdigest": digests[1]}
    words, expected = ([word.format(**names) for word in part] for part in MISTAKES[case])
    assert main(["evaluate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("chexdist: ") and err.count("\n") == 1
    assert [part for part in expected if part not in err] == [], err
    assert not (runs[True] / "evaluations").exists()


def test_a_launcher_is_refused(
    runs: dict[bool, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["evaluate", str(runs[True])]) == 2
    assert "without a launcher" in capsys.readouterr().err


def test_a_class_that_is_no_file_name(
    run: Path, edited: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shards = edited(lambda document: document.update(classes=["../../escaped", "finding"]))
    for path in (run / "checkpoints").glob("*/state.json"):
        state = json.loads(path.read_text())
        state["manifest"] = read_manifest(str(shards)).digest
        state["classes"] = {"../../escaped": 1, "finding": 1}
        path.write_text(json.dumps(state))
    assert main(["evaluate", str(run), "--data.shards", str(shards)]) == 2
    assert "../../escaped" in capsys.readouterr().err
