"""Decides which pictures of a run are exported: those of rising latent index that pass the audit."""

import csv
import json
import re
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from chexdist import __version__
from chexdist.errors import UserError, WorkError
from chexdist.generation import sheet
from chexdist.generation.audit import Audit
from chexdist.generation.pictures import Origin, Picture, dicom, png
from chexdist.metrics.memorisation import METHOD
from chexdist.metrics.preprocess import levels
from chexdist.run import layout
from chexdist.run.sampling import CHUNK, sampled_labels
from chexdist.run.trained import Loaded
from shards.progress import Progress

WRITERS = {"png": (".png", png), "dicom": (".dcm", dicom)}
PASSED, NEAR_COPY, NOT_AUDITED = "passed", "near-copy, replaced", "not audited"
COLUMNS = ("file", "label", "seed", "index", "audit", "likeness")


@dataclass(frozen=True)
class Request:
    """`n` pictures of a seed, of one class or (None) in the training split's proportions, as png or dicom."""

    n: int
    seed: int
    label: str | None
    format: str


@dataclass
class Made:
    """What has been drawn: an index row per picture, also for replaced ones; the first ones for the sheet."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    shown: list[tuple[str | None, sheet.Pixels]] = field(default_factory=list)
    kept: int = 0

    @property
    def near_copies(self) -> int:
        return len(self.rows) - self.kept


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


def generate(loaded: Loaded, request: Request, audit: Audit | None, folder: Path) -> Made:
    """Write the pictures, `index.csv`, `provenance.json` and `sheet.png` into an empty folder.

    A near-copy of a training image is not written, and the next index is drawn instead: the first k of n
    pictures are those of `n` = k. Same weights, request and shards: same bytes, on the same kind of machine,
    torch build and thread count.

    Raises:
        WorkError: most pictures are near-copies, or they are not finite.
        OSError: the folder can't be written.
    """
    label = class_number(loaded, request.label)
    origin = Origin(loaded.config.model.name, layout.after(loaded.images), loaded.weights, request.seed)
    made = Made()
    with Progress("generating", request.n, "images") as progress:
        for start in count(0, CHUNK):
            block = range(start, start + CHUNK)
            before = made.kept
            _draw_block(loaded, request, origin, audit, block, label, folder, made)
            progress.advance(made.kept - before)
            if made.kept == request.n:
                break
            if 2 * made.near_copies > len(made.rows):
                raise WorkError(
                    f"{made.near_copies} of the first {len(made.rows)} pictures are near-copies of training "
                    "images: this generator has memorised; take an earlier --checkpoint, or train on more "
                    "X-rays"
                )
    _index(made, folder)
    document = _provenance(loaded, request, origin, audit, made)
    (folder / layout.PROVENANCE).write_text(json.dumps(document, indent=1) + "\n")
    size, by = loaded.config.model.size, f"{origin.model}, {origin.checkpoint}, seed {origin.seed}"
    (folder / "sheet.png").write_bytes(sheet.draw(made.shown, f"{by}, {size} px"))
    return made


def _draw_block(
    loaded: Loaded,
    request: Request,
    origin: Origin,
    audit: Audit | None,
    block: range,
    label: int | None,
    folder: Path,
    made: Made,
) -> None:
    """Draw a block of candidates, audit what would be exported, write what passes until there are enough."""
    drawn = _levels(loaded.sample(request.seed, block, label), origin)
    likeness = audit.likeness(drawn / 127.5 - 1) if audit else torch.full((len(block),), -1.0)
    drawn_labels = sampled_labels(request.seed, block, loaded.class_counts).tolist()
    labels = drawn_labels if label is None else [label] * len(block)
    classes = list(loaded.classes)
    suffix, write = WRITERS[request.format]
    for i, index in enumerate(block):
        if made.kept == request.n:
            return
        name = classes[labels[i]] if loaded.config.model.conditional else None
        copied = audit is not None and bool(likeness[i] > audit.threshold.value)
        result = NEAR_COPY if copied else PASSED if audit else NOT_AUDITED
        file = "" if copied else _file_name(made.kept, name) + suffix
        made.rows.append(
            (file, name or "", request.seed, index, result, f"{likeness[i]:.4f}" if audit else "")
        )
        if copied:
            continue
        picture = Picture(drawn[i, 0].to(torch.uint8).numpy(), index, name, result)
        (folder / file).write_bytes(write(picture, origin))
        if made.kept < sheet.MOST:
            made.shown.append((name, picture.pixels))
        made.kept += 1


def _levels(images: Tensor, origin: Origin) -> Tensor:
    try:
        return levels(images)
    except ValueError:
        raise WorkError(
            f"checkpoint {origin.checkpoint} draws pictures that are not finite: take an earlier --checkpoint"
        ) from None


def _file_name(number: int, label: str | None) -> str:
    """`synthetic-00007-finding`: the picture's number, and its class if it has one."""
    return f"synthetic-{number:05}" + ("-" + re.sub(r"[^\w-]+", "_", label)[:40] if label else "")


def _index(made: Made, folder: Path) -> None:
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(made.rows)


def _provenance(
    loaded: Loaded, request: Request, origin: Origin, audit: Audit | None, made: Made
) -> dict[str, object]:
    """How the pictures came about, for whoever gets them: no path, no name of a training image."""
    audited = audit and {
        "method": METHOD,
        "training_images": len(audit.references),
        "threshold": round(audit.threshold.value, 4),
        "real_images_above": round(audit.threshold.rate, 4),
        "real_images_compared": audit.threshold.images,
        "drawn": len(made.rows),
        "near_copies_replaced": made.near_copies,
    }
    return {
        "synthetic": True,
        "chexdist": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "model": origin.model,
        "checkpoint": origin.checkpoint,
        "weights": origin.weights,
        "manifest": loaded.manifest,
        "seed": request.seed,
        "n": request.n,
        "label": request.label,
        "format": request.format,
        "audit": audited,
    }
