"""Which pictures of a run are shown: the grids of its newest evaluation by class, or else its newest training samples."""

import re
from dataclasses import dataclass
from pathlib import Path

from chexdist.report.collect import Run, classes
from chexdist.report.files import tidy
from chexdist.report.numbers import count
from chexdist.report.pictures import Picture, embed

MOST_CLASSES = 6


@dataclass(frozen=True)
class Figure:
    """A picture and its words. `run` is None for real X-rays; `place` is where it stands: alone, first of several, or next."""

    run: int | None
    place: str
    caption: str
    alt: str
    picture: Picture


def figures(runs: list[Run], with_real: bool) -> list[Figure]:
    """Generated images of every run, after real ones where the reader wants those and a run has them.

    Only files that hold generated images by their name are opened, so that no real X-ray gets in by itself.
    """
    found = _real(runs) if with_real else []
    for number, run in enumerate(runs):
        shown = _generated(run)
        for place, (path, images, what) in enumerate(shown):
            picture = embed(path)
            caption = f"{what}, after {count(images)} images{_reduced(picture)}"
            alt = f"A grid of synthetic chest X-rays drawn by {run.name}: {caption}"
            found.append(
                Figure(number, "first" if len(shown) > 1 and not place else "next", caption, alt, picture)
            )
    return found


def _generated(run: Run) -> list[tuple[Path, int, str]]:
    """Files with their number of images and what is in them."""
    newest = _newest_grid(run.path / "samples")
    if run.evaluations and (newest is None or run.evaluations[-1].images >= newest[1]):
        evaluation = run.evaluations[-1]
        grids = [(name, f"class {tidy(name)}") for name in classes(evaluation)] or [("all", "all images")]
        if (evaluation.folder / "all.png").exists():  # an unconditional model: no image is of a class
            grids = [("all", "unconditional")]
        paths = [(evaluation.folder / f"{name}.png", what) for name, what in grids if Path(name).name == name]
        found = [(path, evaluation.images, what) for path, what in paths if path.exists()]
        if found:
            return found[:MOST_CLASSES]
    return [(*newest, "samples while training")] if newest else []


def _newest_grid(folder: Path) -> tuple[Path, int] | None:
    found = [
        (int(match[1]), path)
        for path in folder.glob("images-*.png")
        if (match := re.fullmatch(r"images-([0-9]{1,15})\.png", path.name))
    ]
    images, path = max(found, default=(0, None))
    return (path, images) if path else None


def _real(runs: list[Run]) -> list[Figure]:
    """Runs on the same shards have the same real X-rays: each such picture once."""
    names: dict[str, list[str]] = {}
    pictures: dict[str, Picture] = {}
    for run in runs:
        path = run.path / "samples" / "real.png"
        if path.exists():
            picture = embed(path)
            pictures[picture.uri] = picture
            names.setdefault(picture.uri, []).append(run.name)
    found = []
    for uri, picture in pictures.items():
        whose = "" if len(names[uri]) == len(runs) else f", shown to {', '.join(names[uri])}"
        caption = f"training split{whose}{_reduced(picture)}"
        found.append(Figure(None, "alone", caption, f"A grid of real chest X-rays of the {caption}", picture))
    return found


def _reduced(picture: Picture) -> str:
    return ", reduced for this page" if picture.reduced else ""
