"""The phantom data set in the layout of VinBigData's training set: `train/IMAGE_ID.dicom` and `train.csv`.

Three of the readers mark each image (Nguyen 2022): each draws own boxes and may name a finding otherwise, but
whether there is any they agree on. A third of the files is compressed by JPEG 2000, without loss.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.files import replace_file
from shards.labels import LabelOptions, read_labels
from shards.labels.labels import FINDING
from shards.phantom.anatomy import Lesion, LesionKind, View
from shards.phantom.image import draw_image, write_image
from shards.phantom.shapes import to_pixels
from shards.progress import Progress

COLUMNS = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
CLASS_IDS = {
    "Aortic enlargement": 0,
    "Cardiomegaly": 3,
    "Consolidation": 4,
    "Infiltration": 6,
    "Lung Opacity": 7,
    "Nodule/Mass": 8,
    "Other lesion": 9,
    "Pleural effusion": 10,
    "Pleural thickening": 11,
    "No finding": 14,
}
NAMES: dict[LesionKind, tuple[str, ...]] = {  # the likeliest first
    "nodules": ("Nodule/Mass", "Other lesion"),
    "consolidation": ("Consolidation", "Infiltration", "Lung Opacity"),
    "effusion": ("Pleural effusion", "Pleural thickening"),
    "enlarged-heart": ("Cardiomegaly", "Aortic enlargement"),
}
READERS = [f"R{number}" for number in range(1, 18)]
READERS_PER_IMAGE = 3
SURE = 0.75  # how often a reader gives the likeliest name
CARE = 0.04  # how far a reader's box is off, in sides of the box
COMPRESSED = 1 / 3

Row = tuple[str, ...]


def write_vinbigdata(out: Path, images: int, seed: int, size: int, image_ids: Path | None = None) -> int:
    """Writes `images` images of size x size pixels, or as many as `image_ids` names; returns their number.

    `image_ids` is a label file of the same format, whose first images' ids and classes are used.
    The same arguments give the same bytes; train.csv comes last. Raises UserError.
    """
    folder, labels = out / "train", out / "train.csv"
    states = read_states(image_ids, images) if image_ids else invent_states(images, seed)
    if labels.exists() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{out} already holds a data set; name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with Progress("phantom", len(states), "images") as progress:
        for (patient, image), (name, finding) in zip(_numbers(seed), states.items(), strict=False):
            rng = np.random.default_rng([seed, patient, image, 1])
            drawn = draw_image(patient, image, seed, finding)
            write_image(folder / f"{name}.dicom", drawn, size, bool(rng.random() < COMPRESSED))
            rows += _read_image(rng, name, drawn.lesion, drawn.view, size)
            progress.advance()
    order = np.random.default_rng([seed, 1]).permutation(len(rows))
    _write_rows(labels, [rows[i] for i in order])
    return len(states)


def invent_states(images: int, seed: int) -> dict[str, bool]:
    """Ids of 32 hex digits, and whether the image has a finding; half of them have."""
    findings = np.random.default_rng([seed, 0]).permutation(np.arange(images) % 2 == 0)
    return {
        hashlib.blake2b(f"{seed} {number}".encode(), digest_size=16).hexdigest(): bool(finding)
        for number, finding in enumerate(findings)
    }


def read_states(path: Path, images: int) -> dict[str, bool]:
    """The ids of the first images in a label file, and whether they have a finding. Raises UserError."""
    labels = read_labels(path, LabelOptions())
    if labels.settings.get("form") != "VinBigData":
        raise UserError(
            f"{path} is not in VinBigData's format: --image-ids needs the columns {','.join(COLUMNS)}"
        )
    first = list(labels.images.items())[:images]
    if len(first) < images:
        raise UserError(f"{path} names {len(first)} images: ask for no more with --images")
    for name, _ in first:
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", name):
            raise UserError(f"{path}: image_id {name[:80]!r} is not 1 to 64 letters, digits, _ and -")
    return {name: image.label == FINDING for name, image in first}


def _numbers(seed: int) -> Iterator[tuple[int, int]]:
    """Patient and image numbers without end: one to three images of a patient."""
    rng = np.random.default_rng([seed, 2])
    patient = 0
    while True:
        patient += 1
        for image in range(int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))):
            yield patient, image + 1


def _read_image(
    rng: np.random.Generator, name: str, lesion: Lesion | None, view: View, size: int
) -> Iterator[Row]:
    """The rows that three readers give an image."""
    for reader in rng.choice(READERS, READERS_PER_IMAGE, replace=False):
        if lesion is None:
            yield name, "No finding", str(CLASS_IDS["No finding"]), str(reader), "", "", "", ""
            continue
        names = NAMES[lesion.kind]
        finding = names[0] if rng.random() < SURE else str(rng.choice(names[1:]))
        for box in boxes(rng, lesion, view, size):
            yield name, finding, str(CLASS_IDS[finding]), str(reader), *(f"{side:.1f}" for side in box)


def boxes(rng: np.random.Generator, lesion: Lesion, view: View, size: int) -> Iterator[np.ndarray]:
    """x_min, y_min, x_max, y_max in pixels around each spot, as one reader draws them."""
    for spot in lesion.spots:
        corners = np.array([(spot.x + x * spot.rx, spot.y + y * spot.ry) for x in (-1, 1) for y in (-1, 1)])
        pixels = to_pixels(corners, view, size)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        off = CARE * np.tile(high - low, 2) * rng.standard_normal(4).clip(-2, 2)
        yield np.rint(np.concatenate([low, high]) + off).clip(0, size)


def _write_rows(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    replace_file(path, text.getvalue())
