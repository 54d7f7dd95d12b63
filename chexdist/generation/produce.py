"""Decides which pictures of a generator are exported: those of rising latent index that pass the audit."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from chexdist import __version__
from chexdist.errors import UserError
from chexdist.evaluation.copies import Audit
from chexdist.generation import sheet
from chexdist.generation.judged import REPLACED, Judged, audit_facts, judged, memorised
from chexdist.generation.pictures import Origin, dicom, marked_png, png, preview
from chexdist.run import layout
from chexdist.run.sampling import CHUNK, sampled_labels
from chexdist.run.trained import Loaded
from shards.progress import Progress

WRITERS = {"png": (".png", png), "dicom": (".dcm", dicom)}
COLUMNS = ("file", "label", "seed", "index", "audit", "likeness")


@dataclass(frozen=True)
class Request:
    """`n` pictures of a seed, of one class or (None) in the training split's proportions, as png or dicom of
    8 or 16 bits; latents are multiplied by `truncation`.
    """

    n: int
    seed: int
    label: str | None
    format: str
    bits: int = 8
    truncation: float = 1.0


@dataclass(frozen=True)
class Made:
    """How many images were drawn, and how many of them were near-copies of training images."""

    drawn: int
    near_copies: int

    @property
    def kept(self) -> int:
        return self.drawn - self.near_copies


def class_number(loaded: Loaded, label: str | None) -> int | None:
    """The number of a class by its name; None for None.

    Raises:
        UserError: the run has no such class, or its model none at all.
    """
    if label is None:
        return None
    if not loaded.config.model.conditional:
        raise UserError(
            f"--label {label}: this run's model is unconditional, so a picture's class can't be chosen; "
            "leave --label out, or train with --model.conditional true"
        )
    if label not in loaded.classes:
        raise UserError(f"--label {label}: no such class in this run; there are {', '.join(loaded.classes)}")
    return list(loaded.classes).index(label)


def origin_of(loaded: Loaded, seed: object, truncation: float) -> Origin:
    """What the files say of the generator."""
    name, checkpoint = loaded.config.model.name, layout.after(loaded.images)
    return Origin(name, checkpoint, loaded.weights, str(seed), truncation)


def generate(loaded: Loaded, request: Request, audit: Audit | None, folder: Path) -> Made:
    """Write the pictures, `index.csv`, `provenance.json` and `sheet.png` into an empty folder.

    A near-copy of a training image is not written, and the next index is drawn instead: the first k of n
    pictures are those of `n` = k. Same weights, request and shards: same bytes, on the same kind of machine,
    torch build and thread count.

    Raises:
        WorkError: most pictures are near-copies, or they are not finite.
        OSError: the folder can't be written.
    """
    origin = origin_of(loaded, request.seed, request.truncation)
    rows: list[tuple[object, ...]] = []
    shown: list[tuple[str | None, sheet.Pixels | None]] = []
    kept = 0
    for each in candidates(loaded, request, audit):
        file = "" if each.copied else write(each, kept, request.format, origin, folder)
        rows.append(each.row(file, origin.seed, REPLACED))
        if not each.copied:
            kept += 1
            if kept <= sheet.MOST:
                shown.append((each.label, preview(each.pixels)))
    made = Made(len(rows), len(rows) - kept)
    conclude(folder, loaded, origin, rows, shown)
    audited = audit_facts(audit, made.drawn, made.near_copies, "replaced")
    record(folder, loaded, asdict(request) | {"audit": audited})
    return made


def grid(loaded: Loaded, request: Request, columns: int, audit: Audit | None) -> tuple[bytes, Made]:
    """One PNG of the `n` pictures that `generate` would write, row by row, at their own size.

    Raises:
        WorkError: as `generate` does.
    """
    found = list(candidates(loaded, request, audit))
    kept = [each for each in found if not each.copied]
    made = Made(len(found), len(found) - len(kept))
    audited = audit_facts(audit, made.drawn, made.near_copies, "replaced")
    facts = origin_of(loaded, request.seed, request.truncation).facts() | {
        "indices": " ".join(str(each.index) for each in kept),
        "labels": ", ".join(each.label or "" for each in kept),
        "audit": json.dumps(audited) if audited else kept[0].picture().audit,
    }
    return marked_png(sheet.tiled([each.pixels for each in kept], columns), facts), made


def candidates(loaded: Loaded, request: Request, audit: Audit | None) -> Iterator[Judged]:
    """Images of rising latent index until `request.n` have passed the audit; raises as `generate` does."""
    number = class_number(loaded, request.label)
    drawn = kept = 0
    with Progress("generating", request.n, "images") as progress:
        for start in count(0, CHUNK):
            block = range(start, start + CHUNK)
            images = loaded.sample(request.seed, block, number, request.truncation)
            names: Sequence[str | None] = [None] * CHUNK
            if loaded.config.model.conditional:
                sampled = sampled_labels(request.seed, block, loaded.class_counts).tolist()
                classes = list(loaded.classes)
                names = [classes[each if number is None else number] for each in sampled]
            for each in judged(images, block, names, request.bits, audit):
                yield each
                drawn += 1
                if not each.copied:
                    kept += 1
                    progress.advance(1)
                if kept == request.n:
                    return
            if 2 * kept < drawn:
                raise memorised(drawn - kept, drawn)


def write(image: Judged, number: int, format: str, origin: Origin, folder: Path) -> str:
    """Write one that passed; returns its file's name: `synthetic-00007-finding`, with the class if it has
    one.
    """
    suffix, encode = WRITERS[format]
    label = "-" + re.sub(r"[^\w-]+", "_", image.label)[:40] if image.label else ""
    file = f"synthetic-{number:05}{label}{suffix}"
    (folder / file).write_bytes(encode(image.picture(), origin))
    return file


def conclude(
    folder: Path,
    loaded: Loaded,
    origin: Origin,
    rows: list[tuple[object, ...]],
    shown: list[tuple[str | None, sheet.Pixels | None]],
) -> None:
    """Write `index.csv` and `sheet.png`."""
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)
    truncated = "" if origin.truncation == 1 else f", truncation {origin.truncation}"
    by = f"{origin.model}, {origin.checkpoint}, seed {origin.seed}{truncated}"
    image = sheet.draw(shown, f"{by}, {loaded.config.model.size} px")
    (folder / "sheet.png").write_bytes(marked_png(image, origin.facts()))


def record(folder: Path, loaded: Loaded, facts: dict[str, Any]) -> None:
    """Write `provenance.json`, for whoever gets the pictures: no path, no name of a training image."""
    document = {
        "synthetic": True,
        "chexdist": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "model": loaded.config.model.name,
        "checkpoint": layout.after(loaded.images),
        "weights": loaded.weights,
        "manifest": loaded.manifest,
        **facts,
    }
    (folder / layout.PROVENANCE).write_text(json.dumps(document, indent=1) + "\n")
