"""`python -m benchmarks planted`: which number sees which fault, on small shards."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.planted import FAULTS, HELD_OUT, REAL


def test_it_measures_every_fault(
    build_shards: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = build_shards(200, 50, split="train=0.5,val=0.25,test=0.25")
    assert main(["planted", "--tiny", "--data.shards", str(shards), "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("planted-*.json")
    document = json.loads(file.read_text())
    assert [row["name"] for row in document["rows"]] == [REAL, HELD_OUT, *FAULTS]
    assert {"KID × 1000", "Recall", "Coverage", "MS-SSIM"} <= {*document["columns"]}
    assert all(len(row["cells"]) == len(document["columns"]) for row in document["rows"])
    values = document["values"]
    few, mean = values["5 training images over and over"], values["the mean image"]
    assert few["recall_k5"]["value"] == 0 == mean["feature_distance"]["value"]
    assert values[HELD_OUT]["recall_k5"]["n"] == 32 == few["recall_k5"]["n"]
    real, few = (
        dict(zip(document["columns"], document["rows"][row]["cells"], strict=True)) for row in (0, 3)
    )
    assert few["Recall"].startswith("**0.00 [0.00, ") and "*" not in "".join(real.values())
    assert "in bold where this lies apart" in capsys.readouterr().out


def test_what_it_needs(build_shards: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        ([], "planted needs --data.shards"),
        (["--data.shards", str(build_shards(96, 20, split="train=0.75,val=0.25"))], "has no split test"),
    ):
        assert main(["planted", *words]) == 2
        assert expected in capsys.readouterr().err
