"""Decides what is said of a write that failed: the file, and on a full disk the bytes needed and free."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chexdist.errors import WorkError


@contextmanager
def naming(file: Path, needed: int, more: str = "") -> Iterator[None]:
    """What the body writes is `file`, of `needed` bytes; `more` is appended to the message.

    Raises:
        WorkError: in place of OSError.
    """
    try:
        yield
    except OSError as error:
        raise WorkError(f"{file}: {_reason(error, file, needed)}{more}") from None


def _reason(error: OSError, file: Path, needed: int) -> str:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error.strerror or str(error)
    folder = next(parent for parent in file.absolute().parents if parent.is_dir())
    disk = os.statvfs(folder)
    whose = "the quota" if error.errno == errno.EDQUOT else "the disk"
    return (
        f"{error.strerror}: {needed:,} bytes are needed, {disk.f_bavail * disk.f_frsize:,} are free in "
        f"{folder}; free some of {whose}, then the same command resumes"
    )
