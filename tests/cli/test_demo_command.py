"""`chexdist demo`: its seed reaches every step, and one folder is of one seed."""

import json
from pathlib import Path

import pytest

from chexdist.__main__ import main
from chexdist.commands import demo


def test_every_step_has_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, typed = tmp_path / "demo", []

    def call(*words: object, **_: str) -> None:
        typed.append([str(word) for word in words])
        if "build" in words:
            (out / "shards").mkdir()
            (out / "shards" / "manifest.json").write_text(json.dumps({"build": {"seed": 7}}))
        if "train" in words:
            run = Path(typed[-1][typed[-1].index("--run.dir") + 1])
            run.mkdir(parents=True)
            (run / "status.json").write_text(json.dumps({"state": "done"}))

    monkeypatch.setattr(demo, "_call", call)
    assert main(["demo", "--out", str(out), "--seed", "7"]) == 0
    seeded = [words for words in typed if {"phantom", "build", "train"} & {*words}]
    assert len(seeded) == 2 + len(demo.GANS)
    for words in seeded:
        option = "--train.seed" if "train" in words else "--seed"
        assert words[words.index(option) + 1] == "7"
    assert {words[words.index("--config") + 1] for words in seeded[2:]} == {*demo.GANS}


def test_another_seed_needs_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vinbigdata").mkdir()
    (tmp_path / "vinbigdata" / "train.csv").touch()
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text(json.dumps({"build": {"seed": 0}}))
    assert main(["demo", "--out", str(tmp_path), "--seed", "3"]) == 2
    assert "made with --seed 0, not 3: choose another folder" in capsys.readouterr().err
    assert main(["demo", "--out", str(tmp_path), "--seed", "-1"]) == 2
    assert "--seed" in capsys.readouterr().err
