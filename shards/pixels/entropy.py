"""Whether a JPEG's entropy-coded data is what its picture needs: damage of which decoders say nothing.

libjpeg only warns of bad Huffman codes, bytes missing or left over, and fills up with gray (its jdhuff.c).
ISO/IEC 10918-1: of 8 bits, libjpeg itself is made to stop at its warnings; of lossless JPEG (annex H), the
code lengths of the picture that came out must add up to the bytes that went in; of 12 bits, the blocks
(F.2.2) are gone through.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from shards.pixels.codestream import END, JPEG_LS_FRAME, LOSSLESS, BadCodestream, Codestream

HUFFMAN_SEQUENTIAL = (0xC0, 0xC1)
START_OF_SCAN, HUFFMAN_TABLES, RESTART_INTERVAL, END_OF_IMAGE = 0xDA, 0xC4, 0xDD, 0xD9
FIRST_RESTART, LAST_RESTART = 0xD0, 0xD7
SCAN = bytes([0xFF, START_OF_SCAN])
FILLED = re.compile(rb"\xff\xff+\x00")  # B.1.1.2: fill bytes precede a marker
MARKER = re.compile(rb"\xff+([\x01-\xfe])")
ROWS_AT_ONCE = 256  # bounds the memory
MOST_BITS = 16  # of a Huffman code
LARGEST_DIFFERENCE = 32767  # of lossless JPEG, modulo 2**16
CATEGORIES = np.array([number.bit_length() for number in range(LARGEST_DIFFERENCE + 2)], np.uint8)


@dataclass
class _Scan:
    """The only scan of a frame: its Huffman tables by class and number, its parameters and its intervals."""

    tables: dict[int, dict[tuple[int, int], int]] = field(default_factory=dict)  # (length, code) -> symbol
    restart: int = 0
    dc: int = 0
    ac: int = 0
    start: int = 0  # lossless: the predictor
    shift: int = 0
    intervals: list[bytes] = field(default_factory=list)  # without stuffing


def check_jpeg(data: bytes, stream: Codestream, values: np.ndarray | None = None) -> None:
    """Raise BadCodestream for a damaged JPEG; `values` [height, width] are what it was decoded to.

    JPEG-LS is left to its decoder, and so is a progressive JPEG of 12 bits.
    """
    try:
        if stream.process in LOSSLESS:
            if values is not None and values.ndim == 2:
                _check_lossless(_read_scan(data), stream.bits, values)
        elif stream.bits == 8 and stream.process != JPEG_LS_FRAME:
            check_8_bits(data)
        elif stream.process in HUFFMAN_SEQUENTIAL and stream.components == 1:
            _check_sequential(_read_scan(data), stream)
    except (struct.error, IndexError, KeyError):
        raise BadCodestream("a table or parameter is missing") from None


def check_8_bits(data: bytes) -> None:
    """Raise BadCodestream with libjpeg's warning about a JPEG of 8 bits."""
    import simplejpeg

    start = data.rfind(SCAN)
    if FILLED.search(data, start, max(start, data.find(END, start))):
        raise BadCodestream("fill bytes within the scan, which decoders read in several ways")
    try:  # the smallest picture: all is read, little is computed
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        raise BadCodestream(str(error)) from None


def _read_scan(data: bytes) -> _Scan:
    """The tables and the entropy-coded intervals of a JPEG with one scan of one component."""
    scan, position = _Scan(), 2
    while True:
        while data[position + 1] == 0xFF:
            position += 1
        if data[position] != 0xFF:
            raise BadCodestream("a marker is missing before the scan")
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        segment = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == HUFFMAN_TABLES:
            _read_tables(segment, scan)
        elif marker == RESTART_INTERVAL:
            scan.restart = struct.unpack(">H", segment)[0]
        elif marker == START_OF_SCAN:
            break
    if segment[0] != 1:
        raise BadCodestream(f"a scan of {segment[0]} components")
    scan.dc, scan.ac = segment[2] >> 4, segment[2] & 15
    scan.start, scan.shift = segment[3], segment[5] & 15
    scan.intervals = list(_intervals(data, position))
    return scan


def _read_tables(segment: bytes, scan: _Scan) -> None:
    """Huffman tables (C.2): codes of each length count up."""
    position = 0
    while position < len(segment):
        counts = segment[position + 1 : position + 17]
        table: dict[tuple[int, int], int] = {}
        code, symbol = 0, position + 17
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                table[length, code] = segment[symbol]
                code, symbol = code + 1, symbol + 1
            code <<= 1
        scan.tables[segment[position]] = table
        position = symbol


def _intervals(data: bytes, position: int) -> Iterator[bytes]:
    """The bytes between the restart markers, which must count up, as far as the end marker."""
    expected = 0
    for found in MARKER.finditer(data, position):
        yield data[position : found.start()].replace(b"\xff\x00", b"\xff")
        marker, position = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            return
        if marker != FIRST_RESTART + expected:
            raise BadCodestream(f"the marker {marker:02X} within the scan")
        expected = (expected + 1) % (LAST_RESTART - FIRST_RESTART + 1)
    raise BadCodestream("no end marker")


