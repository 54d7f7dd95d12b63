"""`build`: files/s of the shard builder with two workers against one, and of decoding JPEG 2000 radiographs.

Built from are DICOM files of the procedural phantom; decoded are two radiographs that pydicom-data brings
along, all of them compressed by JPEG 2000 without loss. Both ways of decoding end with the same square
picture; they differ in how much of the file is decoded.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from benchmarks.alternate import Comparison, Effort, Side, alternate
from benchmarks.record import Result
from shards.errors import WorkError
from shards.phantom.image import draw_image, write_image
from shards.pixels.fit import to_square
from shards.pixels.grayscale import dicom_field
from shards.pixels.render import render_file
from shards.progress import Progress
from shards.workers import Workers, default_workers

RADIOGRAPHS = {"RG1 (1955 x 1841)": "RG1_J2KR.dcm", "RG3 (1760 x 1760)": "RG3_J2KR.dcm"}
COMPARISONS = [
    Comparison("build, two workers / one worker", "two workers", "one worker"),
    *(Comparison(f"decode {name} / pydicom, whole", name, f"{name}, whole") for name in RADIOGRAPHS),
]
NOTES = (
    "build: `chexdist-shards build` from start to end, with reading headers, fingerprints, splits, "
    + "rendering and the tars.",
    "decode: read, decoded, windowed and scaled to a picture by one process. chexdist decodes no finer "
    + "than the picture needs, and finds that out for each file. PSNR: of its picture against the other's.",
)


@dataclass(frozen=True)
class Setting:
    """Shards of `size` px are built from `files` of `side` px."""

    files: int = 64
    side: int = 1024
    size: int = 256


SHIPPED = Setting()
TINY = Setting(files=10, side=256, size=32)


def measure(effort: Effort, work: Path, setting: Setting = SHIPPED) -> Result:
    """All rows of `build`; files and shards are made in the empty directory `work`.

    Raises:
        WorkError: a build failed, or pydicom-data is missing.
    """
    files = [work / "dicom" / f"{number:04d}.dcm" for number in range(setting.files)]
    (work / "dicom").mkdir()
    with Progress("drawing", len(files), "files") as progress, Workers(default_workers()) as workers:
        workers.run(
            partial(write_radiograph, side=setting.side),
            files,
            progress,
            lambda file: 1,
            lambda lost: ["a file"],
        )
    labels = work / "labels.csv"
    rows = [f"dicom/{file.name},{('no_finding', 'finding')[i % 2]}" for i, file in enumerate(files)]
    labels.write_text("\n".join(["path,label", *rows]) + "\n")
    found = [
        Side(
            f"{name} worker{'s' * (count > 1)}",
            len(files),
            partial(_build, work, labels, count, setting.size),
        )
        for name, count in (("two", 2), ("one", 1))
    ]
    radiographs = {name: _radiograph(file) for name, file in RADIOGRAPHS.items()}
    for name, file in radiographs.items():
        found.append(Side(name, 1, partial(_decode, as_built, file, setting.size)))
        found.append(Side(f"{name}, whole", 1, partial(_decode, whole, file, setting.size)))
    rates = alternate("build", found, effort)
    settings = {
        "files": len(files),
        "side": setting.side,
        "size": setting.size,
        "PSNR": " and ".join(f"{_psnr(file, setting.size):.0f} dB" for file in radiographs.values()),
    }
    return Result("build", "files/s", settings, NOTES, COMPARISONS, rates)


def as_built(file: Path, size: int) -> np.ndarray:
    """As the shard builder renders it."""
    return to_square(render_file(str(file), size)[0], size)


def whole(file: Path, size: int) -> np.ndarray:
    """With every sample decoded by pydicom."""
    dataset = pydicom.dcmread(file)
    return to_square(dicom_field(dataset, dataset.pixel_array)[0], size)


def write_radiograph(file: Path, side: int) -> None:
    """A phantom of `side` px as DICOM, JPEG 2000 without loss; the file's name is its number."""
    number = int(file.stem)
    write_image(file, draw_image(number, 0, 0, bool(number % 2)), side, compressed=True)


def _build(work: Path, labels: Path, workers: int, size: int) -> float:
    out = work / f"shards-{time.monotonic_ns()}"
    command: list[object] = [sys.executable, "-m", "shards", "build", work, "--labels", labels, "--out", out]
    command += ["--size", size, "--workers", workers]
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise WorkError(f"the shards could not be built: {done.stderr.strip()}")
    return seconds


def _decode(render: Callable[[Path, int], np.ndarray], file: Path, size: int) -> float:
    begun = time.perf_counter()
    render(file, size)
    return time.perf_counter() - begun


def _radiograph(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    if not found:
        raise WorkError(f"{name} is not there: pip install pydicom-data")
    return Path(found)


def _psnr(file: Path, size: int) -> float:
    return float(-10 * np.log10(np.mean(np.square(as_built(file, size) - whole(file, size))) + 1e-12))
