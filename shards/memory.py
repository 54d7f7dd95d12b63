"""How much main memory there is, and whether a build's workers fit into it."""

import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from heapq import nlargest
from pathlib import Path

from shards.errors import UserError
from shards.free_memory import free_memory
from shards.limits import MAX_PIXELS
from shards.sources.listing import RASTER_SUFFIXES, Source

MB = 10**6
PARENT, A_FILE = 80 * MB, 2000
WORKER, A_PIXEL, A_COLOURED_PIXEL = 100 * MB, 14, 28
"""Bytes, above what was measured with each transfer syntax, PNG and JPEG."""
LOOKED_AT = 16  # of the largest files of each kind


def memory_there() -> int | None:
    """Bytes that this process holds and that it and its children can still get; None where the kernel doesn't
    say.
    """
    free = free_memory()
    return None if free is None else free + _own_memory()


def check_memory(images: Sequence[Source], workers: int, there: int | None) -> None:
    """Refuse more workers than memory is there for; says so where it may not suffice for one.

    `there`: by `memory_there`, before workers have begun.

    Raises:
        UserError: with the need, and the number of workers that there is memory for.
    """
    if there is None:
        return
    picture = max_picture(images)

    def fits(count: int) -> bool:
        return need(len(images), count, picture) <= there

    if fits(workers):
        return
    needed = need(len(images), workers, picture)
    found = (
        f"memory: {needed // MB} MB may be needed with --workers {workers}, of each {picture // MB} MB for "
        f"the largest picture; {there // MB} MB are there"
    )
    if workers == 1:
        print(f"{found}: pictures that don't fit will be set aside as crashed", file=sys.stderr)
        return
    most = next(count for count in range(workers - 1, 0, -1) if count == 1 or fits(count))
    raise UserError(f"{found}: give --workers {most} or more memory; what was done before is kept")


def need(files: int, workers: int, picture: int) -> int:
    """Bytes that a build needs; `picture`: what the largest picture takes of a worker."""
    return PARENT + A_FILE * files + workers * (WORKER + picture)


def max_picture(images: Sequence[Source]) -> int:
    """Bytes that the largest picture takes of a worker, of the largest files of each kind."""
    by_kind: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for image in images:
        try:
            size = os.stat(image.path).st_size
        except OSError:  # the scan reports why
            continue
        by_kind[os.path.splitext(image.path)[1].lower()].append((size, image.path))
    largest = (path for files in by_kind.values() for _, path in nlargest(LOOKED_AT, files))
    return max(map(_picture, largest), default=0)


def _picture(path: str) -> int:
    """Bytes that one picture takes, by its header; 0 for one that can't be read or is refused."""
    try:
        if os.path.splitext(path)[1].lower() in RASTER_SUFFIXES:
            from PIL import Image

            with Image.open(path, formats=["PNG", "JPEG"]) as image:
                pixels, gray = image.width * image.height, len(image.getbands()) == 1
        else:
            from pydicom import dcmread

            header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            pixels, gray = int(header.Rows) * int(header.Columns), True
    except Exception:  # noqa: BLE001  the scan tells what is wrong with it
        return 0
    return pixels * (A_PIXEL if gray else A_COLOURED_PIXEL) if pixels <= MAX_PIXELS else 0


def _own_memory() -> int:
    """Bytes that this process holds already."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found.group(1)) << 10 if found else 0
