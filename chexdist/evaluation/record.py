"""Decides what an evaluation leaves on the disk: a folder of its own by what was measured, and how."""

import hashlib
import json
from pathlib import Path

from chexdist.data.manifest import Manifest
from chexdist.errors import WorkError
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.measure import EvaluationOptions
from chexdist.evaluation.source import Source
from chexdist.run import draws, layout
from chexdist.run.directory import draw_grid
from shards.files import replace_file

GRID = 32
"""Images in a picture of a class."""


def write(
    owner: Path,
    origin: dict[str, object],
    source: Source,
    manifest: Manifest,
    options: EvaluationOptions,
    found: Findings,
) -> Path:
    """Write what was found into its folder below `owner`, and return the folder.

    The folder is named by all that decides the numbers, so that only the same measurement replaces it.
    `origin` heads the document. Draws and pictures come first, the numbers last, each under a temporary name
    that is then replaced.

    Raises:
        WorkError: it can't be written, or an image can't be drawn or read.
    """
    folder = layout.evaluation(
        owner, source.images, options.split, options.samples, options.seed, _digest(options, found)
    )
    document = origin | {
        "images": source.images,
        "split": options.split,
        "samples": options.samples,
        "pairs": options.pairs,
        "seed": options.seed,
        "protocols": found.protocols,
        "metrics": [metric.to_dict() for metric in found.metrics],
        "refused": found.refused,
    }
    labels = dict(enumerate(manifest.classes)) if source.conditional else {None: None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draws.write(layout.draws(folder), found.draws)
        for label, name in labels.items():
            available = source.available(label)
            rows = range(GRID if available is None else min(GRID, available))
            draw_grid(layout.evaluation_grid(folder, name), source.draw(rows, label))
        replace_file(folder / layout.EVALUATION, json.dumps(document, indent=1, allow_nan=False))
    except OSError as error:
        raise WorkError(f"{error.filename or folder}: {error.strerror or error}") from None
    return folder


def _digest(options: EvaluationOptions, found: Findings) -> str:
    """Eight hexadecimal digits of the protocols and of how many pairs were drawn."""
    decides = json.dumps([options.pairs, sorted(found.protocols)])
    return hashlib.sha256(decides.encode()).hexdigest()[:8]
