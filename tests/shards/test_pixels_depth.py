"""Pictures of other depths and grids: 16-bit colour, 12-bit JPEG, subsampled JPEG 2000, 12 bits in 16."""

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom
from PIL import Image, ImageOps
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from shards.pixels.codestream import on_own_grid, read_codestream
from shards.pixels.render import render_file
from shards.quarantine import Code, Quarantined
from shards.scan import Scanned, ScanOptions, scan_one, warnings_of
from shards.sources.listing import Source


def folder_warnings(tmp_path: Path, peaks: dict[str, list[int]]) -> list[str]:
    """The warnings for classes of 16-bit PNGs whose largest values are `peaks`."""
    sources, results = [], []
    for label, values in peaks.items():
        for number, peak in enumerate(values):
            path = tmp_path / f"{label}{number}.png"
            Image.fromarray(
                (np.linspace(0, 1, 32 * 32) * peak).round().astype(np.uint16).reshape(32, 32)
            ).save(path)
            sources.append(Source(0, path.name, str(path), label))
            results.append(scan_one(sources[-1], tmp_path, ScanOptions(32, 16)))
    assert all(isinstance(result, Scanned) for result in results)
    return warnings_of(sources, results)


@pytest.mark.parametrize("bits", [8, 9, 10, 11, 12, 13, 14, 15])
def test_a_class_of_fewer_bits_is_named(tmp_path: Path, bits: int) -> None:
    (line,) = folder_warnings(tmp_path, {"dark": [2**bits - 1, 200], "full": [65535, 900], "most": [50000]})
    assert line.startswith(f"class dark: no value of its 2 16-bit PNGs is above {2**bits - 1}: ")
    assert f"{bits}-bit data" in line


@pytest.mark.parametrize("peak", [1000, 3900, 4000, 16000])
def test_also_where_the_last_value_is_not_used(tmp_path: Path, peak: int) -> None:
    assert len(folder_warnings(tmp_path, {"dark": [peak]})) == 1


def test_classes_at_full_scale_are_not(tmp_path: Path) -> None:
    assert folder_warnings(tmp_path, {"a": [4095, 40000], "b": [65535], "c": [30000]}) == []


CHANNELS = {4: 2, 2: 3, 6: 4}  # of PNG's colour types: gray with alpha, RGB, RGBA


