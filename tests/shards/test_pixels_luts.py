"""Lookup tables whose descriptor is wrong, and narrow windows, against tables looked up here and PS3.3."""

from pathlib import Path

import numpy as np
import pytest
from helpers.dcmtk import LEVELS, differ, needs_dcmtk
from helpers.xray_files import dicom, write_dicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from shards.pixels.render import render_file
from shards.quarantine import Code, Quarantined

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers


def item(table: np.ndarray, first: int, bits: int, vr: str = "US", entries: int | None = None) -> Dataset:
    result = Dataset()
    number = len(table) if entries is None else entries
    result.add_new("LUTDescriptor", "SS" if first < 0 else "US", [number, first, bits])
    result.add_new("LUTData", vr, table.astype("<u2").tobytes() if vr == "OW" else table.astype(int).tolist())
    return result


def ramp(low: int, high: int) -> np.ndarray:
    return np.linspace(low, high, 64 * 48).round().astype(np.int64).reshape(64, 48)


def rendered(tmp_path: Path, dataset: Dataset) -> np.ndarray:
    return np.asarray(render_file(str(write_dicom(tmp_path / "image.dcm", dataset))).field)


FIRSTS = [(-2048, 63488), (-1024, 64512), (-1024, -1024), (-1, 65535)]


def with_table(table: np.ndarray, first: int, written: int, how: str, vr: str = "US") -> Dataset:
    """Values from `first` on under a table whose first value is `written`."""
    values = ramp(first, first + 3999)
    if how == "signed":
        dataset = dicom(values.astype(np.int16), 16)
    else:
        dataset = dicom((values - first).astype(np.uint16), 12, RescaleSlope=1, RescaleIntercept=first)
    dataset.VOILUTSequence = [item(table, written, 12, vr)]
    return dataset


@needs_dcmtk
@pytest.mark.parametrize(("first", "written"), FIRSTS)
@pytest.mark.parametrize("how", ["signed", "rescaled"])
def test_dcmtk_reads_the_same_sign(tmp_path: Path, how: str, first: int, written: int) -> None:
    dataset = with_table((np.linspace(0, 1, 4000) ** 1.5 * 4095).round(), first, written, how)
    assert differ(write_dicom(tmp_path / "image.dcm", dataset), "+Wl", "1") <= LEVELS


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize(("first", "written"), FIRSTS)
@pytest.mark.parametrize("how", ["signed", "rescaled"])
def test_the_values_decide_the_sign_of_the_first(
    tmp_path: Path, how: str, first: int, written: int, vr: str, implicit: bool
) -> None:
    table = (np.linspace(0, 1, 4000) ** 1.5 * 4095).round()
    dataset = with_table(table, first, written, how, vr)
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        if vr == "OW":
            dataset.VOILUTSequence[0]["LUTData"].VR = "OW"
    expected = table[ramp(0, 3999)] / 4095
    np.testing.assert_allclose(rendered(tmp_path, dataset), expected, atol=1e-6)


@pytest.mark.parametrize("first", [40000, 50000, 61440])
def test_a_first_value_that_is_large_stays_so(tmp_path: Path, first: int) -> None:
    table = np.linspace(0, 65535, 4096).round()
    values = ramp(first, first + 4095)
    dataset = dicom(values.astype(np.uint16), 16, VOILUTSequence=[item(table, first, 16)])
    np.testing.assert_allclose(rendered(tmp_path, dataset), table[values - first] / 65535, atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "peak", "scale"),
    [
        *((16, 2**bits - 1, 2**bits - 1) for bits in (8, 9, 10, 11, 12, 13, 14, 15)),
        (12, 255, 255),  # narrower than stated, to the last entry
        (16, 4000, 4095),  # far narrower
        (16, 16383 - 5, 16383),
        (16, 50000, 65535),
        (16, 32767 - 9, 65535),  # a dark table is left as it is
        (12, 4000, 4095),
        (8, 4095, 4095),  # deeper than stated
        (10, 65535, 65535),
    ],
)
def test_entries_are_scaled_by_the_bits_they_have(tmp_path: Path, stated: int, peak: int, scale: int) -> None:
    table = (np.linspace(0, 1, 4096) ** 2 * peak).round()
    values = ramp(0, 4095)
    dataset = dicom(values.astype(np.uint16), 12, VOILUTSequence=[item(table, 0, stated)])
    np.testing.assert_allclose(rendered(tmp_path, dataset), table[values] / scale, atol=1e-6)


