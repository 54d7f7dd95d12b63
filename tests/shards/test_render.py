"""Rendering: against formulas written here from PS3.3, pydicom's own windows, and a real chest X-ray."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from shards.pixels.fit import resize, to_square
from shards.pixels.render import encode_png, render_file, to_levels
from shards.quarantine import Code, Quarantined


def rendered(tmp_path: Path, dataset: Dataset) -> np.ndarray:
    """Through the file, as the product reads it."""
    return render_file(str(write_dicom(tmp_path / "image.dcm", dataset)))[0]


def ramp(dtype: type, low: int, high: int) -> np.ndarray:
    return np.linspace(low, high, 64 * 48).round().astype(dtype).reshape(64, 48)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (10, False), (12, True), (14, False), (16, True)])
def test_linear_window_is_the_standards_formula(
    tmp_path: Path, photometric: str, bits: int, signed: bool
) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    dtype = {8: np.uint8}.get(bits, np.int16 if signed else np.uint16)
    stored = ramp(dtype, low, high)
    slope, intercept = 2.0, -100.0
    center, width = (low + high) / 2 * slope + intercept + 20, (high - low) * slope / 3
    dataset = dicom(
        stored,
        bits,
        PhotometricInterpretation=photometric,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=[round(center), 3],
        WindowWidth=[round(width), 7],
    )
    center, width = round(center), round(width)
    expected = []
    for number in stored.astype(float).ravel():  # PS3.3 C.11.2.1.2.1, written out, with ymin = 0 and ymax = 1
        x = number * slope + intercept
        if x <= center - 0.5 - (width - 1) / 2:
            y = 0.0
        elif x > center - 0.5 + (width - 1) / 2:
            y = 1.0
        else:
            y = (x - (center - 0.5)) / (width - 1) + 0.5
        expected.append(1 - y if photometric == "MONOCHROME1" else y)
    result = rendered(tmp_path, dataset)
    np.testing.assert_allclose(result.ravel(), expected, atol=2e-6)
    assert result.dtype == np.float32
    assert 0.2 < (result == 0).mean() < 0.5  # a third of the ramp lies below the window


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_functions_agree_with_pydicom(tmp_path: Path, function: str) -> None:
    dataset = dicom(ramp(np.uint16, 0, 4095), 12, WindowCenter=1800, WindowWidth=900, VOILUTFunction=function)
    expected = apply_voi_lut(dataset.pixel_array, dataset) / 4095
    np.testing.assert_allclose(rendered(tmp_path, dataset), expected, atol=1e-5)


def test_negative_slope_turns_the_values_not_the_window(tmp_path: Path) -> None:
    stored = ramp(np.uint16, 0, 1000)
    dataset = dicom(
        stored,
        12,
        RescaleSlope=-1,
        RescaleIntercept=1000,
        WindowCenter=500,
        WindowWidth=1000,
        VOILUTFunction="LINEAR_EXACT",
    )
    np.testing.assert_allclose(rendered(tmp_path, dataset), 1 - stored / 1000, atol=1e-5)


def lut_item(entries: list[int], first: int, bits: int, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", vr, np.asarray(entries, "<u2").tobytes() if vr == "OW" else entries)
    return item


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_lut_comes_before_the_window(tmp_path: Path, vr: str, bits: int) -> None:
    table = ((np.linspace(0, 1, 2000) ** 2) * (2**bits - 1)).round().astype(int)
    stored = ramp(np.uint16, 0, 4095)
    dataset = dicom(
        stored, 12, WindowCenter=5, WindowWidth=5, VOILUTSequence=[lut_item(table.tolist(), 1000, bits, vr)]
    )
    positions = [min(max(int(number) - 1000, 0), 1999) for number in stored.ravel()]
    expected = [table[position] / (2**bits - 1) for position in positions]
    np.testing.assert_allclose(rendered(tmp_path, dataset).ravel(), expected, atol=1e-6)


def test_modality_lut_feeds_the_window(tmp_path: Path) -> None:
    table = list(range(4095, -1, -1))
    stored = ramp(np.uint16, 0, 4095)
    dataset = dicom(
        stored,
        12,
        WindowCenter=2048,
        WindowWidth=4096,
        ModalityLUTSequence=[lut_item(table, 0, 12)],
    )
    np.testing.assert_allclose(rendered(tmp_path, dataset), (4095 - stored.astype(float)) / 4095, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_stretch_the_range(tmp_path: Path, photometric: str) -> None:
    stored = ramp(np.int16, 500, 1500)
    padded = stored.copy()
    padded[:, :10] = -2000
    signed = dicom(padded, PhotometricInterpretation=photometric, PixelPaddingValue=-2000)
    result = rendered(tmp_path, signed)
    assert (result[:, :10] == 0).all()
    black, white = np.percentile(stored[:, 10:], [0.5, 99.5])
    expected = np.clip((stored[:, 10:] - black) / (white - black), 0, 1)
    np.testing.assert_allclose(
        result[:, 10:], 1 - expected if photometric == "MONOCHROME1" else expected, atol=1e-5
    )
    padded[:, 5:10] = -1990
    limited = dicom(
        padded, PhotometricInterpretation=photometric, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990
    )
    np.testing.assert_array_equal(rendered(tmp_path, limited), result)


@pytest.mark.parametrize(
    "elements", [{"WindowCenter": "", "WindowWidth": ""}, {"WindowCenter": 9, "WindowWidth": 0}]
)
def test_an_empty_or_senseless_window_counts_as_none(tmp_path: Path, elements: dict[str, Any]) -> None:
    stored = ramp(np.uint16, 100, 900)
    np.testing.assert_array_equal(
        rendered(tmp_path, dicom(stored, 12, **elements)), rendered(tmp_path, dicom(stored, 12))
    )


def test_real_chest_xray_has_bright_bones() -> None:
    """MONOCHROME1, 15 bits, window 15000/30000: compared with the formula on pixels read by other means."""
    path = get_testdata_file("RG1_UNCR.dcm")
    assert isinstance(path, str)
    field, patient, *_ = render_file(path)
    data = Path(path).read_bytes()
    start = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 12  # tag, VR, reserved, length
    stored = np.frombuffer(data, "<u2", 1955 * 1841, start).reshape(1955, 1841)
    expected = 1 - np.clip((stored.astype(float) - 14999.5) / 29999 + 0.5, 0, 1)
    np.testing.assert_allclose(field, expected, atol=1e-6)
    assert patient == "9RG1"
    mediastinum, lung = field[900:1100, 850:950].mean(), field[500:700, 500:620].mean()
    air_beside_neck = field[60:110, 20:120].mean()
    assert mediastinum > lung + 0.05
    assert air_beside_neck < lung < mediastinum
    square = to_square(field, 256)
    assert (square[:, :7] == 0).all() and (square[:, -7:] == 0).all()  # 1841 of 1955 columns: black beside


def test_lossless_jpeg_2000_gives_the_same_picture() -> None:
    raw, coded = (render_file(str(get_testdata_file(name)))[0] for name in ("RG1_UNCR.dcm", "RG1_J2KR.dcm"))
    np.testing.assert_array_equal(raw, coded)


def test_shrinking_by_a_whole_factor_is_the_area_mean() -> None:
    field = smooth(3, 96, 96)
    expected = field.astype(np.float64).reshape(24, 4, 24, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(field, 24, 24), expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(80, 40), (40, 80), (64, 63), (128, 127), (33, 99)])
def test_the_whole_field_is_kept_in_proportion(height: int, width: int) -> None:
    square = to_square(np.ones((height, width), np.float32), 40)
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    scale = 40 / max(height, width)
    near_square = abs(height - width) <= 0.01 * max(height, width)
    assert abs(len(rows) - (40 if near_square else height * scale)) <= 0.5
    assert abs(len(columns) - (40 if near_square else width * scale)) <= 0.5
    assert abs(rows[0] - (39 - rows[-1])) <= 1 and abs(columns[0] - (39 - columns[-1])) <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_png_rounds_half_up_and_carries_no_metadata(bits: int) -> None:
    full = 2**bits - 1
    levels = np.arange(256).reshape(16, 16)
    png = encode_png(to_levels(((levels + 0.5) / full).clip(0, 1), bits))
    image = Image.open(io.BytesIO(png))
    np.testing.assert_array_equal(np.asarray(image), np.minimum(levels + 1, full))
    assert not image.info
    assert image.mode == ("L" if bits == 8 else "I;16")


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "P", "LA", "1"])
def test_gray_rasters_of_any_mode_keep_their_values(tmp_path: Path, mode: str) -> None:
    levels = (smooth(1) * 255).astype(np.uint8)
    expected = levels / 255
    if mode == "I;16":
        image = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode == "1":
        image, expected = Image.fromarray(levels > 100), (levels > 100).astype(float)
    else:
        image = Image.fromarray(levels).convert(mode)
    image.save(tmp_path / "image.png")
    np.testing.assert_allclose(render_file(str(tmp_path / "image.png"))[0], expected, atol=1e-6)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    levels = (smooth(1, 40, 60) * 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees, clockwise
    Image.fromarray(levels).save(tmp_path / "image.png", exif=exif)
    np.testing.assert_allclose(
        render_file(str(tmp_path / "image.png"))[0], np.rot90(levels, -1) / 255, atol=1e-6
    )


def test_a_black_picture_is_refused() -> None:
    with pytest.raises(Quarantined) as caught:
        to_levels(np.zeros((16, 16), np.float32), 8)
    assert caught.value.code is Code.CONSTANT
