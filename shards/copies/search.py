"""The search for near-duplicates among the images of a build, on its workers.

Each task looks for some of the images, and writes what it found into the folder of the search: after a kill
only what is missing there is done. Which images a task has depends on nothing but their number, so the result
is the same with any number of workers. Fingerprints and index are files that the workers map, so memory
does not grow with them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from shards.copies.linking import Pair, chunks, linked
from shards.copies.nearest import Index
from shards.copies.registration import SIDE
from shards.files import appearing_folder, flush_to_disk, named, replace_file
from shards.progress import Progress
from shards.workers import Workers

PRINTS = "fingerprints"


@dataclass(frozen=True)
class Task:
    """The images to look for, of those whose fingerprints are in `folder`."""

    folder: Path
    images: range

    @property
    def result(self) -> Path:
        """The file of pairs, there once the task is done."""
        return self.folder / f"{self.images.start}.json"


def search(workers: Workers, folder: Path, fingerprints: Iterable[bytes], count: int) -> list[Pair]:
    """The near-duplicates among `count` images, as `linking.pairs` gives them.

    `folder`: of this search, for these images alone; what was found there before a kill is taken as it is,
    and then `fingerprints` (of uint8 [SIDE, SIDE]) are not asked for. Raises WorkError when workers die,
    OSError when the disk is full.
    """
    if count < 2:
        return []
    tasks = [Task(folder, images) for images in chunks(count)]
    waiting = [task for task in tasks if not task.result.exists()]
    left = sum(len(task.images) for task in waiting)
    with Progress("near-duplicates", left, "images") as progress:
        if not folder.exists():
            _prepare(workers, folder, fingerprints, progress)
        workers.run(
            look,
            waiting,
            progress,
            units=lambda task: len(task.images),
            suspects=lambda lost: [f"the search for near-duplicates, {task.result.name}" for task in lost],
        )
    found = {(first, second) for task in tasks for first, second in json.loads(task.result.read_bytes())}
    return sorted(found)


def look(task: Task) -> None:
    """Write the near-duplicates of a task's images."""
    index, prints = _opened(task.folder)
    own = np.arange(task.images.start, task.images.stop)
    replace_file(task.result, json.dumps(linked(index, prints, own)), flush=True)


def _prepare(workers: Workers, folder: Path, fingerprints: Iterable[bytes], progress: Progress) -> None:
    """Fingerprints and index, on disk under the folder's name once they are whole."""
    with appearing_folder(folder, flush=True) as partial, named(partial):
        with open(partial / PRINTS, "wb") as file:
            file.writelines(fingerprints)
        workers.run(
            _write_index, [partial], progress, units=lambda task: 0, suspects=lambda lost: ["the index"]
        )
        for path in partial.iterdir():
            flush_to_disk(path)


def _write_index(folder: Path) -> None:
    Index.of(_mapped(folder)).save(folder)


def _mapped(folder: Path) -> np.ndarray:
    return np.memmap(folder / PRINTS, np.uint8, "r").reshape(-1, SIDE, SIDE)


@lru_cache(maxsize=1)
def _opened(folder: Path) -> tuple[Index, np.ndarray]:
    return Index.load(folder), _mapped(folder)
