"""Reads any sample of a split by its number: random access by offset within the plain tars.

Samples are decoded once where memory allows.
"""

import os
import zlib
from io import FileIO

import numpy as np

from chexdist.data.decode import DTYPES, decode_sample
from chexdist.data.decoded import Decoded, Gather, alone, decoded_of_node, is_kept
from chexdist.data.manifest import Manifest
from chexdist.errors import WorkError

MAX_OPEN = 256
"""Shards that a process keeps open; the usual limit is 1,024 files."""


class SampleReader:
    """Pixels by sample number. Made before loader workers fork, which share its memory of decoded samples.

    Each process opens the files for itself: none depends on what its parent had open.
    """

    def __init__(self, manifest: Manifest, split: str, memory_mib: int, gather: Gather = alone) -> None:
        """
        Args:
            memory_mib: MiB for the decoded split, once a node.
            gather: of the ranks that make a reader of the same split at the same time.
        """
        self.split = manifest.splits[split]
        self.cache = manifest.cache
        self.shape = (manifest.size, manifest.size)
        self.dtype = np.dtype(DTYPES[manifest.bits])
        self._files: dict[int, FileIO] = {}
        self._opened_by = -1
        self._decoded: Decoded | None = None
        if is_kept(manifest, split, memory_mib):
            self._decoded = decoded_of_node(len(self.split), manifest.size, self.dtype, gather)

    def read(self, samples: list[int]) -> np.ndarray:
        """Pixels [len(samples), size, size], uint8 or uint16.

        Raises:
            WorkError: a shard does not hold what its manifest says, or can't be fetched; names the shard, the
                sample and the cure.
        """
        if self._decoded is not None and self.keep(samples):
            return self._decoded.pixels[samples]
        try:
            return np.stack([self._decode(sample) for sample in samples])
        finally:
            if self.cache is not None:
                self._close()  # an open file takes room in the cache even when it is removed

    def keep(self, samples: list[int]) -> bool:
        """Decode those of these samples that are not yet in memory; False where memory keeps none.

        Raises:
            WorkError: as `read`.
        """
        if self._decoded is None:
            return False
        try:
            for sample in samples:
                if not self._decoded.there[sample]:
                    self._decoded.pixels[sample] = self._decode(sample)
                    self._decoded.there[sample] = 1
            return True
        finally:
            if self.cache is not None:
                self._close()  # an open file takes room in the cache even when it is removed

    def needs(self, shard: int) -> bool:
        """Whether a sample of this shard is still to be decoded."""
        return self._decoded is None or not self._decoded.there[self.split.shard == shard].all()

    def _decode(self, sample: int) -> np.ndarray:
        split = self.split
        file, offset, size = (
            split.files[split.shard[sample]],
            int(split.offset[sample]),
            int(split.size[sample]),
        )
        try:
            png = os.pread(self._open(int(split.shard[sample])), size, offset)
            if zlib.crc32(png) != split.crc32[sample]:
                raise ValueError("checksum differs")
            pixels = decode_sample(str(split.key[sample]), png)
            if pixels.shape != self.shape or pixels.dtype != self.dtype:
                raise ValueError(f"is {pixels.shape} {pixels.dtype}, not {self.shape} {self.dtype}")
        except (OSError, ValueError) as error:
            cure = (
                f"`chexdist-shards verify {file.parent}` lists all that is damaged, then copy the shard again"
                if self.cache is None
                else "remove the file and start again: the shard is fetched anew"
            )
            raise WorkError(
                f"shard {file}, sample {split.key[sample]} at byte {offset}: {error}; {cure}"
            ) from None
        return pixels

    def _open(self, shard: int) -> int:
        """A descriptor of the shard's file; the one opened longest ago is closed when there are many."""
        if self._opened_by != os.getpid():
            self._files, self._opened_by = {}, os.getpid()
        if shard not in self._files:
            if len(self._files) >= MAX_OPEN:
                self._files.pop(next(iter(self._files))).close()
            self._files[shard] = (
                FileIO(self.split.files[shard])
                if self.cache is None
                else self.cache.open(self.split.shards[shard])
            )
        return self._files[shard].fileno()

    def _close(self) -> None:
        if self._opened_by == os.getpid():
            for file in self._files.values():
                file.close()
            self._files = {}
