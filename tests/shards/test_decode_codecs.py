"""Compressed DICOM: every transfer syntax against what was encoded and pydicom, and false frames."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers.xray_files import dicom, dicom_bytes, smooth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from shards.journal import read_record
from shards.pixels.codecs import decode_frame, read_frame
from shards.pixels.codestream import BadCodestream, read_codestream
from shards.pixels.decode import read_dicom
from shards.quarantine import Code, Entry, Quarantined
from shards.scan import Scanned, ScanOptions, scan_one
from shards.sources.listing import Source

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers
FIELD = smooth(1, 60, 44)
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS, NEAR_LOSSLESS, J2K_LOSSLESS, J2K, HT = (f"1.2.840.10008.1.2.4.{n}" for n in (80, 81, 90, 91, 201))
RLE = "1.2.840.10008.1.2.5"


def levels(bits: int) -> np.ndarray:
    return (FIELD * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def compressed(frame: bytes, syntax: str, bits: int, **elements: object) -> Dataset:
    """A DICOM image of `frame`, whose header says what `levels(bits)` is."""
    dataset = dicom(levels(bits), bits, **elements)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return dataset


def stored(path: Path | str) -> np.ndarray:
    """The stored values of a compressed file, as the product reads them."""
    dataset = read_dicom(str(path))
    syntax = dataset.file_meta.TransferSyntaxUID
    return decode_frame(dataset, syntax, *read_frame(dataset, syntax))


def write(tmp_path: Path, dataset: Dataset) -> Path:
    path = tmp_path / "image.dcm"
    path.write_bytes(dicom_bytes(dataset))
    return path


def scanned(path: Path, spool: Path) -> Scanned | Entry:
    return scan_one(Source(0, path.name, str(path), "finding"), spool, ScanOptions(32, 8))


ENCODERS = {
    "baseline": (BASELINE, 8, 3, lambda x: imagecodecs.jpeg8_encode(x, level=98)),
    "extended": (EXTENDED, 12, 9, lambda x: imagecodecs.jpeg8_encode(x, level=98, bitspersample=12)),
    "lossless 8": (LOSSLESS_SV1, 8, 0, lambda x: imagecodecs.jpeg8_encode(x, lossless=True, predictor=1)),
    "lossless 12": (LOSSLESS, 12, 0, lambda x: lossless_jpeg(x, 12, predictor=6)),
    "lossless 14": (LOSSLESS_SV1, 14, 0, lambda x: lossless_jpeg(x, 14)),
    "lossless 16": (LOSSLESS_SV1, 16, 0, lambda x: lossless_jpeg(x, 16)),
    "jpeg-ls": (JPEG_LS, 16, 0, imagecodecs.jpegls_encode),
    "jpeg-ls near": (NEAR_LOSSLESS, 16, 3, lambda x: imagecodecs.jpegls_encode(x, level=3)),
    "jpeg 2000": (J2K_LOSSLESS, 12, 0, lambda x: jpeg_2000(x, 12)),
    "jpeg 2000 box": (J2K_LOSSLESS, 12, 0, lambda x: jpeg_2000(x, 12, codecformat="jp2")),
    "jpeg 2000 lossy": (J2K, 12, 40, lambda x: jpeg_2000(x, 12, reversible=False, level=60)),
    "high throughput": (HT, 16, 0, lambda x: imagecodecs.htj2k_encode(x, reversible=True)),
}


def lossless_jpeg(values: np.ndarray, bits: int, predictor: int = 1) -> bytes:
    return imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits, predictor=predictor)


def jpeg_2000(values: np.ndarray, bits: int, **options: object) -> bytes:
    return imagecodecs.jpeg2k_encode(
        values, bitspersample=bits, **{"codecformat": "j2k", "reversible": True, **options}
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_what_was_encoded_is_decoded(tmp_path: Path, name: str) -> None:
    syntax, bits, tolerance, encode = ENCODERS[name]
    path = write(tmp_path, compressed(encode(levels(bits)), syntax, bits))
    values = stored(path)
    assert values.shape == FIELD.shape
    assert np.abs(values.astype(int) - levels(bits)).max() <= tolerance
    assert isinstance(scanned(path, tmp_path), Scanned)


@pytest.mark.parametrize(
    "file",
    [
        *("693_J2KR", "693_J2KI", "J2K_pixelrep_mismatch", "MR2_J2KR", "MR2_J2KI", "MR_small_jp2klossless"),
        *("RG3_J2KI", "explicit_VR-UN", "JPEG2000"),
    ],
)
def test_jpeg_2000_agrees_with_pydicom(file: str) -> None:
    path = get_testdata_file(f"{file}.dcm")
    expected, values = dcmread(path).pixel_array, stored(path)
    np.testing.assert_array_equal(values, expected)
    assert np.issubdtype(values.dtype, np.signedinteger) == np.issubdtype(expected.dtype, np.signedinteger)


@pytest.mark.parametrize(
    ("file", "raw"), [("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"), ("MR_small_RLE.dcm", "MR_small.dcm")]
)
def test_lossless_copies_render_as_their_original(tmp_path: Path, file: str, raw: str) -> None:
    pictures = []
    for name in (file, raw):
        spool = tmp_path / name
        spool.mkdir()
        found = scanned(Path(get_testdata_file(name)), spool)
        assert isinstance(found, Scanned)
        pictures.append(read_record(spool, found.spooled)[2])
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("file", ["JPEG-LL.dcm", "JPEG-lossy.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"])
def test_real_jpeg_of_8_to_16_bits(tmp_path: Path, file: str) -> None:
    path = Path(get_testdata_file(file))
    values = stored(path)
    dataset = dcmread(path)
    assert values.shape == (dataset.Rows, dataset.Columns)
    assert values.min() < values.max() < 2**dataset.BitsStored
    assert isinstance(scanned(path, tmp_path), Scanned)


@pytest.mark.parametrize("coded_bits", [12, 16])
def test_negative_values_survive_codecs_without_a_sign(tmp_path: Path, coded_bits: int) -> None:
    values = (FIELD * 4000 - 2000).astype(np.int16)
    pattern = values.view(np.uint16) & np.uint16(2**coded_bits - 1)
    for syntax, frame in (
        (LOSSLESS_SV1, lossless_jpeg(pattern, coded_bits)),
        (J2K_LOSSLESS, jpeg_2000(pattern, coded_bits)),
    ):
        dataset = compressed(frame, syntax, 12, PixelRepresentation=1)
        np.testing.assert_array_equal(stored(write(tmp_path, dataset)), values)


def with_size(frame: bytes, width: int) -> bytes:
    """A JPEG whose start of frame claims another width."""
    place = max(frame.find(bytes([0xFF, marker])) for marker in (0xC0, 0xC1, 0xC3))
    return frame[: place + 7] + struct.pack(">H", width) + frame[place + 9 :]


def liars() -> dict[str, tuple[Code, Dataset]]:
    jpeg, jpeg_ls = ENCODERS["baseline"][3](levels(8)), imagecodecs.jpegls_encode(levels(16))
    j2k = jpeg_2000(levels(12), 12)
    wide = j2k[:8] + struct.pack(">I", 60000) + j2k[12:]
    color = imagecodecs.jpeg8_encode(np.stack([levels(8)] * 3, axis=-1))
    deep = j2k[:42] + bytes([23]) + j2k[43:]  # 24 bits
    return {
        "wider jpeg": (Code.CORRUPT, compressed(with_size(jpeg, 60000), BASELINE, 8)),
        "wider jpeg 2000": (Code.CORRUPT, compressed(wide, J2K_LOSSLESS, 12)),
        "color": (Code.CORRUPT, compressed(color, BASELINE, 8)),
        "deep": (Code.UNSUPPORTED_PIXELS, compressed(deep, J2K_LOSSLESS, 12)),
        "cut jpeg": (Code.TRUNCATED, compressed(jpeg[: len(jpeg) // 2], BASELINE, 8)),
        "cut jpeg-ls": (Code.TRUNCATED, compressed(jpeg_ls[: len(jpeg_ls) // 2], JPEG_LS, 16)),
        "cut jpeg 2000": (Code.TRUNCATED, compressed(j2k[: len(j2k) // 2], J2K_LOSSLESS, 12)),
        "cut header": (Code.CORRUPT, compressed(jpeg[:12], BASELINE, 8)),
        "no codestream": (Code.CORRUPT, compressed(b"nothing of the kind", J2K, 12)),
        "raw pixels": (Code.CORRUPT, compressed(levels(8).tobytes(), BASELINE, 8)),
        "run lengths": (Code.CORRUPT, compressed(b"\x81\0" * 100_000, RLE, 8)),
        "video": (Code.UNSUPPORTED_TRANSFER_SYNTAX, compressed(jpeg, "1.2.840.10008.1.2.4.102", 8)),
    }


@pytest.mark.parametrize("name", liars())
def test_a_frame_that_lies_is_set_aside_and_named(tmp_path: Path, name: str) -> None:
    code, dataset = liars()[name]
    result = scanned(write(tmp_path, dataset), tmp_path)
    assert isinstance(result, Entry) and result.code is code, result
    assert dataset.file_meta.TransferSyntaxUID.name in result.detail


def test_a_size_that_lies_is_found_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoder(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    for name in ("jpeg8_decode", "jpeg2k_decode"):
        monkeypatch.setattr(imagecodecs, name, decoder)
    for name in ("wider jpeg", "wider jpeg 2000", "color", "deep"):
        with pytest.raises(Quarantined):
            stored(write(tmp_path, liars()[name][1]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(ENCODERS)))
def test_damaged_frames_never_end_the_scan(tmp_path: Path, data: st.DataObject, name: str) -> None:
    syntax, bits, _, encode = ENCODERS[name]
    frame = bytearray(encode(levels(bits)))
    for place in data.draw(st.lists(st.integers(0, len(frame) - 1), max_size=6)):
        frame[place] = data.draw(st.integers(0, 255))
    frame = frame[: data.draw(st.one_of(st.just(len(frame)), st.integers(1, len(frame))))]
    result = scanned(write(tmp_path, compressed(bytes(frame), syntax, bits)), tmp_path)
    assert isinstance(result, Scanned | Entry)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\xff\x4f\xff\x51"]))
def test_markers_of_any_bytes_are_read_or_refused(data: bytes, start: bytes) -> None:
    try:
        read_codestream(start + data)
    except BadCodestream as refused:
        assert str(refused)
