"""Damaged JPEG of which decoders say nothing is set aside; clean JPEG of every kind is not."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from shards.pixels.codestream import BadCodestream, read_codestream
from shards.pixels.entropy import check_8_bits, check_jpeg
from shards.pixels.raster import decode_raster
from shards.quarantine import Code, Entry
from shards.scan import Scanned, ScanOptions, scan_one
from shards.sources.listing import Source

pytestmark = pytest.mark.filterwarnings("ignore")  # as in the workers
RNG = np.random.default_rng(8)
FIELD = (smooth(2, 88, 72) * 0.9 + RNG.random((88, 72)) * 0.1).clip(0, 1)
LOW = (FIELD * 255).astype(np.uint8)
BASELINE, EXTENDED, LOSSLESS = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57))


def pillow(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(LOW).save(file, "JPEG", **options)
    return file.getvalue()


def lossless(values: np.ndarray, bits: int, predictor: int, restart_rows: int = 0, shift: int = 0) -> bytes:
    """A lossless JPEG written here by ISO/IEC 10918-1, annex H: every category has a code of 5 bits."""
    height, width = values.shape
    x = values.astype(int) >> shift
    out = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHBBBB", 11, bits, height, width, 1, 1, 0x11, 0)
    out += b"\xff\xc4" + struct.pack(">HB", 36, 0) + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17))
    out += b"\xff\xdd" + struct.pack(">HH", 4, restart_rows * width) if restart_rows else b""
    out += b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, predictor, 0, shift)
    intervals = []
    for top in range(0, height, restart_rows or height):
        code = ""
        for row in range(top, min(height, top + (restart_rows or height))):
            for column in range(width):
                left, above, corner = x[row, column - 1], x[row - 1, column], x[row - 1, column - 1]
                if row == top:
                    predicted = left if column else 1 << (bits - shift - 1)
                elif not column:
                    predicted = above
                else:
                    predicted = {
                        1: left,
                        2: above,
                        3: corner,
                        4: left + above - corner,
                        5: left + ((above - corner) >> 1),
                        6: above + ((left - corner) >> 1),
                        7: (left + above) >> 1,
                    }[predictor]
                difference = (int(x[row, column]) - int(predicted) + 32767) % 65536 - 32767
                size = abs(difference).bit_length()
                code += f"{size:05b}"
                if 0 < size < 16:
                    code += f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}"
        code += "1" * (-len(code) % 8)
        data = bytes(int(code[start : start + 8], 2) for start in range(0, len(code), 8))
        intervals.append(data.replace(b"\xff", b"\xff\x00"))
    for number, interval in enumerate(intervals):
        out += interval + (bytes([0xFF, 0xD0 + number % 8]) if number + 1 < len(intervals) else b"\xff\xd9")
    return out


def deep(bits: int) -> np.ndarray:
    return (FIELD * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def coded(bits: int, **options: object) -> bytes:
    return imagecodecs.jpeg8_encode(deep(bits), bitspersample=bits, **options)


CLEAN: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    **{f"quality {q}": (BASELINE, 8, lambda q=q: pillow(quality=q)) for q in (30, 75, 95, 100)},
    "optimized": (BASELINE, 8, lambda: pillow(optimize=True)),
    "progressive": (BASELINE, 8, lambda: pillow(progressive=True)),
    "restarts": (BASELINE, 8, lambda: pillow(restart_marker_rows=1)),
    **{f"12 bits {q}": (EXTENDED, 12, lambda q=q: coded(12, level=q)) for q in (50, 90, 99)},
    **{
        f"lossless {bits} {p}": (LOSSLESS, bits, lambda b=bits, p=p: coded(b, lossless=True, predictor=p))
        for bits, p in ((8, 1), (9, 4), (10, 2), (12, 3), (12, 1), (13, 5), (14, 6), (16, 1), (16, 7))
    },
    **{
        f"own {bits} {p} {rows} {shift}": (
            LOSSLESS,
            bits,
            lambda b=bits, p=p, r=rows, s=shift: lossless(deep(b) >> s << s, b, p, r, s),
        )
        for bits, p, rows, shift in (
            (12, 1, 1, 0),
            (12, 7, 8, 0),
            (16, 4, 30, 0),
            (8, 6, 0, 2),
            (14, 1, 50, 1),
        )
    },
}


def damages(frame: bytes) -> dict[str, bytes]:
    """The frame with its scan damaged as files on a bad disk or line are."""
    middle = (frame.rindex(b"\xff\xda") + len(frame)) // 2
    return {
        "bytes missing": frame[:middle] + frame[middle + 40 :],
        "bytes twice": frame[:middle] + frame[middle - 40 :],
        "end too early": frame[:middle] + b"\xff\xd9",
        "a marker within": frame[:middle] + b"\xff\xd9" + frame[middle + 2 :],
        "a restart within": frame[:middle] + b"\xff\xd5" + frame[middle + 2 :],
        "noise": frame[:middle] + bytes((i * 37 + 11) % 251 for i in range(60)) + frame[middle + 60 :],
    }


def scans(tmp_path: Path, frame: bytes, syntax: str, bits: int) -> list[Scanned | Entry]:
    """The frame as a file of its own, and in DICOM."""
    (tmp_path / "a.jpg").write_bytes(frame)
    dataset = dicom(deep(bits), bits)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = encapsulate([frame])
    write_dicom(tmp_path / "a.dcm", dataset)
    return [
        scan_one(Source(0, name, str(tmp_path / name), "a"), tmp_path, ScanOptions(32, 16))
        for name in ("a.jpg", "a.dcm")
    ]


@pytest.mark.parametrize("name", CLEAN)
def test_clean_is_taken_and_damaged_is_not(tmp_path: Path, name: str) -> None:
    syntax, bits, make = CLEAN[name]
    frame = make()
    for result in scans(tmp_path, frame, syntax, bits):
        assert isinstance(result, Scanned), result
    missed = set()
    for damage, broken in damages(frame).items():
        for result in scans(tmp_path, broken, syntax, bits):
            if isinstance(result, Scanned):
                missed.add(damage)
            else:
                assert result.code in (Code.CORRUPT, Code.TRUNCATED), damage
    # Other bytes can happen to be the codes of another picture of exactly as many blocks.
    assert len(missed) <= 1 and missed <= {"bytes missing", "noise"}


def test_the_lossless_jpeg_written_here_is_one() -> None:
    for bits, predictor, rows, shift in ((12, 1, 8, 0), (16, 4, 0, 0), (10, 7, 11, 1)):
        values = deep(bits) >> shift << shift
        np.testing.assert_array_equal(
            imagecodecs.jpeg8_decode(lossless(values, bits, predictor, rows, shift)), values
        )


@pytest.mark.parametrize("name", ["lossless 12 1", "lossless 16 7", "own 12 7 8 0", "own 16 4 30 0"])
def test_what_a_flipped_bit_changes_is_seen_or_fits(name: str) -> None:
    """A flipped bit that leaves every length as it was is another picture; all others are found."""
    frame = CLEAN[name][2]()
    start = frame.rindex(b"\xff\xda") + 10
    kept = 0
    for place in np.random.default_rng(1).integers(start, len(frame) - 2, 60):
        broken = bytearray(frame)
        broken[place] ^= 1 << int(place % 8)
        try:
            values = imagecodecs.jpeg8_decode(bytes(broken))
            check_jpeg(bytes(broken), read_codestream(bytes(broken)), values)
        except (RuntimeError, BadCodestream):
            continue
        kept += 1
        assert values.max() < 2 ** int(name.split()[1])
        if name.startswith("own"):  # encoded again, it is the same file: nothing was passed over
            bits, predictor, rows, _ = map(int, name.split()[1:])
            assert lossless(values, bits, predictor, rows) == bytes(broken)
    assert kept < 60


def test_a_png_whose_pixels_have_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    """Some changes of the compressed data still unpack to as many pixels, of another picture."""
    file = io.BytesIO()
    Image.fromarray(LOW).save(file, "PNG", compress_level=0)
    broken = bytearray(file.getvalue())
    broken[broken.index(b"IDAT") + 2000] ^= 0x40
    for name, data, code in (
        ("a.png", bytes(broken), Code.CORRUPT),
        ("b.png", file.getvalue()[:-12], Code.TRUNCATED),
    ):
        (tmp_path / name).write_bytes(data)
        result = scan_one(Source(0, name, str(tmp_path / name), "a"), tmp_path, ScanOptions(32, 8))
        assert isinstance(result, Entry) and result.code == code
    (tmp_path / "c.png").write_bytes(file.getvalue())
    assert isinstance(
        scan_one(Source(0, "c", str(tmp_path / "c.png"), "a"), tmp_path, ScanOptions(32, 8)), Scanned
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, rows: bytes, methods: bytes = bytes(3), packed: bytes | None = None) -> bytes:
    """A gray PNG of 8 bits; `rows` with their filter bytes, or `packed` in their place."""
    head = struct.pack(">IIBB", values.shape[1], values.shape[0], 8, 0) + methods
    data = zlib.compress(rows) if packed is None else packed
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data[:99])
        + chunk(b"IDAT", data[99:])
        + chunk(b"IEND", b"")
    )


def interlaced(values: np.ndarray) -> bytes:
    """The rows of Adam7's seven passes, each with its filter byte (ISO/IEC 15948, 8.2)."""
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    return b"".join(
        b"\0" + row.tobytes() for x, y, dx, dy in passes for row in values[y::dy, x::dx] if len(row)
    )


