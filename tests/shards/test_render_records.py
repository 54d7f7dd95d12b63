"""Each sample's record says how its picture came about; --fit and --window; `verify` checks the records."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom, write_png
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from shards import manifest
from shards.__main__ import main
from shards.checking.records import JsonCheck
from shards.pixels.fit import fitting, to_square
from shards.pixels.grayscale import apply_window
from shards.pixels.render import picture, render_file
from shards.write import sample_content

STORED = (smooth(5, 96, 64) * 4095).astype(np.uint16)
NARROW, WIDE = (1000.0, 500.0), (2048.0, 4096.0)


def table(first: int = 0) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, first, 12])
    item.add_new("LUTData", "US", [4095 - entry for entry in range(4096)])
    return item


def windows(**elements: Any) -> Dataset:
    centers, widths = zip(NARROW, WIDE, strict=True)
    return dicom(STORED, 12, WindowCenter=list(centers), WindowWidth=list(widths), **elements)


@pytest.mark.parametrize(
    ("rule", "elements", "expected", "gray"),
    [
        ("auto", {}, {"voi": "window", "number": 1, "of": 2, "center": 1000.0, "width": 500.0}, NARROW),
        ("first", {}, {"voi": "window", "number": 1, "of": 2}, NARROW),
        ("2", {}, {"voi": "window", "number": 2, "of": 2, "center": 2048.0, "function": "LINEAR"}, WIDE),
        ("3", {}, {"voi": "window", "number": 1, "of": 2}, NARROW),
        ("auto", {"VOILUTSequence": [table()]}, {"voi": "lut", "of": 1, "table_bits": 12}, None),
        ("first", {"VOILUTSequence": [table()]}, {"voi": "window", "number": 1}, NARROW),
        ("2", {"VOILUTSequence": [table()]}, {"voi": "window", "number": 2}, WIDE),
        ("percentile", {"VOILUTSequence": [table()]}, {"voi": "percentiles"}, "percentiles"),
        ("percentile", {}, {"voi": "percentiles"}, "percentiles"),
    ],
)
def test_the_window_is_the_one_asked_for_and_recorded(
    tmp_path: Path, rule: str, elements: dict[str, Any], expected: dict[str, Any], gray: Any
) -> None:
    rendered = render_file(str(write_dicom(tmp_path / "a.dcm", windows(**elements))), window=rule)
    assert expected.items() <= rendered.record.items()
    assert [note for note in rendered.notes if "--window 3" in note] == list(rendered.notes)
    assert bool(rendered.notes) == (rule == "3")
    if gray is None:
        right = 1 - STORED / 4095
    elif gray == "percentiles":
        black, white = np.percentile(STORED, [0.5, 99.5])
        right = ((STORED - black) / (white - black)).clip(0, 1)
        assert rendered.record["black"] == pytest.approx(black) and "of" not in rendered.record
    else:
        right = apply_window(STORED, *gray)
    np.testing.assert_allclose(np.asarray(rendered.field), right, atol=1e-5)


def test_the_record_says_what_was_done_on_the_way(tmp_path: Path) -> None:
    padded = STORED.copy()
    padded[:3] = 4000
    dataset = windows(
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=2,
        RescaleIntercept=-7,
        PixelPaddingValue=4000,
        PixelSpacing=[0.2, 0.1],
    )
    dataset.PixelData = padded.tobytes()
    record = picture(render_file(str(write_dicom(tmp_path / "a.dcm", dataset))), 32, 8)[1]
    assert record == {
        "source": "dicom",
        "bits": 12,
        "modality": "rescale",
        "slope": 2.0,
        "intercept": -7.0,
        "voi": "window",
        "center": 1000.0,
        "width": 500.0,
        "function": "LINEAR",
        "number": 1,
        "of": 2,
        "inverted": True,
        "padding": int((padded == 4000).sum()),
        "shape": [96, 64],
        "aspect": 2.0,
        "fit": "pad",
        "from": [0, 0, 96, 64],
        "to": [0, 10, 32, 21],
    }


def test_the_record_of_a_raster(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    values = (smooth(1, 40, 60) * 65535).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    record = picture(render_file(str(tmp_path / "a.png")), 32, 16)[1]
    assert {"source": "raster", "bits": 16, "orientation": 6, "voi": "full scale"}.items() <= record.items()
    assert record["shape"] == [60, 40]


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_jpeg_2000_at_a_lower_level_is_recorded_and_fits_as_the_full_decode(tmp_path: Path, fit: str) -> None:
    fine = (smooth(3, 1200, 800) * 4095).astype(np.uint16)
    frame = imagecodecs.jpeg2k_encode(fine, level=0, reversible=True, codecformat="j2k", bitspersample=12)
    dataset = dicom(fine, 12, WindowCenter=2048, WindowWidth=4096)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    path = str(write_dicom(tmp_path / "a.dcm", dataset))
    fast, record = picture(render_file(path, 64, fit), 64, 8, fit)
    full, whole = picture(render_file(path, None, fit), 64, 8, fit)
    assert record["level"] > 0 and whole["level"] == 0
    assert np.abs(fast.astype(int) - full).max() <= 2
    assert record["shape"] == whole["shape"] == [1200, 800]


@pytest.mark.parametrize(
    ("height", "width", "aspect"), [(80, 40, 1.0), (40, 81, 1.0), (50, 50, 1.5), (64, 64, 1)]
)
def test_crop_takes_the_middle_and_stretch_takes_all(height: int, width: int, aspect: float) -> None:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    field = (rows * aspect + columns) / (height * aspect + width)
    cropped = to_square(field, 20, aspect, "crop")
    plan = fitting((height, width), 20, aspect, "crop")
    top, left, bottom, right = plan.source
    assert (bottom - top) * aspect == pytest.approx(right - left)
    assert bottom - top == pytest.approx(height) or right - left == pytest.approx(width)
    assert top == pytest.approx(height - bottom) and left == pytest.approx(width - right)
    middle = field[round(top) : round(bottom), round(left) : round(right)]
    assert cropped.mean() == pytest.approx(middle.mean(), abs=0.01)
    slope = np.diff(cropped, axis=0).mean(), np.diff(cropped, axis=1).mean()
    assert slope[0] == pytest.approx(slope[1], rel=0.05)  # a slope of 45 degrees stays one
    stretched = to_square(field, 20, aspect, "stretch")
    assert stretched.min() > 0 and stretched.mean() == pytest.approx(field.mean(), abs=0.01)
    assert (to_square(field, 20, aspect, "pad") == 0).any() == (height * aspect != width)


def test_a_crop_of_a_very_long_field_stays_small() -> None:
    field = np.tile(np.linspace(0, 1, 2**21, dtype=np.float32), (16, 1))
    assert to_square(field, 64, 1.0, "crop").shape == (64, 64)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    for number in range(12):
        folder = root / "in" / "ab"[number % 2]
        if number < 8:
            values = (smooth(number, 60, 40) * 4095).astype(np.uint16)
            elements = {"WindowCenter": [2000, 900], "WindowWidth": [4000, 300], "PatientID": f"p{number}"}
            write_dicom(folder / f"{number}.dcm", dicom(values, 12, **elements))
        else:
            write_png(folder / f"{number}.png", number)
    options = ["--size", "16", "--workers", "1", "--window", "2", "--fit", "crop"]
    assert main(["build", str(root / "in"), "--out", str(root / "out"), *options]) == 0
    return root / "out"


def samples(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for shard in folder.glob("*.tar"):
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.name.endswith(".json"):
                    found[member.name] = json.loads(archive.extractfile(member).read())  # type: ignore[union-attr]
    return found


def test_a_build_records_each_sample_and_its_settings(built: Path) -> None:
    render = manifest.read(built).render
    assert (render["fit"], render["window"]) == ("crop", "2")
    records = [sample["render"] for sample in samples(built).values()]
    assert len(records) == 12
    for record in records:
        assert record["fit"] == "crop"
        if record["source"] == "dicom":
            assert (record["number"], record["of"], record["center"], record["from"]) == (
                2,
                2,
                900,
                [10, 0, 50, 40],
            )
    assert main(["verify", str(built)]) == 0


def test_stock_webdataset_reads_the_records(built: Path) -> None:
    import webdataset

    shard = str(next(built.glob("train-*.tar")))
    found = list(webdataset.WebDataset(shard, shardshuffle=False).decode("l"))
    assert found and all(sample["json"]["render"]["fit"] == "crop" for sample in found)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another fit": ({"fit": "pad"}, "fit pad"),
    "an unknown key": ({"name": "DOE^JANE"}, "name"),
    "a third window of two": ({"number": 3}, "contradicts"),
    "percentiles of a window": ({"black": 1.0, "white": 2.0}, "needs"),
    "another part": ({"from": [0, 0, 40, 40]}, "elsewhere"),
    "another shape": ({"shape": [61, 40]}, "elsewhere"),
    "a width of nothing": ({"width": 0}, "width"),
    "a wrong type": ({"inverted": "no"}, "inverted"),
    "no voi": ({"voi": None}, "voi"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_record_is_found(built: Path, name: str) -> None:
    change, expected = CHANGES[name]
    content = manifest.read(built)
    base = sample_content(0, "p", "c", "train", content.classes)
    record = next(s["render"] for s in samples(built).values() if s["render"]["source"] == "dicom")
    check = JsonCheck(content, "train")

    def faults(render: dict[str, Any] | None) -> str | None:
        text = json.dumps(base | ({"render": render} if render else {})).encode()
        return check(text, 0, "p", "c", None)

    assert faults(record) is None
    assert expected in str(faults(record | change))
    assert "no record" in str(faults(None))


def test_a_picture_beyond_its_frame_is_found(tmp_path: Path) -> None:
    for number in range(4):
        values = (smooth(number, 60, 40) * 255).astype(np.uint8)
        (tmp_path / "in" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(tmp_path / "in" / "ab"[number % 2] / f"{number}.png")
    options = ["--size", "16", "--workers", "1", "--split", "train=1"]
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *options]) == 0
    content = manifest.read(tmp_path / "out")
    name, sample = next(iter(samples(tmp_path / "out").items()))
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        png = archive.extractfile(name.replace("json", "png")).read()  # type: ignore[union-attr]
    levels = np.asarray(Image.open(io.BytesIO(png))).copy()
    names = (sample["label"], sample["patient"], sample["cluster"])
    check = JsonCheck(content, "train")
    assert check(json.dumps(sample).encode(), *names, levels) is None
    levels[3, 0] = 9
    assert "not black" in str(check(json.dumps(sample).encode(), *names, levels))


def test_shards_without_records_stay_readable(built: Path, tmp_path: Path) -> None:
    """As earlier releases wrote them: without records, and without fit and window in the settings."""
    folder = Path(shutil.copytree(built, tmp_path / "old"))
    content = json.loads((folder / "manifest.json").read_text())
    content["render"]["version"] = 3
    del content["render"]["fit"], content["render"]["window"]
    (folder / "manifest.json").write_text(json.dumps(content))
    old = manifest.read(folder)
    base = sample_content(0, "p", "c", "train", old.classes)
    assert JsonCheck(old, "train")(json.dumps(base).encode(), 0, "p", "c", None) is None
