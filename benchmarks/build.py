"""`build`: files/s of the shard builder by encoding, with two workers, with one, and of decoding alone.

Built from are radiographs of the procedural phantom in each encoding. Decoded are, besides, two radiographs
that pydicom-data brings along, compressed by JPEG 2000 without loss. Both ways of decoding these end with the
same square picture; they differ in how much of the file is decoded. Memory is that of builds of small PNGs.
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
from PIL import Image
from pydicom.data import get_testdata_file

from benchmarks.alternate import Comparison, Effort, Side, alternate
from benchmarks.encodings import ENCODINGS, SLOW, decoded, write_encodings
from benchmarks.record import Result
from shards.errors import WorkError
from shards.pixels.fit import to_square
from shards.pixels.grayscale import dicom_field
from shards.pixels.render import render_file
from shards.progress import Progress
from shards.workers import Workers, default_workers

RADIOGRAPHS = {"RG1 (1955 x 1841)": "RG1_J2KR.dcm", "RG3 (1760 x 1760)": "RG3_J2KR.dcm"}
NOTES = (
    "workers: `chexdist-shards build` from start to end, with reading headers, fingerprints, "
    + "near-duplicates, splits, rendering and the tars.",
    "decoding alone: the same files read and decoded by the same decoders, by processes that share nothing "
    + "and are there already: what two of them gain is what this machine's two cores have to give.",
    "decode: read, decoded, windowed and scaled to a picture by one process. chexdist decodes no finer "
    + "than the picture needs, and finds that out for each file. PSNR: of its picture against the other's. "
    + "The noise of these films makes most of them need all of JPEG 2000, which decoding alone does not ask.",
)
MEASURED = """
import re, resource, sys
from shards.__main__ import main
code = main(sys.argv[1:])
own = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True)
class Setting:
    """Shards of `size` px are built from `files` of `side` px, so many that the start of the processes is a
    small part, from `slow` where a build takes long; and for memory from so many `small` ones.
    """

    files: int = 600
    slow: int = 300
    side: int = 1024
    size: int = 256
    small: tuple[int, int] = (1000, 10_000)
    encodings: tuple[str, ...] = ENCODINGS


SHIPPED = Setting()
TINY = Setting(files=10, slow=10, side=256, size=32, small=(10, 20), encodings=("RLE",))


def comparisons(encodings: tuple[str, ...]) -> list[Comparison]:
    """The rows: three for each encoding, one for each radiograph."""
    rows = []
    for name in encodings:
        rows += [
            Comparison(f"{name}: two workers / one", f"{name}, two", f"{name}, one"),
            Comparison(f"{name}: decoding in two processes / one", f"{name}, 2", f"{name}, 1"),
            Comparison(f"{name}: one worker / decoding alone", f"{name}, one", f"{name}, 1"),
        ]
    return rows + [
        Comparison(f"decode {name} / pydicom, whole", name, f"{name}, whole") for name in RADIOGRAPHS
    ]


def measure(effort: Effort, work: Path, setting: Setting = SHIPPED) -> Result:
    """All rows of `build`; files and shards are made in the empty directory `work`.

    Raises:
        WorkError: a build failed, or pydicom-data is missing.
    """
    radiographs = {name: _radiograph(file) for name, file in RADIOGRAPHS.items()}
    _draw(work, setting)
    found = []
    with Workers(1) as one, Workers(2) as two:
        for encoding in setting.encodings:
            files = setting.slow if encoding in SLOW else setting.files
            for name, count in (("two", 2), ("one", 1)):
                run = partial(_build, work / encoding, _labels(work / encoding), count, setting.size)
                found.append(Side(f"{encoding}, {name}", files, run))
            for pool, count in ((two, 2), (one, 1)):
                run = partial(_decode_alone, pool, count, work / encoding, setting.size)
                found.append(Side(f"{encoding}, {count}", files, run))
        for name, file in radiographs.items():
            found.append(Side(name, 1, partial(_decode, as_built, file, setting.size)))
            found.append(Side(f"{name}, whole", 1, partial(_decode, whole, file, setting.size)))
        rates = alternate("build", found, effort)
    settings = {
        "files": setting.files,
        "files of JPEG 2000": setting.slow,
        "side": setting.side,
        "size": setting.size,
        "PSNR": " and ".join(f"{_psnr(file, setting.size):.0f} dB" for file in radiographs.values()),
    }
    notes = (*NOTES, _memory(work, setting.small))
    return Result("build", "files/s", settings, notes, comparisons(setting.encodings), rates)


