"""Bad files: each goes to the quarantine with its code, none ends the scan."""

import dataclasses
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import class_folders, dicom, dicom_bytes, smooth, write_png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file, get_testdata_files

from shards.quarantine import Code, Entry, write_list
from shards.scan import Scanned, ScanOptions, scan_one
from shards.sources.listing import Source, list_class_folders

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers
RAMP = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)


def scanned(path: Path, spool: Path) -> Scanned | Entry:
    return scan_one(Source(0, path.name, str(path), "finding"), spool, ScanOptions(32, 8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be width x height and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_bytes(tmp_path: Path) -> bytes:
    write_png(tmp_path / "good.png", 1)
    return (tmp_path / "good.png").read_bytes()


BAD_DICOM = {
    "no_pixels": (Code.NO_PIXELS, lambda: dicom(RAMP, PixelData=None)),
    "frames": (Code.MULTI_FRAME, lambda: dicom(np.stack([RAMP, RAMP]), NumberOfFrames=2)),
    "colour": (Code.NOT_GRAYSCALE, lambda: dicom(RAMP, PhotometricInterpretation="RGB", SamplesPerPixel=3)),
    "palette": (Code.NOT_GRAYSCALE, lambda: dicom(RAMP, PhotometricInterpretation="PALETTE COLOR")),
    "short": (Code.TRUNCATED, lambda: dicom(RAMP, PixelData=RAMP.tobytes()[:-100])),
    "bomb": (Code.TOO_LARGE, lambda: dicom(RAMP, Rows=65000, Columns=65000)),
    "small": (Code.TOO_SMALL, lambda: dicom(RAMP[:8, :8].copy())),
    "constant": (Code.CONSTANT, lambda: dicom(np.full_like(RAMP, 7))),
    "windowed_out": (Code.CONSTANT, lambda: dicom(RAMP, WindowCenter=60000, WindowWidth=10)),
    "all_padding": (Code.CONSTANT, lambda: dicom(RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=9999)),
    "nan": (Code.NOT_FINITE, lambda: dicom(RAMP, RescaleSlope="nan", RescaleIntercept=0)),
    "function": (
        Code.UNSUPPORTED_PIXELS,
        lambda: dicom(RAMP, WindowCenter=9, WindowWidth=9, VOILUTFunction="CUBIC"),
    ),
    "no_rows": (Code.CORRUPT, lambda: dicom(RAMP, Rows=None)),
}


@pytest.mark.parametrize("name", BAD_DICOM)
def test_bad_dicom(tmp_path: Path, name: str) -> None:
    code, make = BAD_DICOM[name]
    (tmp_path / "bad.dcm").write_bytes(dicom_bytes(make()))
    result = scanned(tmp_path / "bad.dcm", tmp_path)
    assert isinstance(result, Entry) and result.code is code, result


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("MR_truncated.dcm", Code.TRUNCATED),
        ("rtplan.dcm", Code.NO_PIXELS),
        ("JPEG2000-embedded-sequence-delimiter.dcm", Code.CORRUPT),
        ("examples_rgb_color.dcm", Code.NOT_GRAYSCALE),
        ("emri_small.dcm", Code.MULTI_FRAME),
    ],
)
def test_real_odd_dicom(tmp_path: Path, file: str, code: Code) -> None:
    path = get_testdata_file(file)
    assert isinstance(path, str)
    result = scanned(Path(path), tmp_path)
    assert isinstance(result, Entry) and result.code is code, result


def test_no_file_of_pydicoms_collection_ends_the_scan(tmp_path: Path) -> None:
    files = [Path(name) for name in get_testdata_files() if os.path.isfile(name)]
    assert len(files) > 180 and sum(path.stat().st_size > 300_000 for path in files) > 20
    results = [scanned(path, tmp_path) for path in files]
    assert sum(isinstance(result, Scanned) for result in results) > 20
    assert len({result.code for result in results if isinstance(result, Entry)}) >= 5


