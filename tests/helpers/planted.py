"""Trainings with a planted fault, and the verdicts that are right.

    python tests/helpers/planted.py SHARDS OUT [--seed N] [NAME ...]

trains them one after another on 32 px shards, in OUT/NAME, and prints what they were judged to be. SHARDS-20
beside SHARDS has 20 training images. Names are those of CASES, or how they begin or end;

    python tests/helpers/planted.py --record FILE.json LABEL=OUT ...

keeps of those that are there what the fast tests judge, of each in OUT/NAME as NAME@LABEL."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

COMMON = (
    *("--model.size", "32", "--model.width", "8", "--train.images", "8000", "--eval.every", "2000"),
    *("--eval.samples", "128", "--checkpoint.every", "0", "--train.precision", "no", "--data.workers", "0"),
)
RATES = {
    "vanilla": (1e-3, 1e-3),
    "wgan-clip": (4e-4, 2e-4),
    "wgan-gp": (4e-4, 4e-4),
    "dcgan": (5e-4, 5e-4),
    "residual": (5e-4, 5e-4),
}
"""Learning rates of generator and critic in the recorded trainings."""
WEIGHTS = {"wgan-gp": 10.0, "dcgan": 0.0128, "residual": 0.0256}
"""The penalty's weight that the shipped configurations have at 32 px."""
HALFWAY = 4_000
LONG = ("--train.images", "16000", "--eval.every", "4000")
"""A generator learns what labels mean later than how chests look."""
SETTLED = ("healthy", "too early", "worse than the mean image")
"""So short a training need not be below the mean image's KID."""


@dataclass(frozen=True)
class Case:
    """A configuration, what is changed of it, and the verdicts that are right.

    plant: makes the fault that no setting makes; few: whether there are 20 training images.
    """

    config: str
    verdicts: tuple[str, ...]
    settings: tuple[str, ...] = ()
    plant: Callable[[str], Any] | None = None
    few: bool = False


def rates(gan: str, generator: float = 1.0, critic: float = 1.0) -> tuple[str, ...]:
    """These learning rates times so much."""
    shipped = RATES[gan]
    return (
        *("--optim.generator.lr", f"{shipped[0] * generator:g}"),
        *("--optim.critic.lr", f"{shipped[1] * critic:g}"),
    )


@contextmanager
def _generator(gan: str, keep: Callable[[Any], Any]) -> Iterator[None]:
    """A generator that sees its latents times what `keep` makes of the labels."""
    from chexdist.gan.models import FAMILIES

    family = FAMILIES[gan.partition("-")[0]].Generator
    forward = family.forward
    with patch.object(family, "forward", lambda self, z, y: forward(self, z * keep(y)[:, None], y)):
        yield


def latent_ignored(gan: str) -> Any:
    return _generator(gan, lambda label: 0 * label)


def class_collapsed(gan: str) -> Any:
    """Of class 1 the generator sees no latents."""
    return _generator(gan, lambda label: (label != 1).int())


@contextmanager
def labels_swapped(gan: str, after: int = 0) -> Iterator[None]:
    """Training images have each other's labels."""
    from chexdist.training.step import Step

    step = Step.__call__

    def swapped(self: Step, t: int, images: Any, labels: Any) -> None:
        swap = t * self.gan.config.train.batch >= after
        step(self, t, images, labels.max() - labels if swap else labels)

    with patch.object(Step, "__call__", swapped):
        yield


def labels_swapped_halfway(gan: str) -> Any:
    return labels_swapped(gan, HALFWAY)


