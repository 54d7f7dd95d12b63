"""The contact sheet: what is on it, the same each time, and errors for damaged or hostile shards."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import class_folders
from PIL import Image

from shards import manifest
from shards.__main__ import main
from shards.checking.preview import CAPTION, GAP, MARGIN, TILE, TITLE, choose, read_picture
from shards.errors import WorkError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("preview")
    source = class_folders(root / "in", 12, 3)
    options = ["--size", "24", "--workers", "1", "--split", "train=0.5,val=0.5", "--samples-per-shard", "7"]
    options += ["--patient-pattern", "^([0-9]+)_"]
    assert main(["build", str(source), "--out", str(root / "shards"), *options]) == 0
    return root / "shards"


def sheet(folder: Path, out: Path, *options: str) -> bytes:
    assert main(["preview", str(folder), "--out", str(out), *options]) == 0
    return out.read_bytes()


def with_manifest(built: Path, folder: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """A copy of the shards whose manifest went through `change`."""
    folder.mkdir()
    for path in built.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / manifest.FILE).read_text())
    change(content)
    (folder / manifest.FILE).write_text(json.dumps(content))
    return folder


def test_the_pictures_are_those_of_the_shards(built: Path, tmp_path: Path) -> None:
    image = np.asarray(Image.open(io.BytesIO(sheet(built, tmp_path / "sheet.png", "--per-class", "5"))))
    content = manifest.read(built)
    rows = choose(content, 5)
    assert [(row.split, row.label) for row in rows] == [
        (split, label) for split in ("train", "val", "test") for label in ("no_finding", "finding")
    ]
    assert image.shape[1] == 2 * MARGIN + 5 * (TILE + GAP) - GAP
    top = TITLE
    for row in rows:
        assert row.total == content.splits[row.split].classes[content.classes.index(row.label)]
        assert len(row.shown) == min(5, row.total)
        assert image[top : top + CAPTION].max() > 200  # a caption
        for number, location in enumerate(row.shown):
            left = MARGIN + number * (TILE + GAP)
            tile = image[top + CAPTION : top + CAPTION + TILE, left : left + TILE, 0]
            small = np.asarray(Image.fromarray(tile).resize((24, 24), Image.Resampling.BOX)).astype(int)
            own = np.asarray(read_picture(built, location, 24)).astype(int)
            assert np.abs(small - own).mean() < 8  # of another picture: above 50
        top += CAPTION + (TILE + GAP if row.shown else 0)


def test_many_patients_are_shown_before_one_twice(built: Path) -> None:
    for row in choose(manifest.read(built), 64):
        patients = [location.patient for location in row.shown]
        first = len(set(patients))
        assert len(set(patients[:first])) == first


def test_the_same_each_time_and_in_the_place_of_an_earlier_one(built: Path, tmp_path: Path) -> None:
    before = sorted(built.iterdir())
    first = sheet(built, tmp_path / "sheet.png")
    assert sheet(built, tmp_path / "sheet.png") == first
    assert sheet(built, tmp_path / "sheet.png", "--per-class", "2") != first
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"] and sorted(built.iterdir()) == before


@pytest.mark.parametrize("bits", ["8", "16"])
def test_large_and_deep_pictures_fit(tmp_path: Path, bits: str) -> None:
    source = class_folders(tmp_path / "in", 2, 2)
    options = ["--size", "200", "--bits", bits, "--workers", "1", "--split", "train=1"]
    assert main(["build", str(source), "--out", str(tmp_path / "shards"), *options]) == 0
    image = np.asarray(Image.open(io.BytesIO(sheet(tmp_path / "shards", tmp_path / "sheet.png"))))
    tiles = image[TITLE + CAPTION : TITLE + CAPTION + TILE, MARGIN : MARGIN + TILE]
    assert tiles.max() > 150 and tiles.std() > 20


def test_what_is_in_the_way_is_not_replaced(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone" / "sheet.png")
    shard = next(built.glob("*.tar"))
    for out in (tmp_path / "notes.txt", tmp_path / "folder", tmp_path / "dangling.png", shard):
        before = out.read_bytes() if out.is_file() else b""
        assert main(["preview", str(built), "--out", str(out)]) == 2
        assert "not a PNG file" in capsys.readouterr().err
        assert (out.read_bytes() if out.is_file() else b"") == before
    assert main(["preview", str(built), "--out", str(tmp_path / "no" / "sheet.png")]) == 2
    assert main(["preview", str(tmp_path), "--out", str(tmp_path / "sheet.png")]) == 2
    assert "not a finished shard directory" in capsys.readouterr().err
    assert main(["preview", str(built / "none"), "--out", str(tmp_path / "sheet.png")]) == 2
    assert not (tmp_path / "sheet.png").exists()


def _hostile(key: str, value: object):  # type: ignore[no-untyped-def]
    def change(content: dict) -> None:  # type: ignore[type-arg]
        shard = content["splits"]["train"]["shards"][0]
        if key == "file":
            shard["file"] = value
        elif key == "render":
            content["render"]["size"] = value
        elif key == "short":
            shard["index"]["patient"].pop()
        else:
            shard["index"][key] = [value] * shard["samples"]

    return change


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../secret.tar"),
        ("file", "/etc/passwd"),
        ("file", "gone.tar"),
        ("offset", 2**70),
        ("offset", 0),
        ("size", 2**40),
        ("size", 1),
        ("crc32", 1),
        ("render", 32),
        ("render", 10**9),
        ("short", None),
    ],
)
def test_a_hostile_manifest_is_an_error_in_one_line(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    folder = with_manifest(built, tmp_path / "copy", _hostile(key, value))
    assert main(["preview", str(folder), "--out", str(tmp_path / "sheet.png")]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and error.startswith("chexdist-shards: ")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_many_classes_and_long_names_stay_within_bounds(built: Path, tmp_path: Path) -> None:
    def change(content: dict) -> None:  # type: ignore[type-arg]
        content["classes"] += [f"{number} " + "w" * 5000 for number in range(300)]

    folder = with_manifest(built, tmp_path / "copy", change)
    image = Image.open(io.BytesIO(sheet(folder, tmp_path / "sheet.png")))
    assert image.height < 60 * (TILE + CAPTION) + 200


def test_a_picture_cut_off_is_damage(built: Path) -> None:
    location = choose(manifest.read(built), 1)[0].shown[0]
    assert read_picture(built, location, 24).mode == "L"
    with pytest.raises(WorkError, match="not 25 x 25"):
        read_picture(built, location, 25)
