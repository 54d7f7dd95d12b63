"""How a set gets behind a URL: built in a folder here, its shards uploaded and read back, its manifest last.

Every file system that fsspec knows and can write will do; a URL's scheme names it. A set is complete there
once its manifest is, as in a folder. Keys and quarantine lists name patients, and stay on this machine.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shards import manifest
from shards.errors import UserError, WorkError

READ_ONLY = ("http", "https")
Publish = Callable[[Path, int], None]
"""What is done with a finished directory whose build has this exit code."""


class Remote:
    """A shard directory behind a URL."""

    def __init__(self, url: str) -> None:
        """Raises UserError where it can't be written: what its URL is, or what package is missing."""
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise UserError("--out is a URL with a name or password: give these in the environment instead")
        if "::" in url or not parts.path.strip("/"):
            raise UserError(
                f"--out {url}: give a folder below a bucket or disk, such as s3://BUCKET/shards256"
            )
        if parts.scheme in READ_ONLY:
            raise UserError(f"--out {url} can only be read: build into a folder, then copy it to that server")
        self._url = url.rstrip("/")
        options = {"auto_mkdir": True} if parts.scheme in ("file", "local") else {}
        try:
            from fsspec.core import url_to_fs

            self._files, self._path = url_to_fs(self._url, **options)
        except (ImportError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"--out {self._url}: {reason}; install what is missing with pip, or build into a folder "
                "and copy it there, manifest.json last"
            ) from None

    def __str__(self) -> str:
        return self._url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self._url.rpartition("/")[2]

    def check_empty(self) -> None:
        """Refuse a URL below which there is something."""
        found = self._try("", lambda path: self._files.find(path))
        if found:
            raise UserError(f"{self} holds {len(found)} files already: choose another --out, or remove them")

    def upload(self, folder: Path) -> None:
        """Make this what the finished shard directory `folder` is. Files that are there already stay.

        Raises WorkError for a file that can't be written, or reads back otherwise.
        """
        content = manifest.read(folder)
        for split in content.splits.values():
            for shard in split.shards:
                self._put(folder / shard.file, shard.sha256)
        path = folder / manifest.FILE
        self._put(path, hashlib.sha256(path.read_bytes()).hexdigest())

    def _put(self, path: Path, digest: str) -> None:
        if self._digest(path) == digest:
            return
        self._try(path.name, lambda there: self._files.put_file(str(path), there))
        if self._digest(path) != digest:
            raise WorkError(f"{self}/{path.name} is not what was uploaded: the same command uploads it again")

    def _digest(self, path: Path) -> str | None:
        """SHA-256 of the file of this name there, None where there is none, or one of another size."""

        def read(there: str) -> str | None:
            if not self._files.exists(there) or self._files.size(there) != path.stat().st_size:
                return None
            with self._files.open(there, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        found: str | None = self._try(path.name, read)
        return found

    def _try(self, name: str, work: Callable[[str], Any]) -> Any:
        there = f"{self._path}/{name}".rstrip("/")
        try:
            return work(there)
        except Exception as error:  # noqa: BLE001  whatever the file system's library raises
            reason = " ".join(str(error).split())[:200]
            raise WorkError(
                f"{self}/{name}: {type(error).__name__}: {reason}; the same command resumes when that is "
                "cured"
            ) from None


def build_behind(url: str, build: Callable[[Path, Publish], int]) -> int:
    """Have `build` make the directory in a folder here, called as the URL ends, and upload it; the exit code.

    The folder is removed where the exit code is 0; else it stays, so that the same command with another
    allowance has only to report.
    """
    remote = Remote(url)
    folder = Path.cwd() / remote.name
    if not Path(f"{folder}.work").exists():
        remote.check_empty()

    def publish(built: Path, code: int) -> None:
        remote.upload(built)
        print(f"{remote}: uploaded, and each file read back")
        if code == 0:
            shutil.rmtree(built)

    return build(folder, publish)
