"""`python -m benchmarks.planted_labels SHARDS`: planted faults of labels and orientation, as Markdown.

The X-rays of one held-out split stand for generated ones, with one fault planted in all of them; each number
is beside that of the other held-out split, whose patients are other ones. A fault must move the number that
should see it out of the real images' interval (bold), and X-rays without a fault must move none.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from chexdist.data.manifest import Manifest, read_manifest
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.errors import UserError, WorkError
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.labels import LabelNumbers
from chexdist.evaluation.part import Observed
from chexdist.evaluation.reference import RealImages
from chexdist.metrics.patches import REFLECTIONS
from chexdist.metrics.value import Metric

NUMBERS = ("label_accuracy", "transfer_accuracy", *REFLECTIONS)
STANDS_IN, REFERENCE = "test", "val"


@dataclass(frozen=True)
class Taken:
    """Images [N, 1, S, S] in [-1, 1] and their classes, int64 [N]."""

    images: Tensor
    labels: Tensor


PLANTED: dict[str, Callable[[Taken], Taken]] = {
    "held-out X-rays": lambda taken: taken,
    "all mirrored": lambda taken: replace(taken, images=taken.images.flip(3)),
    "all upside down": lambda taken: replace(taken, images=taken.images.flip(2)),
    "all inverted": lambda taken: replace(taken, images=-taken.images),
    "turned by 180 degrees": lambda taken: replace(taken, images=taken.images.flip(2, 3)),
    "a quarter mirrored": lambda taken: replace(
        taken,
        images=torch.cat([taken.images[::4].flip(3), *(taken.images[n::4] for n in (1, 2, 3))]),
        labels=torch.cat([taken.labels[n::4] for n in range(4)]),
    ),
    "classes swapped": lambda taken: replace(taken, labels=taken.labels.max() - taken.labels),
    "classes by chance": lambda taken: replace(
        taken,
        labels=taken.labels[torch.randperm(len(taken.labels), generator=torch.Generator().manual_seed(0))],
    ),
}


def measured(manifest: Manifest, plant: Callable[[Taken], Taken]) -> dict[str, Metric]:
    """The numbers of the stand-in split with a fault, by name, those of real images under NAME/real."""
    real = RealImages(manifest, torch.device("cpu"), Collectives(World(0, 1, 0, 0), timeout_seconds=0))
    split = manifest.splits[STANDS_IN]
    images = real.images(STANDS_IN, range(len(split)))
    taken = plant(Taken(images, torch.from_numpy(split.label)))
    part, findings = LabelNumbers(real, REFERENCE), Findings(None, 0)
    part.prepare()
    kept = part.observe(taken.images)
    of_class = {name: kept[taken.labels == label] for label, name in enumerate(manifest.classes)}
    part.conclude(Observed(kept, taken.labels, of_class), findings)
    return {metric.name: metric for metric in findings.metrics}


def text(metric: Metric) -> str:
    return f"{metric.value:.2f} [{metric.low:.2f}, {metric.high:.2f}]"


def apart(one: Metric, other: Metric) -> bool:
    """Whether two intervals do not touch."""
    assert one.low is not None and one.high is not None and other.low is not None and other.high is not None
    return one.low > other.high or one.high < other.low


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards")
    try:
        manifest = read_manifest(parser.parse_args().shards)
        print("| planted | " + " | ".join(NUMBERS) + " |")
        print("|---|" + "--:|" * len(NUMBERS))
        for number, (name, plant) in enumerate(PLANTED.items()):
            found = measured(manifest, plant)
            if not number:
                real = [text(found[f"{each}/real"]) if each in found else "refused" for each in NUMBERS]
                print(f"| real, {REFERENCE} | " + " | ".join(real) + " |")
            cells = []
            for each in NUMBERS:
                marked = "**" if each in found and apart(found[each], found[f"{each}/real"]) else ""
                cells.append(f"{marked}{text(found[each])}{marked}" if each in found else "refused")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    except (UserError, WorkError) as error:
        print(f"planted_labels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
