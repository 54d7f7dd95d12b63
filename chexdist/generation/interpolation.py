"""Decides what lies between two seeds: pictures of latents on the great circle from one to the other."""

from dataclasses import asdict, dataclass
from pathlib import Path

from chexdist.evaluation.copies import Audit
from chexdist.generation import sheet
from chexdist.generation.judged import LEFT_OUT, audit_facts, judged, memorised
from chexdist.generation.pictures import preview
from chexdist.generation.produce import Made, class_number, conclude, origin_of, record, write
from chexdist.run.sampling import between, draw, sampled_labels, sampled_latents
from chexdist.run.trained import Loaded

STEPS = range(2, sheet.MOST + 1)
"""Pictures, the two ends included: all of them fit on one sheet."""


@dataclass(frozen=True)
class Way:
    """From the first picture of one seed to that of the other in `steps` pictures, all of one class: `label`,
    or the class of the first seed's picture. The rest as in a `Request`.
    """

    seeds: tuple[int, int]
    steps: int
    label: str | None
    format: str
    bits: int = 8
    truncation: float = 1.0


def interpolate(loaded: Loaded, way: Way, audit: Audit | None, folder: Path) -> Made:
    """Write the pictures, `index.csv`, `provenance.json` and `sheet.png` into an empty folder.

    A near-copy of a training image is left out, and its tile on the sheet is empty: nothing else lies at that
    step.

    Raises:
        WorkError: most pictures are near-copies, or they are not finite.
        OSError: the folder can't be written.
    """
    start, end = (sampled_latents(seed, range(1), loaded.config.model.latent)[0] for seed in way.seeds)
    number = class_number(loaded, way.label)
    if number is None:
        number = int(sampled_labels(way.seeds[0], range(1), loaded.class_counts)[0])
    label = list(loaded.classes)[number] if loaded.config.model.conditional else None
    latents = way.truncation * between(start, end, way.steps)
    images = draw(loaded.generator, latents, number)
    found = list(judged(images, range(way.steps), [label] * way.steps, way.bits, audit))
    made = Made(way.steps, sum(each.copied for each in found))
    if 2 * made.kept < made.drawn:
        raise memorised(made.near_copies, made.drawn)
    origin = origin_of(loaded, "-".join(map(str, way.seeds)), way.truncation)
    rows, shown = [], []
    for each in found:
        file = "" if each.copied else write(each, each.index, way.format, origin, folder)
        rows.append(each.row(file, origin.seed, LEFT_OUT))
        shown.append((label, None if each.copied else preview(each.pixels)))
    conclude(folder, loaded, origin, rows, shown)
    audited = audit_facts(audit, made.drawn, made.near_copies, "left_out")
    record(folder, loaded, asdict(way) | {"audit": audited})
    return made
