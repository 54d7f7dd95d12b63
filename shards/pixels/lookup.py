"""Lookup tables as they are found: a descriptor and entries that need not agree.

PS3.3 C.11.1.1 and C.11.2.1.1: the descriptor holds the number of entries, the first value that is mapped and
the bits of an entry. Writers get two of them wrong: the sign of the first value, since one VR serves the
number of entries and a value that may be negative, and the bits, where a table of 12 bits says 16.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from shards.quarantine import Code, Quarantined

if TYPE_CHECKING:
    from pydicom import Dataset

FEWEST_BITS, MOST_BITS = 8, 16


def look_up(values: np.ndarray, item: Any, dataset: "Dataset") -> tuple[np.ndarray, int]:
    """A LUT item applied to `values`, and the depth of its entries in bits. Raises Quarantined."""
    number, first, bits = (int(element) for element in item.LUTDescriptor)
    entries = number & 0xFFFF or 2**16
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise Quarantined(Code.UNSUPPORTED_PIXELS, f"a lookup table of {bits} bits")
    table = _table(item.LUTData, entries, bits, big_endian=dataset.original_encoding[1] is False)
    positions = np.rint(values).astype(np.int64)
    positions -= _first_mapped(first, entries, positions)
    return table[np.clip(positions, 0, entries - 1)], _depth(table, bits)


def _table(data: Any, entries: int, bits: int, big_endian: bool) -> np.ndarray:
    """The entries as integers; of 8 bits they may be packed two in a word."""
    order = ">" if big_endian else "<"
    if isinstance(data, bytes):
        table = np.frombuffer(data, np.uint8 if len(data) in (entries, entries + 1) else f"{order}u2")
    else:  # a wrong VR makes entries from 32768 negative
        table = (np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF).astype(f"{order}u2")
    if bits <= 8 and table.size == (entries + 1) // 2 and entries > 1:
        table = table.view(np.uint8)
    if not entries <= table.size <= entries + 1:  # an odd one is padded
        raise Quarantined(
            Code.CORRUPT, f"a lookup table of {table.size} entries, its descriptor says {entries}"
        )
    return table[:entries]


def _first_mapped(first: int, entries: int, positions: np.ndarray) -> int:
    """The first value mapped: as written, or with the other sign of 16 bits where more pixels are mapped."""
    if 0 <= first < 2**15:
        return first
    other = first - 2**16 if first > 0 else first + 2**16
    within = [np.count_nonzero((positions >= low) & (positions < low + entries)) for low in (first, other)]
    return other if within[1] > within[0] else first


def _depth(table: np.ndarray, bits: int) -> int:
    """The bits that the entries have: those stated, unless they end at 2**n - 1 or far below.

    Raises Quarantined for entries beyond the stated bits that end at no 2**n - 1: white can't be known.
    """
    peak = int(table.max())
    own = max(peak.bit_length(), FEWEST_BITS)
    if peak == 2**own - 1 or own <= bits - 2:
        return own
    if own > bits:
        raise Quarantined(
            Code.CORRUPT, f"a lookup table with entries up to {peak}, its descriptor says {bits} bits"
        )
    return bits
