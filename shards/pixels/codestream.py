"""What a compressed frame says of its picture, read from its markers before anything is decoded.

JPEG and JPEG-LS: ISO/IEC 10918-1, B.2.2, and 14495-1, C.2.2 (start of frame). JPEG 2000: ISO/IEC 15444-1,
A.5.1 (SIZ) and A.6.1 (COD). DICOM puts bare codestreams into fragments; a JP2 box around one is skipped.
"""

import struct
from dataclasses import dataclass

JPEG_START = b"\xff\xd8"
JPEG_2000_START = b"\xff\x4f\xff\x51"
END = b"\xff\xd9"  # of all of them
NO_START_OF_FRAME = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
JPEG_LS_FRAME = 0xF7
LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
COD, COC, START_OF_TILE = 0x52, 0x53, 0x90
MOST_BEFORE_CODESTREAM = 65536  # bytes of JP2 boxes


class BadCodestream(ValueError):
    """The markers are not those of a codestream, or break off."""


@dataclass(frozen=True)
class Codestream:
    """The picture in a codestream; `levels` by which it can be decoded smaller, 0 unless in one tile."""

    height: int
    width: int
    components: int
    bits: int
    signed: bool = False
    complete: bool = True  # has an end marker
    levels: int = 0
    reversible: bool = True  # JPEG 2000's 5/3 wavelet, not 9/7
    sampling: tuple[int, int] = (1, 1)  # of JPEG 2000: columns and rows of the reference grid for a sample
    process: int = 0  # the marker that starts the frame, of JPEG and JPEG-LS


def read_codestream(data: bytes) -> Codestream:
    """Read the markers; raises BadCodestream."""
    try:
        if data.startswith(JPEG_START):
            return _jpeg(data)
        start = data.find(JPEG_2000_START, 0, MOST_BEFORE_CODESTREAM)
        if start >= 0:
            return _jpeg_2000(data, start)
    except (struct.error, IndexError):
        raise BadCodestream("it breaks off within its header") from None
    raise BadCodestream("it starts with no known marker")


def _jpeg(data: bytes) -> Codestream:
    position = 2
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in NO_START_OF_FRAME):
            bits, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            complete = data.find(END, position) >= 0
            return Codestream(height, width, components, bits, complete=complete, process=marker)
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise BadCodestream("a marker is missing before the start of the frame")


def _jpeg_2000(data: bytes, position: int) -> Codestream:
    right, bottom, left, top = struct.unpack_from(">IIII", data, position + 8)
    tile_width, tile_height, tile_left, tile_top = struct.unpack_from(">IIII", data, position + 24)
    components, depth, *sampling = struct.unpack_from(">HBBB", data, position + 40)
    if not all(sampling):
        raise BadCodestream("a component without samples")
    plain = not (left or top or tile_left or tile_top) and sampling == [1, 1]
    plain &= tile_width >= right and tile_height >= bottom
    levels, reversible = 0, True
    position += 4 + struct.unpack_from(">H", data, position + 4)[0]
    while data[position + 1] != START_OF_TILE:
        if data[position + 1] == COD:
            levels, reversible = data[position + 9], data[position + 13] == 1
        plain &= data[position + 1] != COC
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return Codestream(
        height=-(-bottom // sampling[1]) - -(-top // sampling[1]),
        width=-(-right // sampling[0]) - -(-left // sampling[0]),
        components=components,
        bits=(depth & 0x7F) + 1,
        signed=depth >= 0x80,
        complete=data.find(END, max(position, len(data) - 16)) >= 0,
        levels=levels if plain else 0,
        reversible=reversible,
        sampling=(sampling[0], sampling[1]),
    )


def on_own_grid(data: bytes, sampling: tuple[int, int]) -> bytes | None:
    """A JPEG 2000 codestream of one subsampled component, bare and with that component as reference grid.

    A component's samples, bands and blocks depend on its own coordinates alone (B.2 to B.7), so dividing the
    grid's (A.5.1) changes none. None when tiles would begin between samples.
    """
    start = data.find(JPEG_2000_START, 0, MOST_BEFORE_CODESTREAM)
    grid = struct.unpack_from(">8I", data, start + 8)  # the ends, starts, tile sizes, tile starts; x then y
    divided = list(grid)
    for axis, step in enumerate(sampling):
        end, begin, tile, tile_begin = grid[axis::2]
        new_end, new_begin, new_tile_begin = (-(-value // step) for value in (end, begin, tile_begin))
        if tile_begin + tile >= end:  # one tile
            new_tile = max(1, new_end - new_tile_begin)
        elif tile % step or tile_begin % step:
            return None
        else:
            new_tile = tile // step
        divided[axis::2] = new_end, new_begin, new_tile, new_tile_begin
    return (
        data[start : start + 8]
        + struct.pack(">8I", *divided)
        + data[start + 40 : start + 43]
        + b"\1\1"
        + data[start + 45 :]
    )
