"""Pixels that are not square: the picture has the proportions of the body."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers.dcmtk import needs_dcmtk, shown
from helpers.xray_files import dicom, smooth, write_dicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from shards.pixels.fit import to_square
from shards.pixels.render import render_file
from shards.quarantine import Code, Entry
from shards.scan import Scanned, ScanOptions, scan_one, warnings_of
from shards.sources.listing import Source

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers
SIDE = 48
RATIOS = [(2, 1), (1, 2), (3, 2), (1, 3), (34, 28), (5, 4), (10, 11), (5, 1)]  # vertical, horizontal
STATED = {
    "PixelAspectRatio": lambda v, h: {"PixelAspectRatio": [v, h]},
    "PixelSpacing": lambda v, h: {"PixelSpacing": [0.1 * v, 0.1 * h]},
    "ImagerPixelSpacing": lambda v, h: {"ImagerPixelSpacing": [0.14 * v, 0.14 * h]},
    "NominalScannedPixelSpacing": lambda v, h: {"NominalScannedPixelSpacing": [0.2 * v, 0.2 * h]},
}


def stored(height: int, width: int) -> np.ndarray:
    return (smooth(4, height, width) * 4000 + 90).astype(np.uint16)


def square(path: Path) -> np.ndarray:
    rendered = render_file(str(path), SIDE)
    return to_square(rendered.field, SIDE, rendered.aspect)


def write(path: Path, values: np.ndarray, **elements: object) -> Path:
    return write_dicom(path, dicom(values, 12, WindowCenter=2048, WindowWidth=4096, **elements))


@pytest.mark.parametrize(("vertical", "horizontal"), RATIOS)
@pytest.mark.parametrize("name", STATED)
def test_the_body_keeps_its_proportions(tmp_path: Path, name: str, vertical: int, horizontal: int) -> None:
    """The same square body, sampled in pixels of another shape, fills the square as before."""
    finer = min(vertical, horizontal)
    height, width = (round(360 * finer / side) for side in (vertical, horizontal))
    body = Image.fromarray(smooth(4, 360, 360))
    sampled = np.asarray(body.resize((width, height), Image.Resampling.BOX))
    path = write(
        tmp_path / "a.dcm",
        (sampled * 4095).round().astype(np.uint16),
        **STATED[name](vertical, horizontal),
    )
    expected = np.asarray(body.resize((SIDE, SIDE), Image.Resampling.BOX))
    difference = np.abs(square(path) - expected)
    assert difference.max() < 0.06 and difference.mean() < 0.012


@needs_dcmtk
@pytest.mark.parametrize(("vertical", "horizontal"), RATIOS)
@pytest.mark.parametrize("name", STATED)
def test_dcmtk_shows_the_same_proportions(tmp_path: Path, name: str, vertical: int, horizontal: int) -> None:
    path = write(tmp_path / "a.dcm", stored(60, 60), **STATED[name](vertical, horizontal))
    height, width = shown(path, "+Wi", "1", "+Sxf", "1.0").shape
    assert width == 60 and abs(height - 60 * render_file(str(path)).aspect) <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("spacing", "rows", "columns"), [([2, 1], 48, 24), ([1, 4], 12, 48)])
def test_a_square_of_oblong_pixels_gets_bars(
    tmp_path: Path, spacing: list[int], rows: int, columns: int, photometric: str
) -> None:
    values = np.full((96, 96), 4000 if photometric == "MONOCHROME2" else 90, np.uint16)
    picture = square(
        write(tmp_path / "a.dcm", values, PixelSpacing=spacing, PhotometricInterpretation=photometric)
    )
    assert (np.count_nonzero(picture.any(axis=1)), np.count_nonzero(picture.any(axis=0))) == (rows, columns)


def test_compressed_and_shrunk_far(tmp_path: Path) -> None:
    values = stored(200, 400)
    dataset = dicom(values, 12, WindowCenter=2048, WindowWidth=4096, ImagerPixelSpacing=[0.2, 0.1])
    raw = square(write_dicom(tmp_path / "raw.dcm", dataset))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([imagecodecs.jpeg2k_encode(values, codecformat="j2k", bitspersample=12)])
    np.testing.assert_array_equal(square(write_dicom(tmp_path / "j2k.dcm", dataset)), raw)


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelSpacing": [0.143, 0.1432]},  # a measurement
        {"PixelSpacing": ""},
        {"PixelSpacing": [0, 0.1]},
        {"ImagerPixelSpacing": [-0.1, 0.2]},
        {"PixelSpacing": [0.2]},
        {"PixelSpacing": [0.2, 0.1, 0.1]},
        {"PixelAspectRatio": [0, 0]},
        {"PixelAspectRatio": ["nan", "1"]},
    ],
)
def test_nearly_square_or_senseless_changes_nothing(tmp_path: Path, elements: dict[str, object]) -> None:
    dataset = dicom(stored(96, 80), 12)
    plain = square(write_dicom(tmp_path / "plain.dcm", dataset))
    for name, value in elements.items():
        dataset.add_new(name, "LO", [str(number) for number in value] if value else "")
    np.testing.assert_array_equal(square(write_dicom(tmp_path / "a.dcm", dataset)), plain)


@pytest.mark.parametrize("ratio", [[11, 1], [1, 50], [1000, 1]])
def test_no_detector_has_such_pixels(tmp_path: Path, ratio: list[int]) -> None:
    path = write(tmp_path / "a.dcm", stored(96, 80), PixelAspectRatio=ratio)
    result = scan_one(Source(0, "a.dcm", str(path), "a"), tmp_path, ScanOptions(32, 8))
    assert isinstance(result, Entry) and result.code is Code.UNSUPPORTED_PIXELS, result


@pytest.mark.parametrize("number", range(3))
def test_contradictions_are_counted(tmp_path: Path, number: int) -> None:
    """Two spacings of other proportions, and a polarity stated twice."""
    elements, said = [
        ({"PixelSpacing": [0.2, 0.1], "PixelAspectRatio": [1, 1]}, "PixelSpacing and PixelAspectRatio"),
        ({"PresentationLUTShape": "INVERSE"}, "PresentationLUTShape INVERSE contradicts MONOCHROME2"),
        (
            {"PresentationLUTShape": "IDENTITY", "PhotometricInterpretation": "MONOCHROME1"},
            "PresentationLUTShape IDENTITY contradicts MONOCHROME1",
        ),
    ][number]
    sources, results = [], []
    for name in ("a", "b"):
        path = write(tmp_path / f"{name}.dcm", stored(96, 80), **elements)
        sources.append(Source(0, name, str(path), "a"))
        results.append(scan_one(sources[-1], tmp_path, ScanOptions(32, 8)))
    path = write(tmp_path / "clean.dcm", stored(96, 80), PresentationLUTShape="IDENTITY")
    sources.append(Source(0, "clean", str(path), "a"))
    results.append(scan_one(sources[-1], tmp_path, ScanOptions(32, 8)))
    assert all(isinstance(result, Scanned) for result in results)
    (line,) = warnings_of(sources, results)
    assert line.startswith("2 images: ") and said in line


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["INVERSE", "IDENTITY", "inverse ", "", None, "OTHER"])
def test_the_photometric_interpretation_decides_and_contradictions_are_noted(
    tmp_path: Path, shape: str | None, photometric: str
) -> None:
    values = stored(96, 80)
    elements = {} if shape is None else {"PresentationLUTShape": shape}
    elements |= {"PhotometricInterpretation": photometric}
    rendered = render_file(str(write(tmp_path / "a.dcm", values, **elements)))
    plain = render_file(str(write(tmp_path / "b.dcm", values)))
    inverted = photometric == "MONOCHROME1"
    expected = 1 - np.asarray(plain.field) if inverted else np.asarray(plain.field)
    np.testing.assert_allclose(np.asarray(rendered.field), expected, atol=1e-6)
    assert rendered.record["inverted"] == inverted
    contradicts = (shape or "").strip().upper() == ("IDENTITY" if inverted else "INVERSE")
    assert any("PresentationLUTShape" in note for note in rendered.notes) == contradicts
