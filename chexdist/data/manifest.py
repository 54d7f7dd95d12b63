"""Reads and checks a shard directory's `manifest.json`, local or remote.

It is all that training knows about the shards.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from chexdist.config.address import is_url
from chexdist.config.tree import Data
from chexdist.data.cache import Shard, ShardCache
from chexdist.data.once import once
from chexdist.data.remote import RemoteDirectory
from chexdist.errors import UserError

SCHEMA = 1
MOST_BYTES = 1 << 30
"""Of a remote manifest; a local one may be of any size."""
COLUMNS = {"key", "offset", "size", "crc32", "label", "patient", "cluster"}


@dataclass(frozen=True)
class Split:
    """The samples of one split, shard after shard in manifest order, tar order within a shard.

    `files` are where the shards are read: those of a remote directory once they are fetched. `shard`,
    `offset`, `size`, `crc32`, `label` are int64 [samples] (index in `shards`, bytes, bytes, checksum, class
    index); `patient` and `cluster` are keyed hashes, str [samples]. `content_sha256` is the digest of pixels,
    classes and groups in order, equal for shards of the same images under another key; None in older shards.
    """

    name: str
    shards: tuple[Shard, ...]
    files: tuple[Path, ...]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    crc32: np.ndarray
    label: np.ndarray
    key: np.ndarray
    patient: np.ndarray
    cluster: np.ndarray
    content_sha256: str | None = None

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples in each shard."""
        return tuple(np.bincount(self.shard, minlength=len(self.shards)).tolist())

    @property
    def shard_bytes(self) -> tuple[int, ...]:
        """The size of each shard's file."""
        return tuple(shard.bytes for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """A shard directory: `size` in pixels, `bits` per pixel, class names by label, splits by name, digest.

    `cache` is where the shards of a remote one are read; None for a local one.
    """

    directory: Path | RemoteDirectory
    cache: ShardCache | None
    size: int
    bits: int
    classes: tuple[str, ...]
    splits: dict[str, Split]
    digest: str

    @property
    def reference(self) -> str:
        """What protocols call these images: a digest of the content of all splits, which is the same under
        any key; of older shards, which don't say it, the manifest's.
        """
        contents = {name: split.content_sha256 for name, split in self.splits.items()}
        if not all(contents.values()):
            return self.digest
        return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()

    def class_counts(self, split: str) -> tuple[int, ...]:
        """Samples of each class in a split."""
        return tuple(np.bincount(self.splits[split].label, minlength=len(self.classes)).tolist())


def read_manifest(directory: str, settings: Data | None = None, digest: str | None = None) -> Manifest:
    """The manifest of a shard directory.

    Args:
        directory: a path or a URL.
        settings: the cache of a remote directory.
        digest: of the manifest that is wanted: where the cache has it, the server is not asked. Another one
            is read all the same.

    Raises:
        UserError: there is no complete shard directory of this schema, or its manifest contradicts itself.
        WorkError: a remote one can't be read.
    """
    if not directory:
        raise UserError("data.shards is not set: give the directory that `chexdist-shards build` made")
    settings = settings or Data()
    root = RemoteDirectory(directory, settings.timeout) if is_url(directory) else Path(directory)
    path = f"{root}/manifest.json"
    cache = _cache(root, settings)
    content = (cache.manifest(digest) if cache and digest else None) or _content(root, cache, settings)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as a manifest: {error}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise UserError(
            f"{path} has schema {found}; this version reads schema {SCHEMA}: build the shards again"
        )
    try:
        splits = {name: _read_split(root, cache, name, part) for name, part in document["splits"].items()}
        manifest = Manifest(
            directory=root,
            cache=cache,
            size=int(document["render"]["size"]),
            bits=int(document["render"]["bits"]),
            classes=tuple(document["classes"]),
            splits=splits,
            digest=hashlib.sha256(content).hexdigest(),
        )
        _check_contents(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); try `chexdist-shards verify {root}`"
        ) from None
    if cache:
        cache.add_manifest(content)
    return manifest


