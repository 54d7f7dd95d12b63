"""What is refused before anything is decoded: files and sizes that would exhaust memory or hang."""

import os
import stat
from io import BufferedReader

from shards.quarantine import Code, Quarantined

MAX_PIXELS = 64 * 1024 * 1024  # twice the largest detectors; bounds the memory of a worker at about 2 GB
MAX_FILE_BYTES = 512 * 1024 * 1024
MIN_SIDE = 16


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


def check_shape(height: int, width: int) -> None:
    """Refuse sizes that would exhaust memory or that can't be an X-ray."""
    if min(height, width) < MIN_SIDE:
        raise Quarantined(Code.TOO_SMALL, f"{width} x {height} pixels; the shorter side needs {MIN_SIDE}")
    if height * width > MAX_PIXELS:
        raise Quarantined(Code.TOO_LARGE, f"{width} x {height} pixels; the limit is {MAX_PIXELS} in all")
