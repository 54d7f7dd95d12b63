"""The stored bits of a pixel alone make the picture, whatever lies above or below them, in every syntax."""

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers.dcmtk import LEVELS, differ, needs_dcmtk
from helpers.xray_files import dicom, smooth, write_dicom
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless

from shards.pixels.codecs import decode_frame, read_frame
from shards.pixels.decode import native_values, read_dicom
from shards.pixels.render import render_file
from shards.quarantine import Code, Quarantined

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers

LOSSLESS_SV1, JPEG_LS, NEAR_LOSSLESS, J2K_LOSSLESS, J2K, HT = (
    f"1.2.840.10008.1.2.4.{number}" for number in (70, 80, 81, 90, 91, 201)
)
EXPLICIT = "1.2.840.10008.1.2.1"
CODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    EXPLICIT: lambda cell: cell.tobytes(),
    LOSSLESS_SV1: lambda cell: imagecodecs.jpeg8_encode(cell, lossless=True, bitspersample=16, predictor=1),
    JPEG_LS: imagecodecs.jpegls_encode,
    J2K_LOSSLESS: lambda cell: imagecodecs.jpeg2k_encode(cell, codecformat="j2k", reversible=True),
    HT: lambda cell: imagecodecs.htj2k_encode(cell, reversible=True),
}
LAYOUTS = [(8, 7), (10, 9), (12, 11), (14, 13), (15, 14), (8, 15), (10, 12), (12, 15), (12, 14), (15, 15)]


def cells(bits: int, high: int, signed: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of `bits` bits, and 16-bit cells that hold them under `high` with noise in all other bits."""
    rng = np.random.default_rng(seed)
    low = high + 1 - bits
    pattern = (smooth(seed, 80, 72) * (2**bits - 1)).astype(np.int64)
    noise = rng.integers(0, 2**16, pattern.shape) & ~((2**bits - 1) << low)
    cell = (noise | (pattern << low)).astype(np.uint16)
    return pattern - ((pattern >> (bits - 1)) << bits if signed else 0), cell


def write(path: Path, frame: bytes, syntax: str, cell: np.ndarray, bits: int, **elements: object) -> str:
    dataset = dicom(cell, bits, **elements)
    if syntax != EXPLICIT:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
    return str(write_dicom(path, dataset))


def stored(path: str) -> np.ndarray:
    dataset = read_dicom(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in (EXPLICIT, RLELossless):
        return native_values(dataset)
    return decode_frame(dataset, syntax, *read_frame(dataset, syntax))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", CODERS)
def test_other_bits_are_ignored_in_every_syntax(tmp_path: Path, syntax: str, signed: bool) -> None:
    for number, (bits, high) in enumerate(LAYOUTS):
        values, cell = cells(bits, high, signed, number)
        path = write(
            tmp_path / f"{number}.dcm",
            CODERS[syntax](cell),
            syntax,
            cell,
            bits,
            HighBit=high,
            PixelRepresentation=int(signed),
        )
        np.testing.assert_array_equal(stored(path), values, err_msg=f"{bits} bits below {high}")


@needs_dcmtk
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [EXPLICIT, LOSSLESS_SV1])
def test_dcmtk_ignores_the_same_bits(tmp_path: Path, syntax: str, signed: bool) -> None:
    for number, (bits, high) in enumerate(LAYOUTS):
        _, cell = cells(bits, high, signed, number)
        middle = 0 if signed else 2 ** (bits - 1)
        elements = {"HighBit": high, "PixelRepresentation": int(signed), "WindowCenter": middle}
        file = tmp_path / f"{number}.dcm"
        write(file, CODERS[syntax](cell), syntax, cell, bits, **elements, WindowWidth=2**bits)
        assert differ(file, "+Wi", "1") <= LEVELS, f"{bits} bits below {high}"


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_run_lengths_as_well(tmp_path: Path, bits: int) -> None:
    for high in (bits - 1, 15):
        values, cell = cells(bits, high, False, 3)
        dataset = dicom(cell, bits, HighBit=high)
        dataset.compress(RLELossless)
        np.testing.assert_array_equal(stored(str(write_dicom(tmp_path / "image.dcm", dataset))), values)


@pytest.mark.parametrize("bits", [10, 12])
def test_an_overlay_leaves_no_trace_in_a_small_picture(tmp_path: Path, bits: int) -> None:
    """JPEG 2000 at a lower level would mix the bits before they can be cut off."""
    clean = (smooth(5, 300, 280) * (2**bits - 1)).astype(np.uint16)
    marked = clean.copy()
    marked[100:101, 20:200] |= 1 << bits
    window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    pictures = []
    for cell in (clean, marked):
        path = write(tmp_path / "a.dcm", CODERS[J2K_LOSSLESS](cell), J2K_LOSSLESS, cell, bits, **window)
        pictures.append(np.asarray(render_file(path, 64).field))
    np.testing.assert_array_equal(*pictures)
    np.testing.assert_array_equal(dcmread(path).pixel_array & (2**bits - 1), clean)


def test_a_code_that_holds_the_stored_bits_alone_is_not_shifted(tmp_path: Path) -> None:
    values = (smooth(1, 64, 64) * 4095).astype(np.uint16)
    frame = imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=12, predictor=1)
    path = write(tmp_path / "a.dcm", frame, LOSSLESS_SV1, values, 12, HighBit=15)
    np.testing.assert_array_equal(stored(path), values)


@pytest.mark.parametrize("overshoot", [1, 40, 200])
def test_lossy_overshoot_stays_white(tmp_path: Path, overshoot: int) -> None:
    cell = (smooth(2, 96, 96) * 4095).astype(np.uint16)
    cell[30:60, 30:60] = 4095 + overshoot
    frame = imagecodecs.jpeg2k_encode(cell, codecformat="j2k", reversible=False, level=90)
    path = write(tmp_path / "a.dcm", frame, J2K, cell, 12)
    assert stored(path)[32:58, 32:58].min() >= 4080


@pytest.mark.parametrize("bit", [12, 13, 15])
def test_an_overlay_in_lossy_code_is_set_aside(tmp_path: Path, bit: int) -> None:
    cell = (smooth(2, 96, 96) * 4095).astype(np.uint16)
    cell[30:60, 30:60] |= 1 << bit
    for syntax, frame in (
        (J2K, imagecodecs.jpeg2k_encode(cell, codecformat="j2k", reversible=False, level=90)),
        (NEAR_LOSSLESS, imagecodecs.jpegls_encode(cell, level=2)),
    ):
        path = write(tmp_path / "a.dcm", frame, syntax, cell, 12)
        with pytest.raises(Quarantined) as caught:
            stored(path)
        assert caught.value.code is Code.UNSUPPORTED_PIXELS and "12 stored" in caught.value.detail
