"""PNG and JPEG files as gray values: deep ones at their full depth, damaged ones refused.

Pillow reads them where it reads every bit, and checks them; it cuts 16-bit colour to 8 bits and knows no
JPEG of another depth, so imagecodecs reads those.
"""

import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from shards.limits import MAX_PIXELS, check_shape
from shards.pixels.codestream import (
    JPEG_LS_FRAME,
    JPEG_START,
    LOSSLESS,
    BadCodestream,
    Codestream,
    read_codestream,
)
from shards.pixels.entropy import check_8_bits, check_jpeg
from shards.pixels.synthetic import title_says_synthetic
from shards.quarantine import Code, Quarantined

GRAY_TOLERANCE = 2  # levels of 255 by which the channels of a gray picture may differ after lossy coding
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
ORIENTATION = 0x0112  # of EXIF
MOST_BEFORE_EXIF = 65536
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


class Raster(NamedTuple):
    """A gray PNG or JPEG: integers [height, width], and their full scale, 2**bits - 1.

    `synthetic`: whether it says that a generative model drew it. `orientation`: EXIF's, which was applied.
    """

    values: np.ndarray
    full_scale: int
    synthetic: bool
    orientation: int = 1


def decode_raster(file: BinaryIO) -> Raster:
    """A gray PNG or JPEG.

    The EXIF orientation is applied: the picture is taken as viewers show it. Colour images whose channels are
    equal, and opaque alpha, are accepted.
    """
    data = file.read()
    stream = _jpeg(data)
    if stream and (stream.bits != 8 or stream.process in (*LOSSLESS, JPEG_LS_FRAME)):
        return _decode_deep_jpeg(data, stream)
    file.seek(0)
    try:
        image: Image.Image = Image.open(file, formats=["PNG", "JPEG"])
        check_shape(image.height, image.width)
        image.load()
        synthetic = title_says_synthetic(image.info.get("Title"))
        orientation = _orientation(image.getexif())
        image = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        for name, start in (("PNG", PNG_START), ("JPEG", JPEG_START)):
            if data.startswith(start):
                raise Quarantined(Code.CORRUPT, f"{name}: what comes before its pixels is damaged") from None
        raise Quarantined(Code.NOT_AN_IMAGE, "the content is neither PNG, JPEG nor DICOM") from None
    except Image.DecompressionBombError as error:
        raise Quarantined(Code.TOO_LARGE, str(error)) from None
    except (OSError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        code = Code.TRUNCATED if "truncated" in str(error).lower() else Code.CORRUPT
        raise Quarantined(code, str(error)) from None
    if data.startswith(PNG_START):
        _check_png(data)
    if image.mode.startswith("I"):
        return Raster(np.asarray(image).astype(np.int32), 65535, synthetic, orientation)
    if image.mode == "CMYK":
        raise Quarantined(Code.NOT_GRAYSCALE, "a CMYK picture")
    if data.startswith(JPEG_START):
        _check(check_8_bits, data)
    if image.mode in ("1", "L"):
        return Raster(np.asarray(image.convert("L")), 255, synthetic, orientation)
    if _is_deep_colour(data):
        import imagecodecs

        deep = _turned(_gray(imagecodecs.png_decode(data), 65535), orientation)
        return Raster(deep.astype(np.int32), 65535, synthetic, orientation)
    return Raster(_gray(np.asarray(image.convert("RGBA")), 255), 255, synthetic, orientation)


def _check_png(data: bytes) -> None:
    """Raise Quarantined where checksums of pixels are wrong, or bytes are left over: Pillow does not look."""
    position, packed = len(PNG_START), []
    while position + 12 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 8 + size
        if kind == b"IDAT":
            packed.append(data[position + 8 : end])
            if zlib.crc32(packed[-1], zlib.crc32(kind)) != int.from_bytes(data[end : end + 4], "big"):
                raise Quarantined(Code.CORRUPT, "PNG: the checksum of its pixels is wrong")
        if kind == b"IEND":
            _check_unpacked(data, b"".join(packed))
            return
        position = end + 4
    raise Quarantined(Code.TRUNCATED, "PNG: its end is missing")


def _check_unpacked(data: bytes, packed: bytes) -> None:
    """Unpack the pixels once more, by the library that does it fastest."""
    import imagecodecs

    width, height, depth, colour, *methods = struct.unpack_from(">IIBBBBB", data, 16)
    row = -(-width * depth * PNG_CHANNELS[colour] // 8)
    interlaced = methods[2] == 1
    most = height * (row + 1) if not interlaced else height * row + 4 * (height + 4)  # 15 rows for 8, and 7
    try:
        unpacked = imagecodecs.deflate_decode(packed, out=most)
    except RuntimeError as error:
        raise Quarantined(Code.CORRUPT, f"PNG: {error}") from None
    whole = interlaced or len(unpacked) == most
    if methods[0] or not whole or zlib.adler32(unpacked).to_bytes(4, "big") != packed[-4:]:
        raise Quarantined(Code.CORRUPT, "PNG: its compressed pixels are not those that its header calls for")


def _is_deep_colour(data: bytes) -> bool:
    """Whether it is a PNG of 16 bits with more than one channel (its header's depth and colour type)."""
    return data.startswith(PNG_START) and data[24] == 16 and data[25] in (2, 4, 6)


def _gray(channels: np.ndarray, full_scale: int) -> np.ndarray:
    """[height, width, 1 to 4] -> [height, width]; raises Quarantined for colour and for transparent parts."""
    count = channels.shape[2] if channels.ndim == 3 else 1
    planes = channels.reshape(*channels.shape[:2], count)
    if count in (2, 4):
        if planes[..., -1].min() < full_scale:
            raise Quarantined(Code.NOT_GRAYSCALE, "a picture with transparent parts")
        planes = planes[..., :-1]
    if planes.shape[2] == 3:
        red, green, blue = np.moveaxis(planes.astype(np.int32), -1, 0)
        if max(np.abs(red - green).max(), np.abs(red - blue).max()) > GRAY_TOLERANCE * full_scale / 255:
            raise Quarantined(Code.NOT_GRAYSCALE, "a colour picture")
    return planes[..., planes.shape[2] // 2]


def _orientation(exif: Image.Exif) -> int:
    """1 to 8; 1, as it is, when absent or another value."""
    orientation = exif.get(ORIENTATION)
    return orientation if isinstance(orientation, int) and orientation in range(2, 9) else 1


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """The values as EXIF's orientation shows them."""
    if orientation != 1:
        picture = Image.fromarray(values.astype(np.int32))
        picture.getexif()[ORIENTATION] = orientation
        return np.asarray(ImageOps.exif_transpose(picture))
    return values


def _jpeg(data: bytes) -> Codestream | None:
    """What a JPEG says of itself; None for what is none, or is broken: Pillow says how."""
    if not data.startswith(JPEG_START):
        return None
    try:
        return read_codestream(data)
    except BadCodestream:
        return None


def _decode_deep_jpeg(data: bytes, stream: Codestream) -> Raster:
    """A JPEG of 12 bits, or a lossless one, of 2 to 16."""
    import imagecodecs

    check_shape(stream.height, stream.width)
    what = f"a JPEG of {stream.components} components of {stream.bits} bits"
    if stream.components not in (1, 3):
        raise Quarantined(Code.NOT_GRAYSCALE, what)
    if stream.components == 3 or not 2 <= stream.bits <= 16:
        raise Quarantined(Code.UNSUPPORTED_PIXELS, what)
    if not stream.complete:
        raise Quarantined(Code.TRUNCATED, f"{what} breaks off")
    try:
        if stream.process == JPEG_LS_FRAME:
            values = imagecodecs.jpegls_decode(data)
        else:
            values = imagecodecs.jpeg8_decode(data)
    except RuntimeError as error:
        raise Quarantined(Code.CORRUPT, f"{what}: {error}") from None
    _check(check_jpeg, data, stream, values)
    start = data.find(b"Exif\0\0", 0, MOST_BEFORE_EXIF)
    exif = Image.Exif()
    if start >= 0:
        try:
            exif.load(data[start : start + MOST_BEFORE_EXIF])
        except (OSError, SyntaxError, ValueError):
            exif = Image.Exif()
    orientation = _orientation(exif)
    values = _turned(values.astype(np.int32), orientation)
    return Raster(values, 2**stream.bits - 1, False, orientation)


def _check(check: Callable[..., None], *arguments: object) -> None:
    try:
        check(*arguments)
    except BadCodestream as error:
        raise Quarantined(Code.CORRUPT, f"JPEG: {error}") from None
