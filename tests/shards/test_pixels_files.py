"""DICOM files as they are found: without preamble, without a syntax, deflated; against whole ones."""

import copy
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers.dcmtk import LEVELS, differ, needs_dcmtk
from helpers.xray_files import dicom, dicom_bytes, smooth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite, write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from shards.pixels import part10
from shards.pixels.render import render_file
from shards.quarantine import Code, Entry, Quarantined
from shards.scan import ScanOptions, scan_one
from shards.sources.listing import Source, list_class_folders, starts_like_dicom

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers
VALUES = (smooth(6, 64, 56) * 4095).astype(np.uint16)
LAYOUTS = {"implicit": ImplicitVRLittleEndian, "explicit": ExplicitVRLittleEndian, "big": ExplicitVRBigEndian}


def whole(syntax: str = ExplicitVRLittleEndian, **elements: object) -> Dataset:
    dataset = dicom(VALUES, 12, WindowCenter=2048, WindowWidth=4096, **elements)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = VALUES.astype(">u2").tobytes()
    return dataset


def bare(dataset: Dataset) -> bytes:
    """The data set alone, without preamble and file meta group."""
    implicit = dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    plain = Dataset(dataset)
    file = io.BytesIO()
    big = dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    dcmwrite(file, plain, implicit_vr=implicit, little_endian=not big, enforce_file_format=False)
    return file.getvalue()


def without_syntax(dataset: Dataset, preamble: bool = True) -> bytes:
    """A preamble, a file meta group that names no transfer syntax, and the data set."""
    file, meta = io.BytesIO(), copy.deepcopy(dataset.file_meta)
    del meta.TransferSyntaxUID
    meta.FileMetaInformationVersion = b"\0\1"
    write_file_meta_info(file, meta, enforce_standard=False)
    return (bytes(128) + b"DICM") * preamble + file.getvalue() + bare(dataset)


def without_preamble(dataset: Dataset) -> bytes:
    return dicom_bytes(dataset)[132:]


def field(tmp_path: Path, data: bytes) -> np.ndarray:
    (tmp_path / "image").write_bytes(data)
    rendered = render_file(str(tmp_path / "image"))
    assert rendered.patient == "patient-1"
    return np.asarray(rendered.field)


FORMS: dict[str, Callable[[Dataset], bytes]] = {
    "bare": bare,
    "without syntax": without_syntax,
    "without syntax or preamble": lambda dataset: without_syntax(dataset, preamble=False),
    "without preamble": without_preamble,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_elements_say_how_they_are_written(tmp_path: Path, layout: str, form: str) -> None:
    data = FORMS[form](whole(LAYOUTS[layout]))
    assert starts_like_dicom(data[:1024])
    np.testing.assert_array_equal(field(tmp_path, data), field(tmp_path, dicom_bytes(whole())))


@needs_dcmtk
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dcmtk_reads_them_as_well(tmp_path: Path, layout: str, form: str) -> None:
    (tmp_path / "image.dcm").write_bytes(FORMS[form](whole(LAYOUTS[layout])))
    assert differ(tmp_path / "image.dcm", "+Wi", "1") <= LEVELS


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "elements",
    [
        {"SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY"], "StudyDate": "20200101"},
        {"SOPClassUID": None, "Modality": "DX", "StudyTime": "101010", "Manufacturer": "a, b & c" * 8},
        {"InstanceCreationDate": "20200101", "AccessionNumber": "", "StudyInstanceUID": "1.2.3"},
    ],
)
def test_whatever_elements_come_first(tmp_path: Path, elements: dict[str, object], form: str) -> None:
    for layout in ("implicit", "explicit"):
        data = FORMS[form](whole(LAYOUTS[layout], **elements))
        np.testing.assert_array_equal(field(tmp_path, data), field(tmp_path, dicom_bytes(whole())))


COMPRESSED: dict[str, Callable[[], bytes]] = {
    "1.2.840.10008.1.2.4.50": lambda: imagecodecs.jpeg8_encode((VALUES >> 4).astype(np.uint8), level=95),
    "1.2.840.10008.1.2.4.51": lambda: imagecodecs.jpeg8_encode(VALUES, level=95, bitspersample=12),
    "1.2.840.10008.1.2.4.70": lambda: imagecodecs.jpeg8_encode(
        VALUES, lossless=True, bitspersample=12, predictor=1
    ),
    "1.2.840.10008.1.2.4.80": lambda: imagecodecs.jpegls_encode(VALUES),
    "1.2.840.10008.1.2.4.90": lambda: imagecodecs.jpeg2k_encode(
        VALUES, codecformat="j2k", bitspersample=12, reversible=True
    ),
}


@pytest.mark.parametrize("form", ["without syntax", "without syntax or preamble"])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_frame_says_how_it_is_compressed(tmp_path: Path, syntax: str, form: str) -> None:
    values = (VALUES >> 4).astype(np.uint8) if syntax.endswith(".50") else VALUES
    dataset = dicom(values, 8 * values.itemsize if values.itemsize == 1 else 12)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = encapsulate([COMPRESSED[syntax]()])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    expected = field(tmp_path, dicom_bytes(dataset))
    np.testing.assert_array_equal(field(tmp_path, FORMS[form](dataset)), expected)


def test_run_lengths_without_a_syntax_are_named(tmp_path: Path) -> None:
    dataset = whole()
    dataset.compress(RLELossless)
    with pytest.raises(Quarantined) as caught:
        field(tmp_path, without_syntax(dataset))
    assert caught.value.code is Code.UNSUPPORTED_TRANSFER_SYNTAX