def test_a_png_whose_checksums_are_right_but_not_its_pixels_is_refused(tmp_path: Path) -> None:
    """As a program writes it whose memory or compressor has a fault."""
    rows = b"".join(b"\0" + row.tobytes() for row in LOW)
    packed = zlib.compress(rows)
    for name, data in {
        "adler": png(LOW, rows, packed=packed[:-4] + bytes(4)),
        "left over": png(LOW, rows, packed=packed + b"more"),
        "a row more": png(LOW, rows + rows[: LOW.shape[1] + 1]),
        "compression": png(LOW, rows, bytes([1, 0, 0])),
    }.items():
        (tmp_path / "a.png").write_bytes(data)
        result = scan_one(Source(0, "a", str(tmp_path / "a.png"), "a"), tmp_path, ScanOptions(32, 8))
        assert isinstance(result, Entry) and result.code == Code.CORRUPT, name


@pytest.mark.parametrize("height", range(16, 26))
def test_png_of_every_layout_is_read(height: int) -> None:
    for width in (16, 17, 23, 31):
        values = RNG.integers(0, 256, (height, width)).astype(np.uint8)
        pictures = [png(values, interlaced(values), bytes([0, 0, 1]))]
        for options in ({"compress_level": 0}, {"optimize": True}):
            file = io.BytesIO()
            Image.fromarray(values).save(file, "PNG", **options)
            pictures.append(file.getvalue())
        for data in pictures:
            np.testing.assert_array_equal(decode_raster(io.BytesIO(data)).values, values)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_png_of_every_kind_is_read(mode: str) -> None:
    image = Image.fromarray(deep(16)) if mode == "I;16" else Image.fromarray(LOW).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    assert decode_raster(io.BytesIO(file.getvalue())).values.shape == LOW.shape