@pytest.mark.parametrize(("stated", "peak"), [(8, 300), (10, 4000), (12, 5000), (14, 40000)])
def test_entries_too_deep_that_end_anywhere_are_set_aside(tmp_path: Path, stated: int, peak: int) -> None:
    table = (np.linspace(0, 1, 4096) ** 2 * peak).round()
    dataset = dicom(ramp(0, 4095).astype(np.uint16), 12, VOILUTSequence=[item(table, 0, stated)])
    with pytest.raises(Quarantined) as caught:
        rendered(tmp_path, dataset)
    assert caught.value.code is Code.CORRUPT and f"up to {peak}" in caught.value.detail


@pytest.mark.parametrize("entries", [255, 256, 1001, 4096])
def test_eight_bits_packed_two_in_a_word(tmp_path: Path, entries: int) -> None:
    table = (np.linspace(0, 1, entries) ** 2 * 255).round().astype(np.uint8)
    packed = np.append(table, np.zeros(entries % 2, np.uint8)).view("<u2")
    values = ramp(0, entries - 1)
    for vr in ("US", "OW"):
        lut = item(packed, 0, 8, vr, entries)
        dataset = dicom(values.astype(np.uint16), 12, VOILUTSequence=[lut])
        np.testing.assert_allclose(rendered(tmp_path, dataset), table[values] / 255, atol=1e-6)


@pytest.mark.parametrize("entries", [100, 4000, 4090, 8192, 0])
def test_a_number_of_entries_that_is_not_there_is_set_aside(tmp_path: Path, entries: int) -> None:
    lut = item(np.arange(4096), 0, 12, entries=entries)
    with pytest.raises(Quarantined) as caught:
        rendered(tmp_path, dicom(ramp(0, 4095).astype(np.uint16), 12, VOILUTSequence=[lut]))
    assert caught.value.code is Code.CORRUPT and "4096 entries" in caught.value.detail


def test_a_full_table_of_65536_entries(tmp_path: Path) -> None:
    table = np.arange(65535, -1, -1)
    values = ramp(0, 65535)
    dataset = dicom(values.astype(np.uint16), 16, VOILUTSequence=[item(table, 0, 16, "OW", 0)])
    np.testing.assert_allclose(rendered(tmp_path, dataset), table[values] / 65535, atol=1e-6)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT"])
@pytest.mark.parametrize("width", [0.9, 0.5, 0.4096, 0.1, 0.003])
def test_a_window_narrower_than_one_is_exact(tmp_path: Path, width: float, function: str | None) -> None:
    stored = ramp(0, 4095)
    slope = round(width / 3000, 12)
    elements = {"VOILUTFunction": function} if function else {}
    dataset = dicom(
        stored.astype(np.uint16),
        12,
        RescaleSlope=slope,
        RescaleIntercept=0,
        WindowCenter=round(slope * 2000, 10),
        WindowWidth=width,
        **elements,
    )
    expected = ((stored * slope - round(slope * 2000, 10)) / width + 0.5).clip(0, 1)
    np.testing.assert_allclose(rendered(tmp_path, dataset), expected, atol=2e-5)


def test_big_endian_tables(tmp_path: Path) -> None:
    table = (np.linspace(0, 1, 4096) ** 2 * 4095).round().astype(np.uint16)
    values = ramp(0, 4095).astype(np.uint16)
    dataset = dicom(values, 12, VOILUTSequence=[item(table, 0, 12)])
    dataset.PixelData = values.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    np.testing.assert_allclose(rendered(tmp_path, dataset), table[values] / 4095, atol=1e-6)
