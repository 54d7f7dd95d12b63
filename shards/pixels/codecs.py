"""How a compressed DICOM frame becomes stored values: which library decodes which transfer syntax.

The codestream's own size is compared with the header's, which is checked already, before a decoder sees it.
"""

from typing import TYPE_CHECKING

import numpy as np

from shards.pixels.codestream import BadCodestream, Codestream, on_own_grid, read_codestream
from shards.pixels.entropy import check_jpeg
from shards.pixels.tileparts import check_tile_parts
from shards.quarantine import Code, Quarantined

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
RLE = "1.2.840.10008.1.2.5"
JPEG = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)}  # baseline, extended, lossless
JPEG_LS = {f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)}
JPEG_2000 = {f"1.2.840.10008.1.2.4.{number}" for number in (90, 91)}
HIGH_THROUGHPUT = {f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)}  # JPEG 2000, part 15
SUPPORTED = NATIVE | {RLE} | JPEG | JPEG_LS | JPEG_2000 | HIGH_THROUGHPUT
LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203)}
MOST_BITS = 16
MOST_ALLOCATED = 64
OVERSHOOT = 1 / 16  # of the range, by which lossy coding may leave it


def check_syntax(syntax: "UID") -> None:
    """Refuse what no decoder here can read."""
    if syntax not in SUPPORTED:
        raise Quarantined(
            Code.UNSUPPORTED_TRANSFER_SYNTAX, syntax.name or "the header names no transfer syntax"
        )


def read_frame(dataset: "Dataset", syntax: "UID") -> tuple[bytes, Codestream]:
    """The one frame of an encapsulated image, and what it says of itself, in agreement with the header."""
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    try:
        stream = read_codestream(frame)
        if stream.complete and syntax in JPEG_2000 | HIGH_THROUGHPUT:
            check_tile_parts(frame)
    except BadCodestream as error:
        raise Quarantined(Code.CORRUPT, f"{syntax.name}: {error}") from None
    size, stated = (stream.width, stream.height), (int(dataset.Columns), int(dataset.Rows))
    if size != stated or stream.components != 1:
        raise Quarantined(
            Code.CORRUPT,
            f"{syntax.name}: {size[0]} x {size[1]} pixels of {stream.components} components are coded, "
            f"the header says {stated[0]} x {stated[1]} of 1",
        )
    if stream.bits > MOST_BITS:
        raise Quarantined(Code.UNSUPPORTED_PIXELS, f"{syntax.name}: {stream.bits} bits a pixel")
    return frame, stream


def decode_frame(dataset: "Dataset", syntax: "UID", frame: bytes, stream: Codestream) -> np.ndarray:
    """The stored values [rows, columns] of a frame that `read_frame` gave. Raises Quarantined."""
    import imagecodecs

    if not stream.complete and syntax in JPEG | JPEG_LS:  # they fill up with gray, or search for seconds
        raise Quarantined(Code.TRUNCATED, f"{syntax.name}: the frame breaks off")
    try:
        if syntax in JPEG:
            values = imagecodecs.jpeg8_decode(frame)
            check_jpeg(frame, stream, values)
        elif syntax in JPEG_LS:
            values = imagecodecs.jpegls_decode(frame)
        else:
            values = imagecodecs.jpeg2k_decode(_one_grid(frame, stream, syntax), numthreads=1)
    except (RuntimeError, BadCodestream) as error:
        code = Code.CORRUPT if stream.complete else Code.TRUNCATED
        raise Quarantined(code, f"{syntax.name}: {error}") from None
    return stored_values(values, stream, dataset, syntax in LOSSY)


def _one_grid(frame: bytes, stream: Codestream, syntax: "UID") -> bytes:
    """The frame without subsampling, which a single component may state, and the decoder refuses."""
    if stream.sampling == (1, 1):
        return frame
    plain = on_own_grid(frame, stream.sampling)
    if plain is None:
        raise Quarantined(Code.UNSUPPORTED_PIXELS, f"{syntax.name}: subsampled tiles begin between samples")
    return plain


def stored_values(values: np.ndarray, stream: Codestream, dataset: "Dataset", lossy: bool) -> np.ndarray:
    """Decoded values -> the bits that the header calls stored, with its sign (PS3.5, 8.1.1 and 8.2).

    The bits above are an overlay's. JPEG and JPEG-LS have unsigned samples, and some writers of JPEG 2000
    flag them wrongly: the bits are two's complement then.
    """
    signed = dataset.get("PixelRepresentation") == 1
    stored, low = stored_bits(dataset)
    if stream.bits <= low + stored - 1:  # the codestream holds the stored bits alone
        low = 0
    bits = min(stream.bits - low, stored)
    if signed == stream.signed and bits == stream.bits:
        return values
    if lossy and not low and signed == stream.signed and bits < stream.bits:
        return _clipped(values, bits, signed)
    return cut_bits(values, bits, low, signed)


def stored_bits(dataset: "Dataset") -> tuple[int, int]:
    """BitsStored, and the number of the lowest bit by HighBit: 0 unless there are bits below."""
    allocated = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or allocated)
    high = dataset.get("HighBit")
    end = stored if high is None else int(high) + 1
    if not 1 <= stored <= allocated <= MOST_ALLOCATED or not 1 <= end <= allocated:
        raise Quarantined(
            Code.CORRUPT,
            f"the header says that {stored} of {allocated} bits, up to bit {end - 1}, are stored",
        )
    return stored, max(0, end - stored)


def cut_bits(values: np.ndarray, bits: int, low: int, signed: bool) -> np.ndarray:
    """`bits` bits of each value, from bit `low` on, as int16 or uint16."""
    pattern = (values.astype(np.int32) >> low) & (2**bits - 1)
    if not signed:
        return pattern.astype(np.uint16)
    return (pattern - ((pattern >> (bits - 1)) << bits)).astype(np.int16)


def _clipped(values: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Lossy coding overshoots: cutting bits would turn white into black. An overlay can't be taken off it."""
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    beyond = max(int(values.max()) - most, least - int(values.min()))
    if beyond > OVERSHOOT * 2**bits:
        raise Quarantined(
            Code.UNSUPPORTED_PIXELS, f"bits above the {bits} stored are used, and lossy coding has mixed them"
        )
    return values if beyond <= 0 else values.clip(least, most)
