"""`python -m benchmarks.paired RUN --shards DIR`: whether paired differences of KID hold what they should.

All patients of the shards (every split) are the population. Each round draws some patients of it as the
reference, and images of two checkpoints of one run, and compares the two: by the paired difference, and by
two intervals as if they were independent. It counts how often the 95 % intervals hold the difference that the
whole population and all drawn images give.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.metrics.difference import Sample, paired_difference
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.kid import measure as kid
from chexdist.run import layout
from chexdist.run.trained import load_run

POOL = 4096
"""Images of each checkpoint that stand for all that it can draw."""
GENERATED = 512
"""Images of each checkpoint in a round."""


@dataclass(frozen=True)
class Features:
    """Of all real images [N, D] with their patients, and of POOL images of two checkpoints [POOL, D]."""

    real: Tensor
    patients: list[str]
    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Held:
    """What came of some rounds.

    truth: the difference by the whole population; holds: the share of rounds whose paired interval holds it;
    width, unpaired_width: mean widths of the paired interval, and of the one that two independent intervals
    give; settled: the share of rounds whose paired interval leaves out 0; apart: that of rounds whose two
    intervals do not overlap.
    """

    rounds: int
    patients: int
    truth: float
    holds: float
    width: float
    unpaired_width: float
    settled: float
    apart: float


def rounds(
    features: Features, patients: int, number: int, redraw: bool, generated: int = GENERATED, seed: int = 0
) -> Held:
    """`number` rounds with so many reference patients and generated images each. `redraw`: other generated
    images each time, and all that there are for the truth; else the first ones always.
    """
    random = np.random.default_rng(seed)
    names = np.array(sorted(set(features.patients)))
    all_rows = np.arange(len(features.a) if redraw else generated)
    whole = [kid(features.real, side[all_rows], features.patients).value for side in (features.a, features.b)]
    truth = whole[0] - whole[1]
    found = []
    for _ in range(number):
        shown = set(random.choice(names, patients, replace=False).tolist())
        kept = [i for i, patient in enumerate(features.patients) if patient in shown]
        rows = random.choice(all_rows, generated, replace=False) if redraw else all_rows
        known = [features.patients[i] for i in kept]
        a, b = (kid(features.real[kept], side[rows], known) for side in (features.a, features.b))
        found.append((a, b, paired_difference(_sample(a), _sample(b))))
    differences = [difference for _, _, difference in found]
    widths = [((a.high - a.low) ** 2 + (b.high - b.low) ** 2) ** 0.5 for a, b, _ in found]  # type: ignore[operator]
    return Held(
        rounds=number,
        patients=patients,
        truth=truth,
        holds=float(np.mean([each.low <= truth <= each.high for each in differences])),
        width=float(np.mean([each.high - each.low for each in differences])),
        unpaired_width=float(np.mean(widths)),
        settled=float(np.mean([each.sign != 0 for each in differences])),
        apart=float(np.mean([a.high < b.low or b.high < a.low for a, b, _ in found])),  # type: ignore[operator]
    )


def _sample(estimate: Estimate) -> Sample:
    if estimate.draws is None:
        raise ValueError("no draws")
    return Sample(estimate.value, estimate.draws.numpy())


def embed(run: str, shards: str, checkpoints: list[str]) -> Features:
    """Features of every real image, and of POOL images of each of two checkpoints."""
    manifest, extractor = read_manifest(shards), load_extractor()
    real, patients = [], []
    for name, split in manifest.splits.items():
        pixels = SampleReader(manifest, name, memory_mib=0).read([*range(len(split))])
        images = to_unit_range(torch.from_numpy(pixels.astype(np.int32)), manifest.bits, torch.float32)
        real.append(extractor.features(images))
        patients += split.patient.tolist()
    pools = []
    for checkpoint in checkpoints:
        loaded = load_run(run, checkpoint)
        chunks = [range(start, start + 64) for start in range(0, POOL, 64)]
        pools.append(torch.cat([extractor.features(loaded.sample(0, chunk)) for chunk in chunks]))
    return Features(torch.cat(real), patients, *pools)


def main(words: list[str] | None = None) -> int:
    """Measure, and print a line of JSON for each way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run directory with two checkpoints")
    parser.add_argument("--shards", required=True, metavar="DIR", help="what it was trained on")
    parser.add_argument("--patients", type=int, default=80, help="of a round's reference (default: 80)")
    parser.add_argument("--rounds", type=int, default=400, help="default: 400")
    options = parser.parse_args(words)
    newest = [path.name for path in layout.checkpoints(Path(options.run))[:2]]
    if len(newest) < 2:
        parser.error(f"{options.run} has no two checkpoints: train it with --checkpoint.keep 2 or more")
    features = embed(options.run, options.shards, newest)
    for redraw in (False, True):
        held = rounds(features, options.patients, options.rounds, redraw)
        print(json.dumps({"checkpoints": newest, "redraw": redraw} | asdict(held)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