def _content(root: Path | RemoteDirectory, cache: ShardCache | None, settings: Data) -> bytes:
    """The bytes of `manifest.json`."""
    if isinstance(root, RemoteDirectory):
        assert cache
        return once(cache, settings.timeout, lambda: root.read("manifest.json", MOST_BYTES))
    try:
        return (root / "manifest.json").read_bytes()
    except FileNotFoundError:
        state = (
            "has no manifest.json, so it is no shard directory or not complete"
            if root.is_dir()
            else "is no directory"
        )
        raise UserError(f"data.shards {root}: {state}; make it with `chexdist-shards build`") from None
    except NotADirectoryError:
        raise UserError(
            f"data.shards {root} is a file: give the directory that `chexdist-shards build` made"
        ) from None
    except OSError as error:
        raise UserError(f"{root}/manifest.json can't be read as a manifest: {error}") from None


def _cache(root: Path | RemoteDirectory, settings: Data) -> ShardCache | None:
    if isinstance(root, Path):
        return None
    return ShardCache(root, settings.cache, int(settings.cache_gib * 2**30), settings.timeout)


def _read_split(
    root: Path | RemoteDirectory, cache: ShardCache | None, name: str, part: dict[str, Any]
) -> Split:
    shards: list[Shard] = []
    files: list[Path] = []
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    numbers: list[int] = []
    for number, shard in enumerate(part["shards"]):
        found = _read_shard(shard)
        if isinstance(root, Path):
            _check_file(root / found.name, found.bytes)
        index = shard["index"]
        lengths = {len(index[column]) for column in COLUMNS}
        if lengths != {shard["samples"]} or not shard["samples"]:
            raise ValueError(
                f"the index of {shard['file']} has columns of {sorted(lengths)} samples, "
                f"not {shard['samples']}"
            )
        shards.append(found)
        files.append(Path(str(root), found.name) if cache is None else cache.path(found))
        numbers += [number] * shard["samples"]
        for column in COLUMNS:
            columns[column] += index[column]
        ends = np.asarray(index["offset"], np.int64) + np.asarray(index["size"], np.int64)
        if min(index["offset"]) < 0 or min(index["size"]) < 1 or ends.max() > shard["bytes"]:
            raise ValueError(f"the index of {shard['file']} points outside the file")
    integers = {
        column: np.asarray(columns[column], np.int64) for column in ("offset", "size", "crc32", "label")
    }
    texts = {column: np.asarray(columns[column], np.str_) for column in ("key", "patient", "cluster")}
    return Split(
        name=name,
        shards=tuple(shards),
        files=tuple(files),
        shard=np.asarray(numbers, np.int64),
        **integers,
        **texts,
        content_sha256=_content_digest(name, part),
    )


def _content_digest(name: str, part: dict[str, Any]) -> str | None:
    digest = part.get("content_sha256")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise ValueError(f"the content_sha256 of split {name} is {digest!r:.80}")
    return digest


def _read_shard(part: dict[str, Any]) -> Shard:
    shard = Shard(part["file"], int(part["bytes"]), part["sha256"])
    if os.path.basename(shard.name) != shard.name or re.search(r"[?#%\\]|^\.*$", shard.name):
        raise ValueError(f"shard name {shard.name!r} leaves the directory")
    if not re.fullmatch("[0-9a-f]{64}", shard.sha256):
        raise ValueError(f"the SHA-256 of {shard.name} is {shard.sha256!r}")
    return shard


def _check_file(file: Path, size: int) -> None:
    try:
        found = file.stat().st_size
    except OSError as error:
        raise UserError(
            f"shard {file}: {error.strerror}; the manifest names it, so copy it here again"
        ) from None
    if found != size:
        raise UserError(f"shard {file} has {found} bytes, its manifest says {size}: copy it here again")


def _check_contents(manifest: Manifest) -> None:
    if manifest.bits not in (8, 16):
        raise ValueError(f"{manifest.bits} bits a pixel; there are 8 and 16")
    for split in manifest.splits.values():
        if len(split) and not 0 <= split.label.min() <= split.label.max() < len(manifest.classes):
            raise ValueError(f"split {split.name} has labels outside the {len(manifest.classes)} classes")
