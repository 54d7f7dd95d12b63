"""Outliers of polarity and view are named and shown by `preview`; `inspect --json` holds all counts."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.phantom_films import films
from helpers.xray_files import class_folders, dicom, smooth, write_dicom
from PIL import Image

from shards import manifest
from shards.__main__ import main
from shards.checking.outliers import find_outliers
from shards.checking.preview import survey

INVERTED, TURNED = (4, 21), (9,)


@pytest.fixture(scope="module")
def chests() -> np.ndarray:
    """Phantoms, uint8 [60, 32, 32]."""
    pixels, _ = films(range(30))
    return ((pixels[:, 0].numpy() + 1) * 127.5).astype(np.uint8)


@pytest.fixture(scope="module")
def built(chests: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outliers")
    for number, film in enumerate(chests):
        film = 255 - film if number in INVERTED else np.rot90(film) if number in TURNED else film
        folder = root / "in" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(film)).resize((64, 64)).save(folder / f"{number:02d}.png")
    assert (
        main(["build", str(root / "in"), "--out", str(root / "out"), "--size", "64", "--workers", "1"]) == 0
    )
    return root / "out"


def test_inverted_and_turned_films_are_found_and_hardly_others(chests: np.ndarray) -> None:
    changed = chests.copy()
    for number in INVERTED:
        changed[number] = 255 - changed[number]
    for number in TURNED:
        changed[number] = np.rot90(changed[number])
    found = find_outliers(changed)
    assert sorted(found.inverted) == list(INVERTED) and found.unlike[0] in TURNED and len(found.unlike) <= 3
    plain = find_outliers(chests)
    assert not plain.inverted and len(plain.unlike) <= 2


def test_few_or_no_pictures_and_constant_ones(chests: np.ndarray) -> None:
    assert find_outliers(chests[:0]).inverted == []
    assert find_outliers(255 - chests[:19]).unlike == []
    blank = np.concatenate([chests, np.full((1, 32, 32), 7, np.uint8)])
    assert find_outliers(blank).unlike[0] == len(chests)


def test_preview_names_and_shows_them(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["preview", str(built), "--out", str(tmp_path / "sheet.png")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("perhaps inverted: ") for line in said) == len(INVERTED)
    assert 1 <= sum(line.startswith("unlike the rest: ") for line in said) <= 3
    found = survey(built, manifest.read(built))
    assert list(found.outliers) == ["perhaps inverted", "unlike the rest", "perhaps text"]
    assert {split: round(shares.sum(), 6) for split, shares in found.histograms.items()} == {
        "train": 1,
        "val": 1,
        "test": 1,
    }
    keys = [place.key for place, _, _ in found.outliers["perhaps inverted"]]
    assert all(any(key in line for line in said) for key in keys)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (sheet[-120:] == (142, 149, 158)).all(axis=-1).mean() > 0.05  # bars of the histograms


def test_inspect_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(tmp_path / "in", 5, 2)
    values = (smooth(99) * 4095).astype(np.uint16)
    elements = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2000, "WindowWidth": 4000}
    write_dicom(tmp_path / "in/Finding/x.dcm", dicom(values, 12, PixelSpacing=[0.2, 0.1], **elements))
    options = ["--size", "16", "--workers", "1", "--out", str(tmp_path / "out")]
    assert main(["build", str(tmp_path / "in"), *options]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    content = manifest.read(tmp_path / "out")
    assert said["render"] == content.render and said["build"] == content.build
    assert said["quarantine"] == {"total": 0, "codes": {}}
    for name, split in content.splits.items():
        assert said["splits"][name]["images"] == split.samples
        assert list(said["splits"][name]["classes"].values()) == split.classes
    assert said["rendered"]["source"] == {"dicom": 1, "raster": 10}
    assert said["rendered"]["inverted"] == {"false": 10, "true": 1}
    assert said["rendered"]["voi"] == {"full scale": 10, "window": 1}
    assert said["rendered"]["not square"] == {"pixels": 1}
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "window=1" in capsys.readouterr().out
    (tmp_path / "out" / "train-000000.tar").write_bytes(b"x" * 700)
    assert main(["inspect", str(tmp_path / "out")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