def deflated(dataset: Dataset, level: int = 6, end: int | None = None) -> bytes:
    """The file with its data set deflated here, in raw deflate."""
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    write_file_meta_info(file, dataset.file_meta, enforce_standard=True)
    body = zlib.compressobj(level, wbits=-15)
    plain = bare(dataset)
    packed = body.compress(plain) + body.flush()
    return bytes(128) + b"DICM" + file.getvalue() + packed[:end]


@needs_dcmtk
@pytest.mark.parametrize("level", range(10))
def test_dcmtk_inflates_to_the_same_picture(tmp_path: Path, level: int) -> None:
    (tmp_path / "image.dcm").write_bytes(deflated(whole(), level))
    assert differ(tmp_path / "image.dcm", "+Wi", "1") <= LEVELS


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("level", range(10))
def test_deflated_is_read(tmp_path: Path, level: int, preamble: bool) -> None:
    data = deflated(whole(), level)
    expected = field(tmp_path, dicom_bytes(whole()))
    np.testing.assert_array_equal(field(tmp_path, data if preamble else data[132:]), expected)


def test_a_real_deflated_file() -> None:
    path = get_testdata_file("image_dfl.dcm")
    stored = dcmread(path).pixel_array
    black, white = np.percentile(stored, (0.5, 99.5))
    expected = ((stored - np.float32(black)) / np.float32(white - black)).clip(0, 1)
    rendered = render_file(str(path)).field
    np.testing.assert_allclose(np.asarray(rendered), expected, atol=1e-5)


@pytest.mark.parametrize("cut", [100, 1000, -10, -1])
def test_deflated_data_that_breaks_off(tmp_path: Path, cut: int) -> None:
    with pytest.raises(Quarantined) as caught:
        field(tmp_path, deflated(whole(), end=cut))
    assert caught.value.code is Code.TRUNCATED


def test_deflated_noise_is_corrupt(tmp_path: Path) -> None:
    data = deflated(whole())
    with pytest.raises(Quarantined) as caught:
        field(tmp_path, data[:-3000] + b"\xff" * 3000)
    assert caught.value.code in (Code.CORRUPT, Code.TRUNCATED)


def test_deflated_data_is_unpacked_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part10, "MAX_FILE_BYTES", 100_000)
    (tmp_path / "bomb.dcm").write_bytes(deflated(whole(ImageComments="a" * 300_000), 9))
    result = scan_one(Source(0, "bomb.dcm", str(tmp_path / "bomb.dcm"), "a"), tmp_path, ScanOptions(32, 8))
    assert isinstance(result, Entry) and result.code is Code.TOO_LARGE


def deflated_frame(data: bytes) -> bytes:
    dataset = whole()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    packer = zlib.compressobj(wbits=-15)
    dataset.PixelData = encapsulate([packer.compress(data) + packer.flush()])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    syntax = part10.DEFLATED_FRAME.encode() + b"\0"  # newer than pydicom 3.0, which would not write it
    return dicom_bytes(dataset).replace(JPEG2000Lossless.encode(), syntax)


def test_a_deflated_frame_is_read_no_further_than_it_can_be(tmp_path: Path) -> None:
    data = deflated_frame(VALUES.tobytes())
    np.testing.assert_array_equal(field(tmp_path, data), field(tmp_path, dicom_bytes(whole())))
    with pytest.raises(Quarantined) as caught:
        field(tmp_path, deflated_frame(bytes(10_000_000)))
    assert caught.value.code is Code.TOO_LARGE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["IM000001", "image.dcm", "image.bin", "a.dicom"])
def test_a_listing_finds_them_without_an_ending(tmp_path: Path, name: str, form: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(FORMS[form](whole(ImplicitVRLittleEndian)))
    listing = list_class_folders([tmp_path])
    assert [image.name for image in listing.images] == [f"a/{name}"]


NOT_DICOM = {
    "text": b"\x08\x00hello world, this is a text of some length\n" * 40,
    "zeros": bytes(2000),
    "counting": bytes(range(256)) * 8,
    "a wave": b"RIFF" + bytes(range(200)),
    "numbers": np.arange(8, 600, dtype="<u2").tobytes(),
    "eights": np.full(500, 8, "<u4").tobytes(),
    "short": b"\x08\x00\x05\x00CS",
    "nothing": b"",
}


@pytest.mark.parametrize("name", NOT_DICOM)
def test_other_files_are_not_taken_for_dicom(name: str) -> None:
    assert not starts_like_dicom(NOT_DICOM[name][:1024])


@given(st.binary(max_size=300), st.sampled_from([b"", b"\2\0\0\0UL\4\0", b"\10\0\5\0", b"\0\10\0\5CS"]))
def test_any_bytes_are_told_apart(data: bytes, start: bytes) -> None:
    assert starts_like_dicom(start + data) in (True, False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from([*FORMS, "deflated"]))
def test_damaged_files_never_end_the_scan(tmp_path: Path, data: st.DataObject, form: str) -> None:
    good = bytearray(deflated(whole()) if form == "deflated" else FORMS[form](whole(ImplicitVRLittleEndian)))
    for place in data.draw(st.lists(st.integers(0, 600), max_size=6)):
        good[place] = data.draw(st.integers(0, 255))
    (tmp_path / "bad.dcm").write_bytes(good[: data.draw(st.integers(1, len(good)))])
    result = scan_one(Source(0, "bad.dcm", str(tmp_path / "bad.dcm"), "a"), tmp_path, ScanOptions(32, 8))
    assert hasattr(result, "code") or hasattr(result, "pixels")
