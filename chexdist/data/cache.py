"""Keeps remote shards on a node's disk: each fetched once and checked, by any number of processes.

A shard is `SHA256.tar` there, and is read only under that name. Whoever needs one that is not there fetches
it into `SHA256.partial` under a lock on that file; the others wait. The kernel drops the lock of a process
that is killed, and the next one starts that file anew, so nothing has to be cleaned up. The least recently
used shard is evicted first, so that all stay under a limit; a file that is open stays readable. Beside them
is `SHA256.json`, the manifest that names them, for commands that know its digest while the server is away.
"""

import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from chexdist.data.remote import Orphaned, RemoteDirectory, TryFailed, check_parent, retried
from chexdist.errors import WorkError
from shards.files import replace_file

POLL = 0.02
PATIENCE = 60
"""Seconds without progress of a process that others wait for; one that fetches has its time-outs besides."""
NOTE = b"could not be fetched: "
NOTE_BYTES = 4096


@dataclass(frozen=True)
class Shard:
    """A shard's file by its manifest: name, bytes, SHA-256 in hexadecimal."""

    name: str
    bytes: int
    sha256: str


class ShardCache:
    """A remote directory's shards in a local one, which it may share with the caches of other directories."""

    def __init__(self, source: RemoteDirectory, directory: str, limit: int, timeout: int) -> None:
        """
        Args:
            directory: where; empty means a private one below the system's directory for temporary files.
            limit: bytes that all files in it may have in sum.
            timeout: seconds that `source` waits for a byte.
        """
        self.source, self.limit = source, limit
        self._manifest = b""
        self._private = not directory
        self.directory = Path(directory or Path(tempfile.gettempdir()) / f"chexdist-{os.getuid()}")
        self._patience = PATIENCE + 2 * timeout
        self._ledger = os.memfd_create("fetched")  # shared by forked processes; a write adds to it as a whole

    def manifest(self, digest: str) -> bytes | None:
        """The content of the manifest with this SHA-256, None where it is not there whole."""
        try:
            content = (self.directory / f"{digest}.json").read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == digest else None

    def add_manifest(self, content: bytes) -> None:
        """Store it where the directory exists, else once the first shard makes it; a full disk is ignored."""
        self._manifest = content
        path = self.directory / f"{hashlib.sha256(content).hexdigest()}.json"
        if self.directory.is_dir() and not path.exists():
            with suppress(OSError):
                replace_file(path, content, mode=0o600)

    def fetched(self) -> int:
        """Bytes that this process, and those forked from it, have received so far."""
        content = os.pread(self._ledger, os.fstat(self._ledger).st_size, 0)
        return sum(memoryview(content[: len(content) // 8 * 8]).cast("q"))

    def holds(self, shard: Shard) -> bool:
        """Whether the shard is there, whole and checked."""
        return self.path(shard).exists()

    def open(self, shard: Shard) -> FileIO:
        """The shard's file; fetched first, with several tries, when it is not there.

        Raises:
            WorkError: it can't be had; names the shard, the reason and how often it was tried.
        """
        try:
            while True:
                file = self._cached(shard) or self._fetch_waiting(shard)
                if file is not None:
                    return file
        except OSError as error:
            raise WorkError(self._disk_error(error)) from None

    def fetch(self, shard: Shard, keep: Collection[Shard]) -> bool:
        """Fetch a shard ahead of its need, by one try. False: no space, or while another process fetches it.

        Args:
            keep: shards that are not evicted for this one.

        Raises:
            TryFailed: it could not be fetched.
        """
        try:
            with self._claim(shard, patience=0) as partial:
                if partial is None or not self._evict_for(shard, partial, keep):
                    return False
                self._download(shard, partial)
                return True
        except OSError as error:
            raise TryFailed(self._disk_error(error)) from None

    def touch(self, shards: Collection[Shard]) -> None:
        """Count these as used now."""
        for shard in shards:
            with suppress(OSError):
                os.utime(self.path(shard))

    def _name(self, shard: Shard) -> str:
        return f"shard {self.source}/{shard.name}"

    def path(self, shard: Shard) -> Path:
        """Where the shard is once it is there."""
        return self.directory / f"{shard.sha256}.tar"

    def _disk_error(self, error: OSError) -> str:
        return f"data.cache {self.directory}: {error.strerror or error}"

    def _cached(self, shard: Shard) -> FileIO | None:
        try:
            file = FileIO(self.path(shard), "r")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size == shard.bytes:
            with suppress(OSError):  # another user's
                os.utime(file.fileno())
            return file
        file.close()
        self.path(shard).unlink(missing_ok=True)
        return None

    def _fetch_waiting(self, shard: Shard) -> FileIO | None:
        """The fetched file; None when another process has fetched it, or has taken its name, in the
        meantime.
        """
        with self._claim(shard, self._patience) as partial:
            if partial is None:
                return None

            def attempt() -> FileIO | None:
                try:
                    self._wait_for_space(shard, partial)
                    self._download(shard, partial)
                except FileNotFoundError:  # a node that does not see this one's locks
                    return None
                except OSError as error:
                    raise TryFailed(self._disk_error(error)) from None
                os.lseek(partial.fileno(), 0, os.SEEK_SET)
                return FileIO(os.dup(partial.fileno()), "r")  # readable even if it is evicted at once

            try:
                return retried(self._name(shard), attempt)
            except Orphaned:
                raise
            except WorkError as error:  # those that wait need not repeat all tries
                with suppress(OSError):
                    os.pwrite(partial.fileno(), NOTE + str(error).encode()[: NOTE_BYTES - len(NOTE)], 0)
                raise

    @contextmanager
    def _claim(self, shard: Shard, patience: float) -> Iterator[FileIO | None]:
        """The locked file for this process to fill; None when the shard is cached, or (patience 0) locked.

        Raises:
            WorkError: the process that this one waited for could not fetch it, or makes no progress.
        """
        self.make_directory()
        path = self.path(shard).with_suffix(".partial")
        while not self.holds(shard):
            with FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as partial:
                alone = lock(partial.fileno(), 0)
                if not alone and not patience:
                    break
                if not alone:
                    if not lock(partial.fileno(), patience):
                        raise WorkError(
                            f"{self._name(shard)}: the process that fetches it into {path} has made no "
                            f"progress for {patience:.0f} s: end that one"
                        )
                    found = os.pread(partial.fileno(), NOTE_BYTES, 0)
                    if found.startswith(NOTE + self._name(shard).encode()):
                        raise WorkError(found.removeprefix(NOTE).decode(errors="replace"))
                if not _still_named(partial.fileno(), path):
                    continue
                if not self.holds(shard):  # nobody else can change that now
                    yield partial
                    return
                path.unlink()
        yield None

    def _download(self, shard: Shard, partial: FileIO) -> None:
        """One try. The file gets its final name only when every byte is what the manifest promises."""
        descriptor, received = partial.fileno(), 0
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            for piece in self.source.chunks(shard.name, shard.bytes):
                received += len(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            if received != shard.bytes:
                raise TryFailed(f"it ends after {received:,} of {shard.bytes:,} bytes")
            # what the file holds: where locks do not reach other nodes, one of these may write into it too
            os.lseek(descriptor, 0, os.SEEK_SET)
            if hashlib.file_digest(partial, "sha256").hexdigest() != shard.sha256:
                raise TryFailed("its SHA-256 is not the manifest's")
            os.fsync(descriptor)
            path = self.path(shard)
            with self._locked():  # an evicting process must see it under one of its names
                os.rename(path.with_suffix(".partial"), path)
        except BaseException:
            if _still_named(descriptor, self.path(shard).with_suffix(".partial")):
                os.ftruncate(descriptor, 0)
            raise
        finally:
            os.write(self._ledger, received.to_bytes(8, "little"))

    def _wait_for_space(self, shard: Shard, partial: FileIO) -> None:
        """Other processes' downloads may have to end before there is space."""
        since = time.monotonic()
        while not self._evict_for(shard, partial, ()):
            if shard.bytes > self.limit:
                raise TryFailed(
                    f"its {shard.bytes:,} bytes are more than data.cache_gib allows", permanent=True
                )
            if time.monotonic() - since > self._patience:
                raise TryFailed(f"no room in data.cache {self.directory}: raise data.cache_gib")
            check_parent()
            os.utime(partial.fileno())
            time.sleep(POLL)

    def _evict_for(self, shard: Shard, partial: FileIO, keep: Collection[Shard]) -> bool:
        """Give a file its final size, after evicting the least recently used: the limit always holds."""
        kept = {self.path(each).name for each in keep}
        with self._locked():
            files = sorted(self._files(), key=lambda entry: entry[1].st_mtime_ns)
            mine = os.fstat(partial.fileno())
            excess = sum(found.st_size for _, found in files) - mine.st_size + shard.bytes - self.limit
            for path, found in files:
                if excess > 0 and found.st_ino != mine.st_ino and path.name not in kept and _remove(path):
                    excess -= found.st_size
            if excess <= 0:
                os.ftruncate(partial.fileno(), shard.bytes)
        return excess <= 0

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Files of caches; any others in the directory are left alone."""
        for path in self.directory.iterdir():
            if re.fullmatch(r"[0-9a-f]{64}\.(tar|partial)", path.name):
                with suppress(FileNotFoundError):
                    yield path, path.stat(follow_symlinks=False)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.directory / "lock"
        with FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
            if not lock(file.fileno(), PATIENCE):
                raise TryFailed(f"another process has held {path} for {PATIENCE} s: end that one")
            yield

    def make_directory(self) -> None:
        """Raises WorkError where it is another user's, OSError where it can't be made."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._private:
            found = self.directory.lstat()
            if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
                raise WorkError(
                    f"{self.directory} is another user's: set data.cache to a directory of your own"
                )
        if self._manifest:
            self.add_manifest(self._manifest)


def lock(descriptor: int, patience: float) -> bool:
    """Lock a file; False when its holder has not changed it for `patience` seconds."""
    sign, since = -1, time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not patience:
                return False
        seen = os.fstat(descriptor).st_mtime_ns
        if seen != sign:
            sign, since = seen, time.monotonic()
        if time.monotonic() - since > patience:
            return False
        check_parent()
        time.sleep(POLL)


def _still_named(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name: its last holder may have renamed or removed it."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), found)


def _remove(path: Path) -> bool:
    """Remove a shard, or what a killed process left of one; False for one that is being fetched."""
    with suppress(FileNotFoundError):
        if path.suffix == ".partial":
            with FileIO(path, "r+") as file:
                if not lock(file.fileno(), 0):
                    return False
                if _still_named(file.fileno(), path):
                    path.unlink()
        else:
            path.unlink()
    return True
