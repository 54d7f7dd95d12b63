"""What a build's own process holds of each file stays small: workers and pictures are stood in for."""

import pickle
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.build_options import build_options

from shards import build, manifest
from shards.build import request
from shards.identity import Names
from shards.manifest import Index, Shard
from shards.options import Options
from shards.scan import Scanned
from shards.workers import Workers
from shards.write import ShardTask

FEW, MANY = 100, 2000
MOST = 1750  # bytes a file; 1,600 by Python 3.11
NOTE = ("a note that the headers of many images lead to, the same for each of them",)


class StandIns(Workers):
    """Answers as workers do, through a pipe, without doing anything."""

    def each(self, function: Callable[[Any], Any], tasks: Iterable[Any], at_most: int | None = None) -> Any:
        for batch in tasks:
            yield batch, [pickle.loads(pickle.dumps(scanned(number))) for number, _ in batch]

    def run(self, function: Any, tasks: Sequence[Any], *_: Any, **__: Any) -> list[Any]:
        return [pickle.loads(pickle.dumps(shard(task))) for task in tasks]


def scanned(number: int) -> Scanned:
    """What the scan of a DICOM file finds, two images for each patient, each image in a study of its own."""
    content = number.to_bytes(32, "big")
    uid = f"1.2.826.0.1.3680043.8.498.{10**30 + number}"
    spool = "12345-0123abcd.scanned"
    return Scanned(
        spool, number * 9000, 9000, content, content.hex(), f"PAT{number // 2:010}", False, None, NOTE, uid
    )


def shard(task: ShardTask) -> Shard:
    """As `write_shard` describes it."""
    places = [10_000 * place + 512 for place in range(len(task.samples))]
    index = Index([], places, [size + 1 for size in places], [size + 2**31 for size in places], [], [], [])
    return Shard(task.file, len(task.samples), 10**7, "0" * 64, [1, 1], index)


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[dict[int, Path]]:
    """By their number, files in two class folders that a listing takes for pictures."""
    found = {}
    for count in (FEW, MANY):
        found[count] = tmp_path / str(count)
        for label in "ab":
            (found[count] / label).mkdir(parents=True)
        for number in range(count):
            (found[count] / "ab"[number % 2] / f"{number:08}_{number % 7:03}.dcm").touch()
    return found


def peak(tree: Path, work: Path) -> int:
    """The most bytes that Python holds at a time from listing the files to writing the manifest."""
    given = vars(build_options(sources=[tree], out=work / "out", workers=2, per_class=None))
    options = Options(**{name: value for name, value in given.items() if name != "run"})
    (work / "shards").mkdir(parents=True)
    tracemalloc.start()
    settings, listing = build.list_sources(options)
    names = Names(bytes(32))
    request(options, settings, listing, names)
    classes, folders = listing.classes(), (work / "shards", work)
    result = build._written(StandIns(2), listing, classes, names, settings, None, *folders, options)
    manifest.write(work / "shards", result)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_each_file_takes_few_bytes_of_the_parent(
    trees: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "search", lambda *_: [])
    monkeypatch.setattr(manifest, "validate", lambda content: None)  # slow, and holds nothing
    peak(trees[FEW], tmp_path / "first")  # which loads modules
    peaks = {count: peak(tree, tmp_path / f"work-{count}") for count, tree in trees.items()}
    assert (peaks[MANY] - peaks[FEW]) / (MANY - FEW) < MOST, (peaks[MANY] - peaks[FEW]) / (MANY - FEW)
