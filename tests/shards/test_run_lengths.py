"""Run-length coded frames: every layout is read, and none that is not exactly what the header calls for."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.strict_decoders import encode_rle, rle
from helpers.xray_files import dicom, smooth, write_dicom
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from shards.pixels.decode import native_values, read_dicom
from shards.quarantine import Code, Quarantined

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers
FIELD = (smooth(3, 40, 52) * 4095).astype(np.uint16)


def stored(path: Path, frame: bytes, values: np.ndarray, bits: int) -> np.ndarray:
    dataset = dicom(values, bits)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return native_values(read_dicom(str(write_dicom(path, dataset))))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4"])
def test_every_width_is_read_as_pydicom_reads_it(tmp_path: Path, dtype: str) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    for name, field in (
        ("smooth", smooth(1, 33, 47)),
        ("noise", np.random.default_rng(1).random((33, 47))),
        ("flat", np.full((33, 47), 0.5)),
    ):
        values = (field * (2**bits - 1) - (2 ** (bits - 1) if dtype == "i2" else 0)).astype(dtype)
        found = stored(tmp_path / "a.dcm", encode_rle(values), values, bits)
        np.testing.assert_array_equal(found, values, err_msg=name)
        np.testing.assert_array_equal(dcmread(tmp_path / "a.dcm").pixel_array, values)


def segments(frame: bytes) -> list[bytes]:
    count, *offsets = struct.unpack_from("<16I", frame)
    return [frame[a:b] for a, b in zip(offsets[:count], [*offsets[1:count], len(frame)], strict=True)]


def joined(parts: list[bytes], first: int = 64, count: int | None = None) -> bytes:
    offsets = [first + sum(map(len, parts[:n])) for n in range(len(parts))]
    return struct.pack("<16I", count or len(parts), *offsets, *[0] * (15 - len(parts))) + b"".join(parts)


DAMAGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a run longer": lambda high, low: joined([high, bytes([low[0] - 1]) + low[1:]]),
    "a run shorter": lambda high, low: joined([high, bytes([low[0] + 1]) + low[1:]]),
    "bytes left over": lambda high, low: joined([high, low + b"\1\7\7"]),
    "left over in the first": lambda high, low: joined([high + b"\1\7\7", low]),
    "a byte missing": lambda high, low: joined([high, low[:50] + low[51:]]),
    "the end missing": lambda high, low: joined([high, low[:-30]]),
    "literals that break off": lambda high, low: joined([high, encoded_literals()[:-1]]),
    "one segment": lambda high, low: joined([low]),
    "three segments": lambda high, low: joined([high, low, low]),
    "segments swapped in the header": lambda high, low: (
        struct.pack("<16I", 2, 64 + len(high), 64, *[0] * 13) + high + low
    ),
    "a first segment elsewhere": lambda high, low: joined([high, low], first=66),
    "an offset beyond the frame": lambda high, low: struct.pack("<16I", 2, 64, 10**6, *[0] * 13) + high + low,
    "no segments": lambda high, low: bytes(64) + high + low,
    "no header": lambda high, low: joined([high, low])[:40],
}


def encoded_literals() -> bytes:
    """The low bytes of the field, all as literals; the last run names one more than there is."""
    low, runs = (FIELD & 255).astype(np.uint8).tobytes(), b""
    for start in range(0, len(low), 128):
        part = low[start : start + 128]
        last = start + 128 >= len(low)
        runs += bytes([len(part) - 1 + last]) + part
    return runs


@pytest.mark.parametrize("name", DAMAGES)
def test_a_frame_that_does_not_add_up_is_refused(tmp_path: Path, name: str) -> None:
    high, low = segments(encode_rle(FIELD))
    frame = joined([high, low])
    np.testing.assert_array_equal(rle(frame, *FIELD.shape, 2), FIELD)
    np.testing.assert_array_equal(stored(tmp_path / "a.dcm", frame, FIELD, 12), FIELD)
    with pytest.raises(Quarantined) as caught:
        stored(tmp_path / "a.dcm", DAMAGES[name](high, low), FIELD, 12)
    assert caught.value.code in (Code.CORRUPT, Code.TRUNCATED) and "RLE" in caught.value.detail


def test_zeros_that_fill_a_segment_up_are_no_damage(tmp_path: Path) -> None:
    high, low = segments(encode_rle(FIELD))
    frame = joined([high + bytes(2), low + bytes(4)])
    np.testing.assert_array_equal(stored(tmp_path / "a.dcm", frame, FIELD, 12), FIELD)


@pytest.mark.parametrize("elements", [{"BitsStored": None}, {"PixelRepresentation": None}, {"HighBit": 255}])
def test_a_header_that_does_not_say_which_bits_are_pixels_is_refused(
    tmp_path: Path, elements: dict[str, int | None]
) -> None:
    path = write_dicom(tmp_path / "a.dcm", dicom(FIELD, 12, **elements))
    with pytest.raises(Quarantined) as caught:
        native_values(read_dicom(str(path)))
    assert caught.value.code is Code.CORRUPT
