"""`python -m benchmarks copies`: planted copies of pictures in a folder, by kind."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import smooth
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.copies import KINDS


def test_it_counts_every_kind(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(6):
        level = np.round(smooth(number, 256, 256) * 255).astype(np.uint8)
        Image.fromarray(level).save(tmp_path / "in" / f"{number}_0.png")
    words = ["copies", "--tiny", "--source", str(tmp_path / "in"), "--patient-pattern", r"^(\d+)_"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("copies-*.json")
    document = json.loads(file.read_text())
    rows = {row["name"]: row["cells"] for row in document["rows"]}
    assert list(rows) == list(KINDS) and document["settings"]["images"] == 6
    assert rows["JPEG at quality 40"] == ["4", "4", "0"] == rows["mirrored"] == rows["inverted"]
    assert "of the 6 images are linked, 0 of them of two patients" in document["notes"][0]


def test_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("no picture")
    for words, expected in (
        ([], "copies needs --source"),
        (["--source", str(tmp_path)], "1 pictures; 20 or more are needed"),
    ):
        assert main(["copies", *words]) == 2
        assert expected in capsys.readouterr().err
