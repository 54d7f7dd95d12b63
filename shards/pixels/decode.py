"""How a DICOM file becomes numbers, safely: a quarantine code for what can't be decoded.

Nothing here decides how an X-ray looks; see `render`. PNG and JPEG: see `raster`.
"""

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from shards.limits import check_shape
from shards.pixels.codecs import MOST_BITS, RLE, check_syntax, cut_bits, stored_bits
from shards.pixels.enhanced import state_at_the_top
from shards.pixels.part10 import DEFLATED_FRAME, inflate_frame, read_data_set
from shards.pixels.run_lengths import unpack_runs
from shards.quarantine import Code, Quarantined
from shards.sources.listing import HEAD_BYTES, starts_like_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

INTEGERS_NEED = ("BitsStored", "PixelRepresentation")  # of type 1 (PS3.3, C.7.6.3)


def is_dicom(file: BinaryIO) -> bool:
    """Whether the file starts like a DICOM file, with a preamble or without."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return starts_like_dicom(head)


def read_dicom(path: str) -> "Dataset":
    """The data set of a single-frame grayscale DICOM image that can be decoded; its pixels may be encoded.

    Raises Quarantined, or nearly anything: pydicom has no closed set of errors for a hostile file.
    """
    dataset = read_data_set(path)
    _check_header(dataset)
    state_at_the_top(dataset)
    if dataset.file_meta.TransferSyntaxUID == DEFLATED_FRAME:
        inflate_frame(dataset)
    check_syntax(dataset.file_meta.TransferSyntaxUID)
    if dataset.file_meta.TransferSyntaxUID == RLE:
        unpack_runs(dataset)
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
    for name in INTEGERS_NEED if "PixelData" in dataset else ():
        if dataset.get(name) is None:
            raise Quarantined(
                Code.CORRUPT, f"the header lacks {name}, which says what the bits of a pixel are"
            )
    check_shape(int(dataset.Rows), int(dataset.Columns))


def native_values(dataset: "Dataset") -> np.ndarray:
    """The stored values [rows, columns] of an image that is not compressed."""
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
