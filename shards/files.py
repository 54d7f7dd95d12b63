"""Decides how a file or folder gets its final name: written under a temporary name, renamed once complete.

After a crash or on a full disk there is the old content or the new, never a part of it. The temporary name is
`.NAME.partial-PID` beside the final one, so that `.*.partial*` finds what a killed process left. Both
packages use this module; it knows nothing of either, and loads neither torch nor numpy.
"""

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_file(path: Path, content: bytes | str, *, flush: bool = False, mode: int = 0o666) -> None:
    """Replace `path` by a file of `content`, text as UTF-8, with the permissions `mode` less the umask.

    `flush`: once this returns, a power cut does not undo it.

    Raises:
        OSError: the folder can't be written or the disk is full; `path` is unchanged, no temporary is left.
    """
    exclusive = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # so that nobody's link or open file is written to
    with replacing(path, flush=flush) as temporary, open(os.open(temporary, exclusive, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError of the body that names no file, as that of a write to a full disk, gets this name."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """The temporary name under which the body writes a file; it replaces `path` unless the body raises.

    Its suffix is not that of `path`: a writer that chooses a format by the suffix must be given the format.
    """
    temporary = _temporary(path)
    with suppress(OSError):
        temporary.unlink()  # of a killed process that had the same id
    try:
        with named(path):
            yield temporary
        if flush:
            flush_to_disk(temporary)
        os.replace(temporary, path)
        if flush:
            flush_to_disk(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def appearing_folder(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """An empty folder for the body to fill; renamed to `path`, or removed if the body raises. What killed
    processes left of it is removed too.

    `flush`: once this ends, a power cut does not undo the renaming. The files in it are the body's to flush.

    Raises:
        OSError: the folder can't be made, or `path` exists and is not an empty folder.
    """
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        with locked(left) as unused:
            if unused:
                shutil.rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with locked(temporary):
            yield temporary
            os.rename(temporary, path)
        if flush:
            flush_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Whether no other process holds a folder that is there; the body holds it, if so. A killed process holds
    none, on whichever node it was. False on a file system without locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except OSError:
        held = False
    try:
        yield held
    finally:
        os.close(descriptor)


def clear_partial(folder: Path) -> None:
    """Remove the temporary files that killed processes left below a folder, which the caller has `locked`."""
    for left in folder.rglob(".*.partial-*"):
        left.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


def flush_to_disk(path: Path) -> None:
    """Have the system write a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
