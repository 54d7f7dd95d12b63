"""`python -m benchmarks.audit SHARDS`: which copies of training images the audit finds, as Markdown.

For each kind of copy (`metrics.planted`) and true rates of 0, 1, 10 and 100 %: the share of 2,000 images that
is flagged, and whether the reported interval holds the true rate. The 2,000 are drawn, with repetition, from
all training images changed in this way and from all held-out X-rays changed in the same way, twice each with
other draws. Then changes that are harder, or more than one at a time, by how many are found.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.machine import machine
from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.reader import SampleReader
from chexdist.errors import UserError, WorkError
from chexdist.evaluation.copies import Audit
from chexdist.metrics.near_copy_rate import verdict
from chexdist.metrics.planted import KINDS, planted

IMAGES = 2000
RATES = (0.0, 0.01, 0.1, 1.0)
HARDER = 160
"""Training images of which the harder copies are made."""
CHUNK = 64


def _blended(share: float) -> Callable[[Tensor], Tensor]:
    return lambda images: share * images + (1 - share) * images.roll(1, 0)


def _half(images: Tensor) -> Tensor:
    middle = images.shape[3] // 2
    return torch.cat([images[..., :middle], images.roll(1, 0)[..., middle:]], dim=3)


def _all_at_once(images: Tensor) -> Tensor:
    moved = images.flip(3)
    for kind in ("turned", "scaled", "shifted"):
        moved = planted(moved, kind)
    return moved


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "unchanged": lambda images: images,
    "another gamma (0.7)": lambda images: ((images + 1) / 2) ** 0.7 * 2 - 1,
    "blurred over 3 x 3 px": lambda images: functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False),
    "turned and noisy": lambda images: planted(planted(images, "turned"), "noisy"),
    "mirrored, turned, scaled and shifted": _all_at_once,
    "70 % of one and 30 % of another": _blended(0.7),
    "half of one and half of another, blended": _blended(0.5),
    "left half of one, right half of another": _half,
}


@dataclass(frozen=True)
class Row:
    """One kind of copy: how many are found, and for each true rate the share flagged and its interval."""

    kind: str
    found: float
    alarms: float
    by_rate: list[tuple[float, float, float, float, str]]  # true rate, flagged, low, high, verdict

    @property
    def held(self) -> bool:
        return all(low <= rate <= high for rate, _, low, high, _ in self.by_rate)


def images_of(manifest: Manifest, split: str) -> Tensor:
    """All images of a split [N, 1, S, S] in [-1, 1]."""
    reader = SampleReader(manifest, split, memory_mib=0)
    pixels = reader.read(list(range(len(manifest.splits[split])))).astype(np.int32)
    return to_unit_range(torch.from_numpy(pixels), manifest.bits, torch.float32)


def likeness(audit: Audit, images: Tensor) -> Tensor:
    """Of each image [N, 1, S, S] to the nearest training image: [N]."""
    return torch.cat([audit.likeness(part.clamp(-1, 1)) for part in images.split(CHUNK)])


def row(audit: Audit, kind: str, training: Tensor, held_out: Tensor) -> Row:
    """Measure one kind of copy."""
    limit = audit.threshold.value
    copies = likeness(audit, planted(training, kind, seed=1))
    others = torch.cat([likeness(audit, planted(held_out, kind, seed=seed)) for seed in (2, 3)])
    random = torch.Generator().manual_seed(0)

    def drawn(values: Tensor, n: int) -> Tensor:
        return values[torch.randint(len(values), (n,), generator=random)]

    by_rate = []
    for rate in RATES:
        n = round(rate * IMAGES)
        estimate = audit.rate(torch.cat([drawn(copies, n), drawn(others, IMAGES - n)]))
        assert estimate.low is not None and estimate.high is not None
        by_rate.append((rate, estimate.value, estimate.low, estimate.high, verdict(estimate)))
    found, alarms = ((values > limit).double().mean().item() for values in (copies, others))
    return Row(kind, found, alarms, by_rate)


def measure(shards: str) -> str:
    """The tables, as Markdown."""
    manifest = read_manifest(shards)
    start = time.perf_counter()
    audit = Audit(manifest)
    training = images_of(manifest, "train")
    held_out = torch.cat(
        [
            images_of(manifest, name)
            for name, split in manifest.splits.items()
            if name != "train" and len(split)
        ]
    )
    prepared = time.perf_counter() - start
    start = time.perf_counter()
    plain = likeness(audit, held_out)
    each = (time.perf_counter() - start) / len(held_out)
    about, now = machine(), datetime.now(UTC)
    lines = [
        (
            f"{now:%Y-%m-%d}, {about['cpu']}, {about['threads']} threads, {len(training)} training images of "
            f"{manifest.size} px, {len(held_out)} held-out X-rays; threshold {audit.threshold.value:.3f}; "
            f"prepared in {prepared:.0f} s, then {1000 * each:.0f} ms an image."
        ),
        "",
        f"Held-out X-rays taken for copies: {int((plain > audit.threshold.value).sum())} of {len(held_out)}.",
        "",
        "| kind of copy | found | false alarms | "
        + " | ".join(f"true rate {r:.0%}" for r in RATES)
        + " | held |",
        "|---|--:|--:|" + "--:|" * len(RATES) + "---|",
    ]
    for kind in KINDS:
        each_row = row(audit, kind, training, held_out)
        cells = [f"{a:.1%} [{low:.1%}, {high:.1%}]" for _, a, low, high, _ in each_row.by_rate]
        lines.append(
            f"| {kind} | {each_row.found:.1%} | {each_row.alarms:.1%} | "
            + " | ".join(cells)
            + f" | {'yes' if each_row.held else 'NO'} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", "| other changes | found |", "|---|--:|"]
    some = training[:: max(1, len(training) // HARDER)]
    for name, change in OTHERS.items():
        found = int((likeness(audit, change(some)) > audit.threshold.value).sum())
        lines.append(f"| {name} | {found} of {len(some)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("shards", metavar="SHARDS", help="a shard directory with held-out patients")
    options = parser.parse_args(arguments)
    try:
        with torch.no_grad():
            print(measure(options.shards))
        return 0
    except (UserError, WorkError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1


if __name__ == "__main__":
    sys.exit(main())