def png(channels: np.ndarray, colour: int, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits, written here: no writer of NumPy arrays at hand makes all of them."""
    height, width = channels.shape[:2]
    rows = channels.astype(">u2").reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def layers(gray: np.ndarray, colour: int) -> np.ndarray:
    """The gray picture in the channels of a colour type, opaque."""
    channels = np.stack([gray] * CHANNELS[colour], axis=-1)
    if colour != 2:
        channels[..., -1] = 65535
    return channels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("colour", CHANNELS)
def test_sixteen_bits_of_colour_are_kept(tmp_path: Path, colour: int, orientation: int) -> None:
    gray = (smooth(orientation, 64, 50) * 65535).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    text = exif.tobytes()[6:]  # without "Exif\0\0"
    chunk = struct.pack(">I", len(text)) + b"eXIf" + text + struct.pack(">I", zlib.crc32(b"eXIf" + text))
    path = tmp_path / "a.png"
    path.write_bytes(png(layers(gray, colour), colour, chunk))
    picture = Image.fromarray(gray.astype(np.int32))
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture)) / 65535
    field = render_file(str(path)).field
    np.testing.assert_allclose(np.asarray(field), expected, atol=1e-7)
    assert len(np.unique(np.asarray(field))) > 2000


@pytest.mark.parametrize(
    ("colour", "channel", "change"), [(2, 0, 600), (2, 2, 3000), (6, 1, 600), (6, 3, -1), (4, 1, -1)]
)
def test_deep_colour_and_transparency_are_set_aside(
    tmp_path: Path, colour: int, channel: int, change: int
) -> None:
    channels = layers((smooth(1) * 60000).astype(np.uint16), colour)
    channels[5, 7, channel] += np.array(change).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png(channels, colour))
    with pytest.raises(Quarantined) as caught:
        render_file(str(tmp_path / "a.png"))
    assert caught.value.code is Code.NOT_GRAYSCALE


@pytest.mark.parametrize("damage", ["cut", "flipped"])
@pytest.mark.parametrize("colour", CHANNELS)
def test_damaged_deep_colour_is_set_aside(tmp_path: Path, colour: int, damage: str) -> None:
    data = png(layers((smooth(1) * 60000).astype(np.uint16), colour), colour)
    middle = len(data) // 2
    broken = (
        data[:middle] if damage == "cut" else data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]
    )
    (tmp_path / "a.png").write_bytes(broken)
    result = scan_one(Source(0, "a", str(tmp_path / "a.png"), "a"), tmp_path, ScanOptions(32, 16))
    assert getattr(result, "code", None) in (Code.TRUNCATED, Code.CORRUPT)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_lossless_jpeg_files_are_read_at_their_depth(tmp_path: Path, bits: int) -> None:
    values = (smooth(bits, 60, 44) * (2**bits - 1)).astype(np.uint16)
    frame = imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits, predictor=1)
    (tmp_path / "a.jpg").write_bytes(frame)
    field = np.asarray(render_file(str(tmp_path / "a.jpg")).field)
    np.testing.assert_allclose(field, values / (2**bits - 1), atol=1e-7)


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.T, 2),
    8: np.rot90,
}
"""By the tag Orientation of Exif 2.32, section 4.6.4: what is done to the stored rows and columns."""


@pytest.mark.parametrize("shape", [(60, 44), (61, 43)], ids=["whole blocks", "odd"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_twelve_bit_jpeg_files_are_read(tmp_path: Path, orientation: int, shape: tuple[int, int]) -> None:
    values = (smooth(orientation, *shape) * 4095).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    segment = exif.tobytes()
    frame = imagecodecs.jpeg8_encode(values, level=98, bitspersample=12)
    frame = frame[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + frame[2:]
    (tmp_path / "a.jpg").write_bytes(frame)
    upright = UPRIGHT[orientation](values)
    assert np.abs(np.asarray(render_file(str(tmp_path / "a.jpg")).field) - upright / 4095).max() < 0.01


def test_twelve_bit_colour_jpeg_is_named(tmp_path: Path) -> None:
    values = np.stack([(smooth(seed) * 4095).astype(np.uint16) for seed in (1, 2, 3)], axis=-1)
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(values, level=90, bitspersample=12))
    with pytest.raises(Quarantined) as caught:
        render_file(str(tmp_path / "a.jpg"))
    assert caught.value.code is Code.UNSUPPORTED_PIXELS and "3 components of 12 bits" in caught.value.detail


def subsampled(frame: bytes, steps: tuple[int, int], odd: int = 0) -> bytes:
    """The same codestream with its component on a grid of every `steps`-th column and row."""
    grid = list(struct.unpack_from(">8I", frame, 8))
    for axis, step in enumerate(steps):
        grid[axis] = grid[axis] * step - odd
        grid[4 + axis] *= step
    return frame[:8] + struct.pack(">8I", *grid) + frame[40:43] + bytes(steps) + frame[45:]


def tiled(values: np.ndarray, tile: tuple[int, int] | None) -> bytes:
    """A lossless JPEG 2000 codestream of 16 bits, in tiles of that size or in one."""
    file = io.BytesIO()
    options = {"tile_size": tile} if tile else {}
    Image.fromarray(values).save(file, "JPEG2000", no_jp2=True, **options)
    return file.getvalue()


@pytest.mark.parametrize("tile", [None, (32, 48), (64, 64)])
@pytest.mark.parametrize(("steps", "odd"), [((2, 2), 0), ((2, 2), 1), ((1, 2), 0), ((4, 1), 0), ((3, 3), 2)])
def test_subsampled_jpeg_2000_is_read(
    tmp_path: Path, steps: tuple[int, int], odd: int, tile: tuple[int, int] | None
) -> None:
    values = (smooth(3, 200, 150) * 65535).astype(np.uint16)
    frame = tiled(values, tile)
    expected = imagecodecs.jpeg2k_decode(frame)  # Pillow writes tiles of 16 bits, but shuffles them
    coded = subsampled(frame, steps, odd)
    stream = read_codestream(coded)
    assert (stream.height, stream.width, stream.sampling) == (200, 150, steps)
    dataset = dicom(values, 16, WindowCenter=32768, WindowWidth=65536, VOILUTFunction="LINEAR_EXACT")
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([coded])
    field = np.asarray(render_file(str(write_dicom(tmp_path / "a.dcm", dataset)), 64).field)
    np.testing.assert_allclose(field, expected / 65536, atol=1e-6)


def test_tiles_between_samples_are_named(tmp_path: Path) -> None:
    values = (smooth(3, 200, 150) * 65535).astype(np.uint16)
    coded = bytearray(subsampled(tiled(values, (64, 64)), (2, 2)))
    struct.pack_into(">II", coded, 24, 127, 127)
    assert on_own_grid(bytes(coded), (2, 2)) is None
    dataset = dicom(values, 16)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([bytes(coded)])
    with pytest.raises(Quarantined) as caught:
        render_file(str(write_dicom(tmp_path / "a.dcm", dataset)))
    assert caught.value.code is Code.UNSUPPORTED_PIXELS and "subsampled" in caught.value.detail
