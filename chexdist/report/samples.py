"""Decides which pictures of a run are shown: of its newest evaluation by class, or else of training."""

from dataclasses import dataclass
from pathlib import Path

from chexdist.report.collect import RunRecord, classes
from chexdist.report.files import tidy
from chexdist.report.numbers import count
from chexdist.report.pictures import Picture, embed
from chexdist.run import layout

MOST_CLASSES = 6


@dataclass(frozen=True)
class Figure:
    """A picture and its words. `run` is None for real X-rays; `position` in the row: alone, first or next."""

    run: int | None
    position: str
    caption: str
    alt: str
    picture: Picture


def figures(runs: list[RunRecord], with_real: bool) -> list[Figure]:
    """Generated images of every run, after real ones where the reader wants those and a run has them.

    Only files that hold generated images by their name are opened, so that no real X-ray gets in by itself.
    """
    found = _real(runs) if with_real else []
    for number, run in enumerate(runs):
        shown = _generated(run)
        for index, (path, images, what) in enumerate(shown):
            picture = embed(path)
            position = "first" if len(shown) > 1 and index == 0 else "next"
            caption = f"{what}, after {count(images)} images{_reduced(picture)}"
            alt = f"A grid of synthetic chest X-rays drawn by {run.name}: {caption}"
            found.append(Figure(number, position, caption, alt, picture))
    return found


def _generated(run: RunRecord) -> list[tuple[Path, int, str]]:
    """Files with their number of images and what is in them."""
    images, path = max(layout.samples(run.path).items(), default=(0, None))
    newest = (path, images) if path else None
    if run.evaluations and (newest is None or run.evaluations[-1].images >= newest[1]):
        evaluation = run.evaluations[-1]
        whole = layout.evaluation_grid(evaluation.folder, None)
        names = [name for name in classes(evaluation) if Path(name).name == name]
        paths = [(layout.evaluation_grid(evaluation.folder, name), f"class {tidy(name)}") for name in names]
        if whole.exists():  # an unconditional model: no image is of a class
            paths = [(whole, "unconditional")]
        found = [(path, evaluation.images, what) for path, what in paths if path.exists()]
        if found:
            return found[:MOST_CLASSES]
    return [(*newest, "samples while training")] if newest else []


def _real(runs: list[RunRecord]) -> list[Figure]:
    """Runs on the same shards have the same real X-rays: each such picture once."""
    names: dict[str, list[str]] = {}
    pictures: dict[str, Picture] = {}
    for run in runs:
        path = layout.real_samples(run.path)
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
