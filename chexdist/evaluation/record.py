"""Decides what an evaluation leaves on the disk: a folder of its own by what was measured, and how."""

import hashlib
import json
import time
from pathlib import Path

import torch
import yaml

from chexdist.config.address import without_secrets
from chexdist.data.manifest import Manifest
from chexdist.distributed.world import World
from chexdist.errors import UserError, WorkError
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.measure import EvaluationOptions
from chexdist.evaluation.pictures_source import Pictures, PicturesSource
from chexdist.evaluation.source import GeneratorSource, Source
from chexdist.run import draws, layout
from chexdist.run.directory import draw_grid
from chexdist.run.provenance import provenance
from shards.files import clear_partial, locked, replace_file

GRID = 32
"""Images in a picture of a class."""
MOST_WAYS = 4
"""Classes of which images between latents are drawn."""


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
        "closest": [
            {"image": pair.image, "training": pair.key, "likeness": round(pair.likeness, 4)}
            for pair in found.closest
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder) as alone:
            if alone:
                clear_partial(folder)
            _write(folder, document, source, manifest, found)
    except OSError as error:
        raise WorkError(f"{error.filename or folder}: {error.strerror or error}") from None
    return folder


def _write(
    folder: Path, document: dict[str, object], source: Source, manifest: Manifest, found: Findings
) -> None:
    labels = dict(enumerate(manifest.classes)) if source.conditional else {None: None}
    draws.write(layout.draws(folder), found.draws)
    for label, name in labels.items():
        available = source.available(label)
        rows = range(GRID if available is None else min(GRID, available))
        draw_grid(layout.evaluation_grid(folder, name), source.draw(rows, label))
    if isinstance(source, GeneratorSource):
        layout.interpolation(folder).parent.mkdir(exist_ok=True)
        ways = [source.ways(label) for label in [*labels][:MOST_WAYS]]
        draw_grid(layout.interpolation(folder), torch.cat(ways))
    if found.closest:
        layout.closest(folder).parent.mkdir(exist_ok=True)
        pairs = [each for pair in found.closest for each in (pair.picture, pair.training)]
        draw_grid(layout.closest(folder), torch.stack(pairs))
    replace_file(folder / layout.EVALUATION, json.dumps(document, indent=1, allow_nan=False))


def _digest(options: EvaluationOptions, found: Findings) -> str:
    """Eight hexadecimal digits of the protocols and of how many pairs were drawn."""
    decides = json.dumps([options.pairs, sorted(found.protocols)])
    return hashlib.sha256(decides.encode()).hexdigest()[:8]


def check_owner(folder: Path, pictures: Path) -> None:
    """Make sure that evaluations of these pictures may be written below `folder`.

    Raises:
        UserError: it is among the pictures, or holds something else.
    """
    try:
        inside = folder.resolve().is_relative_to(pictures.resolve())
        other = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        ours = _state(folder) == layout.PICTURES
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--out {str(folder)!r:.200}: {error}") from None
    if inside:
        raise UserError(f"--out {folder} is among the pictures: choose a folder beside {pictures}")
    if other and not ours:
        raise UserError(f"--out {folder} holds something else than evaluations of pictures: choose another")


def _state(folder: Path) -> object:
    try:
        document = json.loads((folder / layout.STATUS).read_bytes()[: 1 << 20])
    except (OSError, ValueError, RecursionError):
        return None
    return document.get("state") if isinstance(document, dict) else None


def describe_pictures(owner: Path, source: PicturesSource, manifest: Manifest, split: str) -> None:
    """Write what makes `owner` stand beside runs in a report: settings, provenance, and its state.

    Raises:
        WorkError: it can't be written.
    """
    pictures: Pictures = source.pictures
    described = {
        "model": {"size": manifest.size, "conditional": source.conditional},
        "data": {"shards": without_secrets(str(manifest.directory))},
        "eval": {"split": split},
        "pictures": {"count": len(pictures.files), "side": pictures.side, "sha256": pictures.sha256},
    }
    state = {"state": layout.PICTURES, "images": source.images, "rank": 0, "cause": None, "time": time.time()}
    facts = provenance(manifest, World(0, 1, 0, 0))
    try:
        owner.mkdir(parents=True, exist_ok=True)
        replace_file(owner / layout.STATUS, json.dumps(state))
        replace_file(owner / layout.CONFIG, yaml.safe_dump(described, sort_keys=False))
        replace_file(owner / layout.PROVENANCE, json.dumps(facts, indent=1))
    except OSError as error:
        raise WorkError(f"{error.filename or owner}: {error.strerror or error}") from None
