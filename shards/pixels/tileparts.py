"""Whether a JPEG 2000 codestream adds up, which its decoder does not ask: it fills gaps without a warning.

ISO/IEC 15444-1: tile-parts follow one another to the end marker, each as long as it says (A.4.2, Psot), and
the quantization has a step size for each band of the decomposition (A.6.4).
"""

import struct

from shards.pixels.codestream import (
    COD,
    END,
    JPEG_2000_START,
    MOST_BEFORE_CODESTREAM,
    START_OF_TILE,
    BadCodestream,
)

QCD = 0x5C


def check_tile_parts(data: bytes) -> None:
    """Raises BadCodestream where lengths or numbers of bands contradict each other."""
    position = data.find(JPEG_2000_START, 0, MOST_BEFORE_CODESTREAM) + 2
    levels: int | None = None
    bands: int | None = None
    try:
        while data[position + 1] != START_OF_TILE:
            marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
            if marker == COD:
                levels = data[position + 9]
            elif marker == QCD:
                style = data[position + 4] & 0x1F
                bands = {0: length - 3, 2: (length - 3) // 2}.get(style)
            position += 2 + length
        if levels is not None and bands is not None and bands != 3 * levels + 1:
            raise BadCodestream(f"step sizes for {bands} bands, where {levels} levels have {3 * levels + 1}")
        while data[position : position + 2] == b"\xff\x90":
            length = struct.unpack_from(">I", data, position + 6)[0]
            if not length:  # the last, up to the end
                return
            position += length
    except (struct.error, IndexError):
        raise BadCodestream("it breaks off") from None
    if data[position : position + 2] not in (END, b"", b"\0"):
        raise BadCodestream("its tile-parts are not as long as they say")
