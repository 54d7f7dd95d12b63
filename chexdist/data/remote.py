"""Reads files of a remote shard directory through fsspec, with retries, and never more bytes than promised.

fsspec and aiohttp are imported when the first file is asked for. A URL of several steps (`a::b`) and one that
names this machine (`file://`) are refused; nothing here starts a shell.
"""

import multiprocessing
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from chexdist.config.address import without_secrets
from chexdist.errors import UserError, WorkError

TRIES = 6
FIRST_PAUSE = 0.5
"""Seconds before the second try, doubled for each after it; half to all of it, as all nodes fail at once."""
LEAST_RATE = 16 << 10
"""Bytes a second on average, below which a download counts as stalled."""
CHUNK_BYTES = 1 << 20
HTTP = ("http", "https")
RETRIED = (408, 425, 429)
"""HTTP 4xx that a retry can cure."""

T = TypeVar("T")


class TryFailed(Exception):
    """One try at fetching something failed; `permanent` when another one would fail too."""

    def __init__(self, reason: str, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


class Orphaned(WorkError):
    """The parent process has ended."""


class RemoteDirectory:
    """A shard directory behind a URL. May be used by forked processes: each connects for itself."""

    def __init__(self, url: str, timeout: int) -> None:
        """
        Args:
            timeout: seconds without a byte after which a try has failed.

        Raises:
            UserError: the URL is none, or of a kind that is not read.
        """
        self._parts, self._timeout = _split(url), timeout

    def __str__(self) -> str:
        return without_secrets(urlunsplit(self._parts)).rstrip("/")

    def chunks(self, name: str, most: int) -> Iterator[bytes]:
        """The bytes of a file as they arrive.

        Raises:
            TryFailed: it can't be opened, stalls, visibly breaks off, or has more
                than `most` bytes.
        """
        received = 0
        try:
            with self._open(name) as file:
                began = time.monotonic()
                while piece := file.read(CHUNK_BYTES):
                    check_parent()
                    received += len(piece)
                    if received > most:
                        raise TryFailed(f"it has more than {most:,} bytes")
                    yield piece
                    elapsed = time.monotonic() - began
                    if elapsed > self._timeout and received < LEAST_RATE * elapsed:
                        raise TryFailed(f"{received:,} bytes in {elapsed:.0f} s are too few")
        except (TryFailed, WorkError, UserError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever the filesystem's library raises
            raise _failure(error, self._timeout, received) from None

    def read(self, name: str, most: int) -> bytes:
        """A whole file, with several tries.

        Raises:
            UserError: the server has no such file, or refuses it.
            WorkError: no try succeeded.
        """

        def attempt() -> bytes:
            try:
                return b"".join(self.chunks(name, most))
            except TryFailed as failure:
                if failure.permanent:
                    raise UserError(f"data.shards {self}: {name}: {failure}") from None
                raise

        return retried(f"{self}/{name}", attempt)

    def _open(self, name: str) -> Any:
        path = f"{self._parts.path.rstrip('/')}/{name}"
        url = urlunsplit(self._parts._replace(path=path))
        filesystem = _filesystem(self._parts.scheme, self._timeout, os.getpid())
        if self._parts.scheme in HTTP:
            # without blocks it is one GET, without ranges; a size spares the HEAD before it
            return filesystem.open(url, "rb", block_size=0, size=1)
        return filesystem.open(url, "rb")


def retried(what: str, attempt: Callable[[], T]) -> T:
    """The value of `attempt`, retried after longer and longer pauses while it raises `TryFailed`.

    Raises:
        WorkError: the last try failed too; names what, how often, and the reason.
    """
    began = time.monotonic()
    for number in range(1, TRIES + 1):
        check_parent()
        try:
            return attempt()
        except TryFailed as failure:
            if failure.permanent or number == TRIES:
                seconds = time.monotonic() - began
                tries = f"{number} tries in {seconds:.0f} s, the last: " if number > 1 else ""
                raise WorkError(
                    f"{what}: {tries}{failure}; when that is cured, the same command resumes"
                ) from None
        time.sleep(pause(number))
    raise AssertionError


def pause(failures: int) -> float:
    """Seconds to wait after so many failed tries in a row."""
    return FIRST_PAUSE * 2 ** (failures - 1) * random.SystemRandom().uniform(0.5, 1)


def check_parent() -> None:
    """Raise in a process whose rank has ended.

    Raises:
        Orphaned: the process that started this one has ended.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise Orphaned("the process that this one reads for has ended")


def _split(url: str) -> Any:
    shown = without_secrets(url)
    try:
        parts = urlsplit(url)
        usable = bool(parts.netloc) and (parts.port or 1) > 0 and not re.search(r"\s", url)
    except ValueError:
        usable = False
    if not usable:
        raise UserError("data.shards is a URL that can't be read: write http://HOST[:PORT]/PATH")
    if "::" in url or parts.scheme in ("file", "local"):
        raise UserError(f"data.shards {shown}: give a directory, or one URL such as https://HOST/PATH")
    if parts.scheme not in HTTP:
        _filesystem(parts.scheme, 0, os.getpid())
    return parts._replace(fragment="")


@cache
def _filesystem(scheme: str, timeout: int, process: int) -> Any:
    """An fsspec filesystem of this process's own.

    None is ever dropped: a forked process that did so would wait for its parent's connections to close.
    """
    import fsspec

    options: dict[str, Any] = {}
    if scheme in HTTP:
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        options["client_kwargs"] = {"timeout": limits, "trust_env": True, "read_bufsize": CHUNK_BYTES}
        options["headers"] = {"Accept-Encoding": "identity"}
    try:
        return fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except (ValueError, ImportError) as error:
        raise UserError(f"data.shards {scheme}://: fsspec can't read this here: {error}") from None


def _failure(error: Exception, timeout: int, received: int) -> TryFailed:
    """What went wrong, in words that hold no URL's secrets."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError):
        return TryFailed("there is no such file", permanent=True)
    if isinstance(status, int):
        return TryFailed(f"HTTP {status}", permanent=400 <= status < 500 and status not in RETRIED)
    if isinstance(error, PermissionError):
        return TryFailed("may not be read", permanent=True)
    if isinstance(error, TimeoutError):
        return TryFailed(f"no byte for {timeout} s, after {received:,} bytes")
    text = without_secrets(" ".join(str(error).split()))[:200]
    return TryFailed(f"{type(error).__name__} after {received:,} bytes: {text}")