def _draw(work: Path, setting: Setting) -> None:
    """Write all films into `work`."""
    quick = tuple(encoding for encoding in setting.encodings if encoding not in SLOW)
    with Progress("drawing", setting.files, "films") as progress, Workers(default_workers()) as workers:
        for numbers, encodings in (
            (range(setting.slow), setting.encodings),
            (range(setting.slow, setting.files), quick),
        ):
            workers.run(
                partial(write_encodings, folder=work, side=setting.side, encodings=encodings),
                numbers,
                progress,
                lambda number: 1,
                lambda lost: ["a film"],
            )


def as_built(file: Path, size: int) -> np.ndarray:
    """As the shard builder renders it."""
    return to_square(render_file(str(file), size)[0], size)


def whole(file: Path, size: int) -> np.ndarray:
    """With every sample decoded by pydicom."""
    dataset = pydicom.dcmread(file)
    return to_square(dicom_field(dataset, dataset.pixel_array)[0], size)


def _labels(folder: Path) -> Path:
    """A label file for the files of a folder, beside it."""
    labels = folder.with_suffix(".csv")
    rows = [
        f"{path.name},{('no_finding', 'finding')[int(path.stem) % 2]}" for path in sorted(folder.iterdir())
    ]
    labels.write_text("\n".join(["path,label", *rows]) + "\n")
    return labels


def _command(sources: Path, workers: int, size: int) -> list[str]:
    """The words of a build into a directory that is not there."""
    out = sources.with_name(f"shards-{time.monotonic_ns()}")
    words = [
        "build",
        sources,
        "--out",
        out,
        "--size",
        size,
        "--workers",
        workers,
        "--patient-pattern",
        "(.+)",
    ]
    return [str(word) for word in words]


def _run(command: list[str]) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"the shards could not be built: {done.stderr.strip()}")
    return done.stdout


def _build(sources: Path, labels: Path, workers: int, size: int) -> float:
    begun = time.perf_counter()
    _run(["-m", "shards", *_command(sources, workers, size), "--labels", str(labels)])
    return time.perf_counter() - begun


def _decode_alone(pool: Workers, count: int, folder: Path, size: int) -> float:
    files = sorted(folder.iterdir())
    parts = [files[number::count] for number in range(count)]
    begun = time.perf_counter()
    for _ in pool.each(partial(_decode_part, size=size), parts):
        pass
    return time.perf_counter() - begun


def _decode_part(files: list[Path], size: int) -> None:
    for file in files:
        decoded(file, size)


def _memory(work: Path, counts: tuple[int, int]) -> str:
    """The most memory of a build's own process and of its workers, and what a file adds."""
    own, workers = [], []
    for count in counts:
        sources = work / f"small-{count}"
        for number in range(count):
            levels = np.random.default_rng(number).integers(0, 256, (9, 9), dtype=np.uint8)
            path = sources / "ab"[number % 2] / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).resize((48, 48), Image.Resampling.BICUBIC).save(path)
        lines = _run(["-c", MEASURED, *_command(sources, 2, 32)]).splitlines()
        of_both = [int(word) * 1024 for word in lines[-1].split()]
        own.append(of_both[0])
        workers.append(of_both[1])
    a_file = (own[1] - own[0]) / (counts[1] - counts[0])
    return (
        f"memory: the process of a build takes {own[0] / 1e6:.0f} MB at {counts[0]:,} small PNGs and "
        f"{own[1] / 1e6:.0f} MB at {counts[1]:,}, {a_file:,.0f} bytes a file; the larger of two workers "
        f"{workers[0] / 1e6:.0f} and {workers[1] / 1e6:.0f} MB, with the fingerprints, a file that it maps."
    )


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
