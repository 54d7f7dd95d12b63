"""Procedural chest radiographs: decides which patients, images and labels a phantom data set has."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

from shards.files import replace_file

__all__ = ["write_phantom"]

LARGEST = 4096


def write_phantom(out: Path, patients: int, seed: int, size: int) -> int:
    """Writes `out/images/*.dcm` (size x size pixels) and `out/labels.csv`; returns the number of images.

    A patient has one to three images, with and without a finding; over all images the classes differ by at
    most one. The same arguments give the same bytes. labels.csv (header `path,label`) comes last, so that an
    interrupted call leaves none. Raises ValueError for arguments out of range and FileExistsError where `out`
    already holds files.
    """
    import numpy as np

    from shards.phantom.image import draw_image, write_image

    if patients < 1 or seed < 0 or not 32 <= size <= LARGEST:
        raise ValueError(
            f"phantom needs patients >= 1, seed >= 0, size 32 to {LARGEST}: {patients}, {seed}, {size}"
        )
    images = Path(out) / "images"
    images.mkdir(parents=True, exist_ok=True)
    if any(images.iterdir()) or (Path(out) / "labels.csv").exists():
        raise FileExistsError(f"{out} already holds a data set; name an empty folder")
    rng = np.random.default_rng([seed, 0])
    counts = rng.choice([1, 2, 3], size=patients, p=[0.45, 0.35, 0.2])
    findings = rng.permutation(np.arange(counts.sum()) % 2 == 0)
    rows: list[tuple[str, str]] = []
    for patient, count in enumerate(counts, start=1):
        for image in range(1, count + 1):
            name = hashlib.blake2b(f"{seed} {patient} {image}".encode(), digest_size=12).hexdigest()
            finding = bool(findings[len(rows)])
            write_image(images / f"{name}.dcm", draw_image(patient, image, seed, finding), size)
            rows.append((f"images/{name}.dcm", "finding" if finding else "no_finding"))
    _write_labels(Path(out) / "labels.csv", sorted(rows))
    return len(rows)


def _write_labels(path: Path, rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label"))
    writer.writerows(rows)
    replace_file(path, text.getvalue())
