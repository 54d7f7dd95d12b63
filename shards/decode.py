"""How a file becomes numbers, safely: limits before decoding, a quarantine code for what can't be decoded.

Nothing here decides how an X-ray looks; see `render`.
"""

import os
import stat
from io import BufferedReader
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from shards.codecs import MOST_BITS, RLE, check_rle_length, check_syntax, cut_bits, stored_bits
from shards.quarantine import Code, Quarantined
from shards.sources import DICOM_MAGIC, DICOM_MAGIC_AT
from shards.synthetic import title_says_synthetic

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_PIXELS = 64 * 1024 * 1024  # twice the largest detectors; bounds the memory of a worker at about 2 GB
MAX_FILE_BYTES = 512 * 1024 * 1024
MIN_SIDE = 16
GRAY_TOLERANCE = 2  # levels of 255 by which the channels of a gray picture may differ after lossy coding
DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"}  # unpack without a limit: refused unread
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


class Raster(NamedTuple):
    """A gray PNG or JPEG: integers [height, width], their full scale (255 or 65535).

    `synthetic`: whether it says that a generative model drew it.
    """

    values: np.ndarray
    full_scale: int
    synthetic: bool


def open_plain(path: str) -> BufferedReader:
    """Open a plain, non-empty file of at most MAX_FILE_BYTES; never waits for a pipe or a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Quarantined(Code.UNREADABLE, error.strerror or str(error)) from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_FILE_BYTES:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Quarantined(Code.UNREADABLE, "not a plain file")
    if status.st_size:
        raise Quarantined(Code.TOO_LARGE, f"{status.st_size} bytes; the limit is {MAX_FILE_BYTES}")
    raise Quarantined(Code.TRUNCATED, "an empty file")


def is_dicom(file: BinaryIO) -> bool:
    """Whether the file starts with a DICOM preamble (PS3.10, section 7.1)."""
    file.seek(DICOM_MAGIC_AT)
    magic = file.read(len(DICOM_MAGIC))
    file.seek(0)
    return magic == DICOM_MAGIC


def check_shape(height: int, width: int) -> None:
    """Refuse sizes that would exhaust memory or that can't be an X-ray; called before anything is decoded."""
    if min(height, width) < MIN_SIDE:
        raise Quarantined(Code.TOO_SMALL, f"{width} x {height} pixels; the shorter side needs {MIN_SIDE}")
    if height * width > MAX_PIXELS:
        raise Quarantined(Code.TOO_LARGE, f"{width} x {height} pixels; the limit is {MAX_PIXELS} in all")


def decode_raster(file: BinaryIO) -> Raster:
    """A gray PNG or JPEG.

    The EXIF orientation is applied: the picture is taken as viewers show it. Colour images whose channels are
    equal, and opaque alpha, are accepted.
    """
    try:
        image: Image.Image = Image.open(file, formats=["PNG", "JPEG"])
        check_shape(image.height, image.width)
        image.load()
        synthetic = title_says_synthetic(image.info.get("Title"))
        image = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise Quarantined(Code.NOT_AN_IMAGE, "the content is neither PNG, JPEG nor DICOM") from None
    except Image.DecompressionBombError as error:
        raise Quarantined(Code.TOO_LARGE, str(error)) from None
    except (OSError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        code = Code.TRUNCATED if "truncated" in str(error).lower() else Code.CORRUPT
        raise Quarantined(code, str(error)) from None
    if image.mode.startswith("I"):
        return Raster(np.asarray(image).astype(np.int32), 65535, synthetic)
    if image.mode in ("1", "L"):
        return Raster(np.asarray(image.convert("L")), 255, synthetic)
    if image.mode == "CMYK":
        raise Quarantined(Code.NOT_GRAYSCALE, "a CMYK picture")
    red, green, blue, alpha = np.moveaxis(np.asarray(image.convert("RGBA")).astype(np.int16), -1, 0)
    if np.abs(red - green).max() > GRAY_TOLERANCE or np.abs(red - blue).max() > GRAY_TOLERANCE:
        raise Quarantined(Code.NOT_GRAYSCALE, "a colour picture")
    if alpha.min() < 255:
        raise Quarantined(Code.NOT_GRAYSCALE, "a picture with transparent parts")
    return Raster(green, 255, synthetic)


def read_dicom(path: str) -> "Dataset":
    """The data set of a single-frame grayscale DICOM image that can be decoded; its pixels are still encoded.

    Raises Quarantined, or nearly anything: pydicom has no closed set of errors for a hostile file.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import UID

    syntax = read_file_meta_info(path).get("TransferSyntaxUID", "")
    if syntax in DEFLATED:
        raise Quarantined(Code.UNSUPPORTED_TRANSFER_SYNTAX, f"{syntax.name}: store it without deflate")
    dataset = dcmread(path)
    _check_header(dataset)
    check_syntax(UID(syntax))
    return dataset


def _check_header(dataset: "Dataset") -> None:
    """Refuse whatever is not one grayscale frame of a size and depth that can be decoded."""
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Quarantined(Code.NO_PIXELS, f"no pixel data ({dataset.get('Modality', 'no modality')})")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise Quarantined(Code.MULTI_FRAME, f"{dataset.NumberOfFrames} frames")
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip().upper()
    if int(dataset.get("SamplesPerPixel", 1)) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Quarantined(Code.NOT_GRAYSCALE, photometric or "no photometric interpretation")
    if int(dataset.BitsAllocated) < 8:
        raise Quarantined(
            Code.UNSUPPORTED_PIXELS, f"{dataset.BitsAllocated} bits a pixel: a mask, not an X-ray"
        )
    check_shape(int(dataset.Rows), int(dataset.Columns))


def native_values(dataset: "Dataset") -> np.ndarray:
    """The stored values [rows, columns] of an image that is not compressed, or run-length coded."""
    if dataset.file_meta.TransferSyntaxUID == RLE:
        check_rle_length(dataset)
    try:
        values = _without_unused_bits(dataset)
    except ValueError as error:
        code = Code.TRUNCATED if "less than expected" in str(error) else Code.CORRUPT
        raise Quarantined(code, str(error)) from None
    if values.ndim != 2:
        raise Quarantined(Code.MULTI_FRAME, f"pixels of shape {values.shape}")
    return values


def _without_unused_bits(dataset: "Dataset") -> np.ndarray:
    """pydicom takes the lowest BitsStored bits; HighBit may say that they lie higher."""
    bits, low = stored_bits(dataset)
    if not low or int(dataset.BitsAllocated) > MOST_BITS or "PixelData" not in dataset:
        return dataset.pixel_array
    dataset.pixel_array_options(correct_unused_bits=False)
    return cut_bits(dataset.pixel_array, bits, low, dataset.get("PixelRepresentation") == 1)