def _check_lossless(scan: _Scan, bits: int, values: np.ndarray) -> None:
    """Compare the bytes of each interval with the code lengths of the differences that it must hold."""
    height, width = values.shape
    if int(values.max()) >= 2**bits:  # differences add up modulo 2**16 (H.1.2.1)
        raise BadCodestream(f"a value of {values.max()} in a picture of {bits} bits")
    if scan.restart % width:
        raise BadCodestream(f"a restart interval of {scan.restart} in rows of {width}")
    rows = scan.restart // width or height
    if len(scan.intervals) != -(-height // rows):
        raise BadCodestream(f"{len(scan.intervals)} restart intervals, {-(-height // rows)} needed")
    lengths = np.zeros(MOST_BITS + 1, np.int64)
    for (length, _), category in scan.tables[scan.dc].items():
        lengths[category] = length + (category if category < MOST_BITS else 0)
    for number, interval in enumerate(scan.intervals):
        block = values[number * rows : (number + 1) * rows]
        counts = sum(
            _category_counts(block, start, bits, scan) for start in range(0, len(block), ROWS_AT_ONCE)
        )
        if np.any((counts > 0) & (lengths == 0)):
            raise BadCodestream("a Huffman code that is in no table")
        _compare(int(counts @ lengths), interval)


def _category_counts(block: np.ndarray, start: int, bits: int, scan: _Scan) -> np.ndarray:
    """How many differences of each category (H.1.2.2) ROWS_AT_ONCE rows from `start` on have."""
    x = block[max(0, start - 1) : start + ROWS_AT_ONCE].astype(np.int32) >> scan.shift
    left, above, corner = x[1:, :-1], x[:-1, 1:], x[:-1, :-1]
    predicted = np.empty_like(x)
    predicted[0, 0] = 1 << (bits - scan.shift - 1)
    predicted[0, 1:] = x[0, :-1]
    predicted[1:, 0] = x[:-1, 0]
    predicted[1:, 1:] = {
        1: lambda: left,
        2: lambda: above,
        3: lambda: corner,
        4: lambda: left + above - corner,
        5: lambda: left + ((above - corner) >> 1),
        6: lambda: above + ((left - corner) >> 1),
        7: lambda: (left + above) >> 1,
    }[scan.start]()
    difference = ((x - predicted + LARGEST_DIFFERENCE) & 0xFFFF) - LARGEST_DIFFERENCE
    categories = CATEGORIES[np.abs(difference[min(start, 1) :])]
    return np.bincount(categories.ravel(), minlength=MOST_BITS + 1)


def _compare(bits: int, interval: bytes) -> None:
    """Refuse an interval of another length, as libjpeg warns of bytes missing or left over."""
    needed = -(-bits // 8)
    if needed != len(interval):
        raise BadCodestream(f"{len(interval)} bytes of picture, {needed} needed")


def _check_sequential(scan: _Scan, stream: Codestream) -> None:
    """Go through the Huffman codes of all blocks (F.2.2.1, F.2.2.2)."""
    blocks = -(-stream.height // 8) * -(-stream.width // 8)
    each = scan.restart or blocks
    if len(scan.intervals) != -(-blocks // each):
        raise BadCodestream(f"{len(scan.intervals)} restart intervals, {-(-blocks // each)} needed")
    dc, ac = _prefixes(scan.tables[scan.dc]), _prefixes(scan.tables[0x10 | scan.ac])
    for number, interval in enumerate(scan.intervals):
        _compare(_bits_of_blocks(interval, min(each, blocks - number * each), dc, ac), interval)


def _prefixes(table: dict[tuple[int, int], int]) -> list[tuple[int, int]]:
    """(length, symbol) for each 16 bits that may come; (0, 0) where no code begins like that."""
    prefixes = [(0, 0)] * 2**MOST_BITS
    for (length, code), symbol in table.items():
        spread = 2 ** (MOST_BITS - length)
        if (code + 1) * spread > len(prefixes):
            raise BadCodestream("a Huffman table with too many codes")
        prefixes[code * spread : (code + 1) * spread] = [(length, symbol)] * spread
    return prefixes


def _bits_of_blocks(
    interval: bytes, blocks: int, dc: list[tuple[int, int]], ac: list[tuple[int, int]]
) -> int:
    """How many bits of an interval its blocks take up."""
    padded, end = interval + bytes(4), 8 * len(interval)
    position = 0
    for _ in range(blocks):
        coefficient = 0
        while coefficient < 64:
            byte = position >> 3
            ahead = int.from_bytes(padded[byte : byte + 3])
            length, symbol = (ac if coefficient else dc)[ahead >> (8 - (position & 7)) & 0xFFFF]
            if not length:
                raise BadCodestream("a Huffman code that is in no table")
            run, size = (symbol >> 4, symbol & 15) if coefficient else (0, symbol)
            position += length + size
            if position > end:
                raise BadCodestream("the picture breaks off")
            if coefficient and not size and run < 15:  # end of block
                break
            coefficient += run + 1
            if coefficient > 64:
                raise BadCodestream("a block of more than 64 coefficients")
    return position
