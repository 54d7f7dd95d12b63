"""Trainings with a planted fault, as a user would make it, and the verdict that each should end with.

    python tests/helpers/planted.py SHARDS OUT [NAME ...]

trains them one after another on 32 px shards, in OUT/NAME, and prints what they were judged to be;

    python tests/helpers/planted.py --record OUT FILE.json

keeps of those that are there what the fast tests judge."""

import json
import sys
from pathlib import Path

COMMON = (
    *("--model.size", "32", "--model.width", "8", "--train.images", "12000", "--eval.every", "4000"),
    *("--eval.samples", "128", "--checkpoint.every", "0", "--train.precision", "no", "--data.workers", "0"),
)

PLANTED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "short": ("dcgan", (), ("worse than the mean image", "too early", "healthy")),
    "residual": ("residual", (), ("healthy", "too early")),
    "critic-rate-0": ("dcgan", ("--optim.critic.lr", "1e-12"), ("critic at chance",)),
    "generator-rate-0": ("dcgan", ("--optim.generator.lr", "1e-12"), ("critic wins",)),
    "rate-x100": (
        "dcgan",
        ("--optim.generator.lr", "5e-2", "--optim.critic.lr", "5e-2"),
        ("diverged", "collapsed"),
    ),
    # of so small a network neither of these is a fault: KID falls below the mean image's
    "rate-x10": ("dcgan", ("--optim.generator.lr", "5e-3", "--optim.critic.lr", "5e-3"), ("healthy",)),
    "r1-x20": ("dcgan", ("--penalty.weight", "0.256"), ("healthy",)),
    "r1-x1000": ("dcgan", ("--penalty.weight", "12.8"), ("critic at chance",)),
    "ema-still": (
        "dcgan",
        ("--ema.halflife", "1e12", "--ema.ramp", "0"),
        ("worse than the mean image",),
    ),
    # these two were recorded from 20 training images, and with latents set to zero in the sources
    "few-images": ("dcgan", ("--penalty.name", "none", "--augment.name", "none"), ("critic memorises",)),
    "latent-ignored": ("dcgan", (), ("collapsed",)),
    "vanilla": ("vanilla", (), ("healthy", "too early")),
    "wgan-gp": ("wgan-gp", (), ("healthy", "too early")),
    "wgan-critic-rate-0": ("wgan-gp", ("--optim.critic.lr", "1e-12"), ("critic at chance", "diverged")),
    "wgan-generator-rate-0": ("wgan-gp", ("--optim.generator.lr", "1e-12"), ("critic wins",)),
}
"""Configuration, settings, and the verdicts that are right."""


def train(name: str, shards: Path, run: Path) -> dict[str, str]:
    """Train it, and return what the status says of its health."""
    from chexdist.__main__ import main

    config, more, _ = PLANTED[name]
    main(["train", "--config", config, "--data.shards", str(shards), "--run.dir", str(run), *COMMON, *more])
    health: dict[str, str] = json.loads((run / "status.json").read_text())["health"]
    return health


JUDGED = ("loss/critic", "kid_x1000", "kid_x1000/mean_image", "kid_x1000/real", "health/")


def record(out: Path, file: Path) -> None:
    """Of each run in `out`: its settings, and the lines of its log that a verdict depends on."""
    from chexdist.report.files import read_metrics, read_settings

    found = {}
    for run in sorted(out.iterdir()):
        lines = [
            [
                each.images,
                each.name,
                *(value and round(value, 4) for value in (each.value, each.low, each.high)),
            ]
            for each in read_metrics(run)
            if each.name in JUDGED or each.name.startswith("health/") and "score" not in each.name
        ]
        settings = read_settings(run / "config.yaml") or {}
        settings = {key: each for key, each in settings.items() if not key.startswith(("data.", "run."))}
        found[run.name] = {"settings": settings, "log": lines}
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in found.items())
    file.write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    if sys.argv[1] == "--record":
        record(Path(sys.argv[2]), Path(sys.argv[3]))
        sys.exit()
    shards, out, *names = sys.argv[1:]
    for name in names or PLANTED:
        health = train(name, Path(shards), Path(out) / name)
        right = health["verdict"] in PLANTED[name][2]
        print(
            f"{name}: {health['verdict']} ({'right' if right else 'wrong'}): {health['numbers']}", flush=True
        )
