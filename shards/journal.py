"""What a build has found so far, on disk: a record for each scanned image, and the shards that are written.

The folder `DIR.work` beside DIR holds it until DIR has its name, so that a build that was killed, starved or
stopped resumes: nothing is scanned twice. It names files and patients, so its mode is 0700, and it is removed
at the end. Each worker appends to a file of its own; a record carries its length and CRC-32, and what a kill
cut off is left out.

A record is taken for a file only if that has the same name, size, times and inode, and the same release and
options scanned it. A file with other times, or changed within GRACE seconds before its scan (clocks of file
systems are coarse), is compared by its SHA-256. What the system refused to read, and what crashed, is tried
again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from shards import __version__
from shards.errors import UserError
from shards.files import named, replace_file
from shards.quarantine import Code, Entry
from shards.sources.listing import Source

HEAD = struct.Struct("<4sIIII")  # magic, CRC-32 of the rest, and the lengths of its three parts
MAGIC = b"CXS1"
SUFFIX = ".scanned"
GRACE = 2.0
TRIED_AGAIN = (Code.UNREADABLE, Code.CRASHED)
LIBRARIES = ("numpy", "pillow", "pydicom", "imagecodecs", "simplejpeg")


@dataclass(frozen=True, slots=True)
class Spooled:
    """Where a record is: `size` bytes at `offset` of `file`, in the folder of the scan."""

    file: str
    offset: int
    size: int


@contextlib.contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """`DIR.work`, made if need be and locked. The body removes it; UserError where another build holds it."""
    folder = Path(f"{out}.work")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another build is making {out}, or appends to it: wait for it, or choose another --out"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield folder
    with contextlib.suppress(OSError):
        folder.rmdir()  # if nothing is in it


def scan_folder(work: Path, options: Any) -> Path:
    """The folder in `work` for scans of these options (a dataclass) by this release; made if need be."""
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    said = json.dumps([__version__, _code_digest(), libraries, asdict(options)], sort_keys=True)
    folder = work / f"scan-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    return folder


def _code_digest() -> str:
    """Of the modules that decide what a scan finds."""
    here = Path(__file__).parent
    files = sorted([here / "scan.py", *here.glob("pixels/*.py"), *here.glob("copies/*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class Finished:
    """A note in the work folder of which request (a digest) the directory `out` is the answer to.

    It is there from before the directory gets its name, so that a kill at that moment loses nothing, and
    stays where the exit code was 1: the same command with another allowance then has only to report.
    """

    def __init__(self, work: Path, out: Path, request: str) -> None:
        self._work, self._out, self._request = work, out, request
        self._note = work / "finished.json"

    def is_done(self) -> bool:
        """Whether `out` is the answer to the request."""
        try:
            return bool(json.loads(self._note.read_bytes()) == [self._request, _manifest_digest(self._out)])
        except (OSError, ValueError):
            return False

    def note(self, folder: Path) -> None:
        """The answer is `folder`, which is about to get its name."""
        replace_file(self._note, json.dumps([self._request, _manifest_digest(folder)]), flush=True)

    def clear(self, keep: bool) -> None:
        """Remove the work folder; `keep` the note."""
        for path in self._work.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        if not keep:
            self._note.unlink(missing_ok=True)
            (self._work / "lock").unlink(missing_ok=True)


def _manifest_digest(folder: Path) -> str:
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def stamp(path: str) -> list[int]:
    """What changes when a file does: size, times of change in ns, inode. Raises OSError."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


class Writer:
    """Appends records to a file that nobody else has."""

    def __init__(self, folder: Path) -> None:
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._path = folder / self._name
        self._file = open(self._path, "xb", buffering=0)  # noqa: SIM115
        os.chmod(self._file.fileno(), 0o600)

    def append(self, about: dict[str, Any], fingerprint: bytes, png: bytes) -> Spooled:
        """Raises OSError when the disk is full; the record is then none."""
        parts = (json.dumps(about).encode(), fingerprint, png)
        body = b"".join(parts)
        record = HEAD.pack(MAGIC, zlib.crc32(body), *map(len, parts)) + body
        offset = self._file.tell()
        left = memoryview(record)
        with named(self._path):
            while left:
                left = left[self._file.write(left) :]
        return Spooled(self._name, offset, len(record))


def read_record(folder: Path, spooled: Spooled) -> tuple[dict[str, Any], bytes, bytes]:
    """What was found, fingerprint and PNG. Raises OSError when the record is not whole."""
    with open(folder / spooled.file, "rb") as file:
        file.seek(spooled.offset)
        record = _next(file)
    if record is None:
        raise OSError(f"{folder / spooled.file} was cut off while building")
    return record[0]


def records(folder: Path) -> Iterator[tuple[Spooled, dict[str, Any]]]:
    """Where each whole record of a scan's folder is, and what was found."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with open(path, "rb") as file:
            offset = 0
            while record := _next(file):
                (found, _, _), size = record
                yield Spooled(path.name, offset, size), found
                offset += size


def _next(file: BinaryIO) -> tuple[tuple[dict[str, Any], bytes, bytes], int] | None:
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    magic, crc, *lengths = HEAD.unpack(head)
    if magic != MAGIC:
        return None
    body = file.read(sum(lengths))
    if len(body) < sum(lengths) or zlib.crc32(body) != crc:
        return None
    first, second = lengths[0], lengths[0] + lengths[1]
    return (json.loads(body[:first]), body[first:second], body[second:]), HEAD.size + len(body)


def about(source: Source, stamped: list[int], **found: Any) -> dict[str, Any]:
    """A record's first part: the file it is about, and what was found. An empty stamp: it was changing."""
    return {"source": [source.number, source.name], "stamp": stamped, "at": time.time(), **found}


def still_true(source: Source, record: dict[str, Any]) -> bool:
    """Whether a record saves the scan of the file as it is now."""
    if record.get("code") in TRIED_AGAIN:
        return False
    try:
        now = stamp(source.path)
    except OSError:
        return False
    if now == record["stamp"] and now[2] / 1e9 + GRACE < record["at"]:
        return True
    if "content" not in record or now[:1] != record["stamp"][:1]:
        return False
    with contextlib.suppress(OSError), open(source.path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == record["content"]
    return False


def entry_of(record: dict[str, Any]) -> Entry | None:
    """The line of the quarantine list that a record stands for, if it does."""
    if "code" not in record:
        return None
    number, name = record["source"]
    return Entry(number, name, Code(record["code"]), record["detail"])
