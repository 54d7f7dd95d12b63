"""Lets one of the ranks of a start fetch the manifest; the others take it, or the reason why it can't be had,
from the cache directory that they share: so it is fetched once a node, or once where nodes share that.

What one rank has fetched is `SHA256-OF-THE-URL.manifest` there: a line that says for which start and when,
the content, and the ranks that have taken it. A rank that comes again is of another start, and fetches anew.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from typing import Any

from chexdist.data.cache import ShardCache, lock
from chexdist.data.remote import TRIES
from chexdist.distributed.world import World
from chexdist.errors import UserError, WorkError

FRESH = 60
"""Seconds after which what another rank has fetched is no longer taken."""
OF_A_START = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
)
"""Variables that are the same for all ranks of a start, and other ones for the next."""


def once(cache: ShardCache, timeout: int, fetch: Callable[[], bytes]) -> bytes:
    """What `fetch` returns, by this rank or by another of the same start; with one rank, by this one.

    Without a directory in which files can be locked, each rank fetches for itself.

    Args:
        timeout: seconds without a byte after which one of the tries of `fetch` has failed.

    Raises:
        UserError, WorkError: as `fetch` did, on all ranks.
    """
    world = World.detect()
    if world.size == 1:
        return fetch()
    start = hashlib.sha256(json.dumps([os.environ.get(name) for name in OF_A_START]).encode()).hexdigest()
    with ExitStack() as held:
        try:
            file = held.enter_context(_locked(cache, TRIES * timeout + FRESH))
            known = _Fetched.read(file)
        except OSError:
            return fetch()
        if known is None or not known.is_for(start, world.rank):
            known = _Fetched.by(fetch, start)
            known.write(file)
        with suppress(OSError):  # a full disk: then the next one fetches for itself
            file.seek(0, os.SEEK_END)
            file.write(f"{world.rank}\n".encode())
        return known.result()


class _Fetched:
    """What one rank has got from its fetch: the content, or the error's class and message."""

    def __init__(self, said: dict[str, Any], content: bytes, taken: list[int]) -> None:
        self.said, self.content, self.taken = said, content, taken

    @classmethod
    def by(cls, fetch: Callable[[], bytes], start: str) -> "_Fetched":
        error, content = "", b""
        try:
            content = fetch()
        except (UserError, WorkError) as failure:
            error, content = type(failure).__name__, str(failure).encode()
        digest = hashlib.sha256(content).hexdigest()
        said = {"start": start, "time": time.time(), "error": error, "bytes": len(content), "sha256": digest}
        return cls(said, content, [])

    @classmethod
    def read(cls, file: FileIO) -> "_Fetched | None":
        """None where nothing whole is there."""
        head, _, rest = file.readall().partition(b"\n")
        try:
            said = json.loads(head)
            content, taken = rest[: said["bytes"]], [int(rank) for rank in rest[said["bytes"] :].split()]
            whole = hashlib.sha256(content).hexdigest() == said["sha256"]
        except (ValueError, TypeError, KeyError):
            return None
        return cls(said, content, taken) if whole else None

    def is_for(self, start: str, rank: int) -> bool:
        fresh = abs(time.time() - self.said["time"]) < FRESH
        return fresh and self.said["start"] == start and rank not in self.taken

    def write(self, file: FileIO) -> None:
        try:
            file.truncate(0)
            file.seek(0)
            rest = memoryview(json.dumps(self.said).encode() + b"\n" + self.content)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):
                file.truncate(0)

    def result(self) -> bytes:
        if self.said["error"]:
            kind = UserError if self.said["error"] == UserError.__name__ else WorkError
            raise kind(self.content.decode())
        return self.content


@contextmanager
def _locked(cache: ShardCache, patience: float) -> Iterator[FileIO]:
    """Raises OSError where that can't be, or its holder keeps it too long."""
    cache.make_directory()
    path = cache.directory / f"{hashlib.sha256(str(cache.source).encode()).hexdigest()}.manifest"
    with FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
        if not lock(file.fileno(), patience):
            raise TimeoutError(path)
        yield file
