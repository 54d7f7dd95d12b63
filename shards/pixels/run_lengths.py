"""How a run-length coded frame becomes pixels, and when it is damaged (RLE Lossless: PS3.5, annex G).

pydicom only warns of a segment that holds too many bytes, and reads an order of segments that can't be.
"""

import struct
from typing import TYPE_CHECKING

import numpy as np

from shards.quarantine import Code, Quarantined

if TYPE_CHECKING:
    from pydicom import Dataset

HEADER = struct.Struct("<16I")  # the number of segments, and where each begins
NO_OPERATION = 128


def unpack_runs(dataset: "Dataset") -> None:
    """Replace a run-length coded frame by its pixels, little-endian; raises Quarantined."""
    from pydicom.encaps import get_frame
    from pydicom.uid import ExplicitVRLittleEndian

    pixels, width = int(dataset.Rows) * int(dataset.Columns), -(-int(dataset.BitsAllocated) // 8)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    planes = [_unpacked(segment, pixels) for segment in _segments(frame, width)]  # the highest byte first
    dataset.PixelData = np.stack(planes[::-1], axis=-1).tobytes()
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _segments(frame: bytes, width: int) -> list[bytes]:
    """A segment for each of the `width` bytes of a pixel."""
    if len(frame) < HEADER.size:
        raise Quarantined(Code.TRUNCATED, "RLE Lossless: the frame breaks off within its header")
    count, *offsets = HEADER.unpack_from(frame)
    ends = [*offsets[1:width], len(frame)]
    if (
        count != width
        or offsets[0] != HEADER.size
        or any(a >= b for a, b in zip(offsets, ends, strict=False))
    ):
        raise Quarantined(
            Code.CORRUPT,
            f"RLE Lossless: the header names {count} segments from byte {offsets[0]} on; pixels of {width} "
            f"bytes have {width}, one after the other from byte {HEADER.size} on",
        )
    return [frame[start:end] for start, end in zip(offsets, ends, strict=False)]


def _unpacked(segment: bytes, pixels: int) -> np.ndarray:
    """The `pixels` bytes of a segment, after which only zeros may follow, that make its length even."""
    plane, position = bytearray(), 0
    while len(plane) < pixels and position < len(segment):
        control = segment[position]
        position += 1
        if control < NO_OPERATION:
            plane += segment[position : position + control + 1]
            position += control + 1
        elif control > NO_OPERATION:
            plane += segment[position : position + 1] * (257 - control)
            position += 1
    if len(plane) != pixels or position > len(segment) or segment[position:].strip(b"\0"):
        left = max(0, len(segment) - position)
        raise Quarantined(
            Code.CORRUPT,
            f"RLE Lossless: a segment unpacks to {len(plane)} bytes with {left} left over, the header asks "
            f"for {pixels}",
        )
    return np.frombuffer(bytes(plane), np.uint8)
