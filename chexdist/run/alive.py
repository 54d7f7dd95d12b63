"""Decides whether a process still trains in a run directory: `status.json` can't say so of one that was
killed.
"""

import fcntl
import os
import struct
import time
from pathlib import Path

from chexdist.run import layout

SECONDS = 120
"""A heartbeat is written every few seconds; nodes' clocks may differ, and a file server may lag."""
FLOCK = "hhqqi4x"
"""struct flock of Linux on 64 bits: kind, origin, start, length, process."""


def is_alive(run: Path) -> bool:
    """Whether the lock is held, as far as this node can see, or a heartbeat is younger than `SECONDS`."""
    now = time.time()
    for beat in (run / layout.HEARTBEATS).glob("rank-*.json"):
        try:
            if now - beat.stat().st_mtime < SECONDS:
                return True
        except OSError:
            continue  # replaced at this moment
    return _is_locked(run / layout.LOCK)


def _is_locked(file: Path) -> bool:
    """By asking the kernel, without taking the lock: a job that starts now must not be refused."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return bool(struct.unpack(FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)
    except OSError:
        return True  # a file system that can't say: what the status says holds
    finally:
        os.close(descriptor)