def _cases() -> Iterator[tuple[str, Case]]:
    for gan in RATES:
        yield f"{gan}-shipped", Case(gan, SETTLED)
        yield f"{gan}-critic-rate-0", Case(gan, ("critic at chance", "diverged"), rates(gan, critic=1e-9))
        yield f"{gan}-generator-rate-0", Case(gan, ("critic wins",), rates(gan, generator=1e-9))
        blown = ("diverged", "collapsed")
        if gan.startswith("wgan"):  # its losses have no scale that they could leave
            blown += ("critic at chance", "worse than the mean image")
        yield f"{gan}-rate-x100", Case(gan, blown, rates(gan, 100, 100))
        yield f"{gan}-rate-x10", Case(gan, (*SETTLED, *blown), rates(gan, 10, 10))
        still = ("--ema.halflife", "1e12", "--ema.ramp", "0")
        yield f"{gan}-ema-still", Case(gan, ("worse than the mean image",), still)
        yield f"{gan}-latent-ignored", Case(gan, ("collapsed",), plant=latent_ignored)
        yield f"{gan}-class-collapsed", Case(gan, ("collapsed",), plant=class_collapsed)
        if gan in ("dcgan", "residual"):  # the others learn nothing of labels in so short a training
            yield f"{gan}-labels-swapped", Case(gan, ("labels swapped",), LONG, labels_swapped)
            yield f"{gan}-labels-halfway", Case(gan, ("labels swapped",), LONG, labels_swapped_halfway)
            few = (*LONG, "--augment.name", "none", "--penalty.name", "none")
            yield f"{gan}-few-images", Case(gan, ("critic memorises",), few, few=True)
        if gan in WEIGHTS:
            right = {20: (*SETTLED, "critic at chance"), 1000: ("critic at chance",)}
            for times, verdicts in right.items():
                weight = ("--penalty.weight", f"{WEIGHTS[gan] * times:g}")
                yield f"{gan}-weight-x{times}", Case(gan, verdicts, weight)


CASES = dict(_cases())


def train(name: str, shards: Path, run: Path, *more: str) -> dict[str, str]:
    """Train it, and return what the status says of its health."""
    from chexdist.__main__ import main

    case = CASES[name]
    data = shards.with_name(f"{shards.name}-20") if case.few else shards
    command = ["train", "--config", case.config, "--data.shards", str(data), "--run.dir", str(run)]
    with case.plant(case.config) if case.plant else nullcontext():
        main([*command, *COMMON, *case.settings, *more])
    health: dict[str, str] = json.loads((run / "status.json").read_text())["health"]
    return health


JUDGED = (
    *("loss/critic", "kid_x1000", "health/wins", "health/gradient", "health/score_real_std"),
    *("health/diversity", "health/labels", "health/training_over_held_out", "health/kid_over_best"),
)
"""How the names of the lines begin that a verdict is made of."""
MOST = 20_000
"""Images of a run that are kept."""


def record(file: Path, labelled: dict[str, Path]) -> None:
    """Of each run in the folders: its settings, and the lines of its log that a verdict depends on."""
    from chexdist.report.files import read_metrics, read_settings

    found = {}
    for label, out in labelled.items():
        for run in sorted(path for path in out.iterdir() if (path / "metrics.jsonl").exists()):
            lines = [
                [
                    each.images,
                    each.name,
                    *(value and float(f"{value:.4g}") for value in (each.value, each.low, each.high)),
                ]
                for each in read_metrics(run)
                if each.images <= MOST and each.name.startswith(JUDGED)
            ]
            settings = read_settings(run / "config.yaml") or {}
            settings = {
                key: each
                for key, each in settings.items()
                if not key.startswith(("data.", "run.", "eval.", "checkpoint.", "control."))
            }
            found[f"{run.name}@{label}"] = {"settings": settings, "log": lines}
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in found.items())
    file.write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--seed", default="0")
    parser.add_argument("words", nargs="+")
    options = parser.parse_args()
    first, *names = options.words
    if options.record:
        record(Path(first), {word.partition("=")[0]: Path(word.partition("=")[2]) for word in names})
    else:
        shards, out, names = Path(first), Path(names[0]), names[1:]
        wanted = [
            name
            for name in CASES
            if not names or any(name.startswith(each) or name.endswith(each) for each in names)
        ]
        for name in wanted:
            health = train(name, shards, out / name, "--train.seed", options.seed)
            right = "right" if health["verdict"] in CASES[name].verdicts else "WRONG"
            print(f"{name}: {health['verdict']} ({right}): {health['numbers']}", flush=True)
