"""Counts the samples that a job's final weights come from, over all its starts. No torch.

They are those that a step was given, identified by their pixels.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from chexdist.errors import WorkError

Batches = dict[int, list[str]]
"""The samples of each global batch, in the order of the ranks."""


def name_of(picture: np.ndarray) -> str:
    """A sample's name: a digest of its pixels, uint8 [H, W]."""
    return blake2b(np.ascontiguousarray(picture).tobytes(), digest_size=8).hexdigest()


class Trained:
    """One rank's record of one start, written by this code on every side."""

    def __init__(self, start: Path, rank: int, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self._file = (start / f"rank-{rank}.jsonl").open("a", buffering=1)

    def before(self, t: int) -> None:
        """The step of batch t is about to begin; the one to be killed in gets its `kill -9` here."""
        if t == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, t: int, pictures: np.ndarray) -> None:
        """The step of batch t has been made, with this rank's pictures, uint8 [n, H, W]."""
        self._file.write(json.dumps({"t": t, "samples": [name_of(picture) for picture in pictures]}) + "\n")


def written(start: Path) -> int:
    """Bytes that the ranks of a start have recorded: they grow as long as it trains."""
    return sum(file.stat().st_size for file in start.glob("rank-*.jsonl"))


def contributed(starts: Sequence[Path]) -> Batches:
    """What the weights come from after the last start.

    Each start resumes from a checkpoint, which discards what came after that.
    """
    batches: Batches = {}
    for start in starts:
        found: Batches = {}
        for file in sorted(start.glob("rank-*.jsonl")):
            for line in file.read_text().splitlines():
                record = json.loads(line)
                found.setdefault(record["t"], []).extend(record["samples"])
        batches = {t: batches[t] for t in batches if t < min(found, default=0)} | found
    return dict(sorted(batches.items()))


@dataclass(frozen=True)
class Count:
    """Of one epoch's budget: samples that were never trained on, and times that one was after its first."""

    lost: int
    doubled: int


def count(split: Iterable[str], batches: Batches) -> Count:
    """Compare what was trained on with what one epoch holds: each sample of the split once.

    Raises:
        WorkError: a sample is none of the split, so nothing can be counted.
    """
    wanted = set(split)
    seen = Counter(sample for samples in batches.values() for sample in samples)
    if not seen.keys() <= wanted:
        raise WorkError(f"{len(seen.keys() - wanted)} of the pictures trained on are not in the split")
    return Count(lost=len(wanted - seen.keys()), doubled=seen.total() - len(seen))