BAD_RASTER = {
    "empty": (Code.TRUNCATED, lambda good: b""),
    "text": (Code.NOT_AN_IMAGE, lambda good: b"not a picture"),
    "cut": (Code.TRUNCATED, lambda good: good[: len(good) // 2]),
    "flipped": (Code.CORRUPT, lambda good: good[:60] + bytes([good[60] ^ 255]) + good[61:]),
    "bomb": (Code.TOO_LARGE, lambda good: png_header(60000, 60000)),
    "large": (Code.TOO_LARGE, lambda good: png_header(9000, 9000)),
    "gif": (Code.NOT_AN_IMAGE, lambda good: b"GIF89a" + bytes(100)),
}


@pytest.mark.parametrize("name", BAD_RASTER)
def test_bad_raster(tmp_path: Path, name: str) -> None:
    code, make = BAD_RASTER[name]
    (tmp_path / "bad.png").write_bytes(make(png_bytes(tmp_path)))
    result = scanned(tmp_path / "bad.png", tmp_path)
    assert isinstance(result, Entry) and result.code is code, result


def test_colour_and_transparency(tmp_path: Path) -> None:
    gray = (smooth(1) * 200).astype(np.uint8)
    Image.fromarray(np.stack([gray, gray + 9, gray], axis=-1)).save(tmp_path / "colour.png")
    Image.fromarray(np.stack([gray, gray, gray, gray], axis=-1)).save(tmp_path / "clear.png")
    Image.fromarray(gray).convert("CMYK").save(tmp_path / "cmyk.jpg")
    for name in ("colour.png", "clear.png", "cmyk.jpg"):
        result = scanned(tmp_path / name, tmp_path)
        assert isinstance(result, Entry) and result.code is Code.NOT_GRAYSCALE


def test_pipes_and_missing_files_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "gone.png"):
        result = scanned(tmp_path / name, tmp_path)
        assert isinstance(result, Entry) and result.code is Code.UNREADABLE


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_dicom_never_ends_the_scan(tmp_path: Path, data: st.DataObject) -> None:
    good = bytearray(dicom_bytes(dicom(RAMP, WindowCenter=1000, WindowWidth=2000)))
    for place in data.draw(st.lists(st.integers(128, 900), max_size=8)):
        good[place] = data.draw(st.integers(0, 255))
    (tmp_path / "bad.dcm").write_bytes(good[: data.draw(st.integers(0, len(good)))])
    result = scanned(tmp_path / "bad.dcm", tmp_path)
    assert isinstance(result, Scanned | Entry)


def codes(entries: list[Entry]) -> dict[str, Code]:
    return {entry.path: entry.code for entry in entries}


def test_links_out_of_the_source_are_refused(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 2)
    write_png(tmp_path / "secret.png", 99)
    (source / "Finding" / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "Finding" / "inside.png").symlink_to(source / "No_finding" / "0000_1.png")
    (source / "Linked").symlink_to(tmp_path, target_is_directory=True)
    write_png(source / "loose.png", 98)
    (source / "notes.txt").write_text("not an image")
    listing = list_class_folders([source])
    assert codes(listing.quarantine) == {
        "Finding/link.png": Code.OUTSIDE_SOURCE,
        "Linked": Code.OUTSIDE_SOURCE,
        "loose.png": Code.NO_LABEL,
    }
    assert "Finding/inside.png" in {image.name for image in listing.images}
    assert listing.other_files == 1


def test_the_list_is_private_and_holds_any_name(tmp_path: Path) -> None:
    entry = Entry(0, os.fsdecode(b"x/\xff,\n.png"), Code.CORRUPT, "two\nlines")
    write_list(tmp_path / "list.csv", [dataclasses.replace(entry, source=1), entry])
    assert (tmp_path / "list.csv").stat().st_mode & 0o777 == 0o600
    assert (
        (tmp_path / "list.csv")
        .read_text("utf-8")
        .startswith('source,path,code,detail\n0,"x/\\udcff,\n.png",corrupt,')
    )