def test_fill_bytes_within_a_jpegs_scan_are_refused() -> None:
    """libjpeg takes FF FF 00 for one byte of the scan, others for two, or for the end."""
    frame = pillow(quality=95)
    stuffed = frame.index(b"\xff\x00", frame.rindex(b"\xff\xda"))
    check_8_bits(frame)
    check_8_bits(frame[:-2] + b"\xff" + frame[-2:])  # before a marker they are allowed
    with pytest.raises(BadCodestream, match="fill bytes"):
        check_8_bits(frame[:stuffed] + b"\xff" + frame[stuffed:])


@pytest.mark.parametrize("reversible", [True, False])
def test_jpeg_2000_that_does_not_add_up_is_refused(tmp_path: Path, reversible: bool) -> None:
    frame = imagecodecs.jpeg2k_encode(
        deep(12), level=0 if reversible else 40, reversible=reversible, codecformat="j2k", bitspersample=12
    )
    levels = frame.index(b"\xff\x52") + 9
    changes = {
        "right": frame,
        "a byte less": frame[:-900] + frame[-899:],
        "some bytes more": frame[:-900] + b"abc" + frame[-900:],
        "another number of levels": frame[:levels] + bytes([frame[levels] - 1]) + frame[levels + 1 :],
    }
    for name, data in changes.items():
        dataset = dicom(
            deep(12), 12, WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation="MONOCHROME2"
        )
        dataset.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.9{0 if reversible else 1}")
        dataset.PixelData = encapsulate([data])
        write_dicom(tmp_path / "a.dcm", dataset)
        result = scan_one(Source(0, "a.dcm", str(tmp_path / "a.dcm"), "a"), tmp_path, ScanOptions(72, 16))
        code = None if isinstance(result, Scanned) else result.code
        assert code == (None if name == "right" else Code.CORRUPT), name
