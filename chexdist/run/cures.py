"""Decides what is advised against each fault of a training: settings, first what helps most often.

The rules are those of docs/health.md; where a setting is far from its rule, that comes first."""

from collections.abc import Mapping

USUAL_RATES = (1e-4, 1e-3)
"""Learning rates of Adam between which the shipped configurations are, and what is usual for GANs."""

FEW_IMAGES_PER_PIXEL = 8
"""Training images for each pixel of a side below which a GAN without augmentation learns them by heart."""


def rule_of_weight(settings: Mapping[str, object]) -> float | None:
    """The penalty's weight by rule (`config.rules.automatic_weight`); None where there is none."""
    size, batch = number(settings, "model.size"), number(settings, "train.batch")
    if settings.get("penalty.name") not in ("r1", "r2", "r1+r2") or not size or not batch:
        return None
    return 0.0002 * size**2 / batch


def number(settings: Mapping[str, object], key: str) -> float | None:
    """A setting's value; a ramp's at its start."""
    for name in (key, f"{key}.start"):
        try:
            return float(str(settings[name]))
        except (KeyError, ValueError):
            continue
    return None


def _rates(settings: Mapping[str, object]) -> list[str]:
    """A word on each learning rate that is not usual."""
    said = []
    for network in ("generator", "critic"):
        rate = number(settings, f"optim.{network}.lr")
        if rate is not None and not USUAL_RATES[0] / 2 <= rate <= USUAL_RATES[1]:
            said.append(f"--optim.{network}.lr 5e-4: {rate:g} is unusual, 2e-4 to 1e-3 is usual with Adam")
    return said


def _weight(settings: Mapping[str, object], which: str) -> list[str]:
    rule, weight = rule_of_weight(settings), number(settings, "penalty.weight")
    if rule is None or not weight:
        return []
    factor = weight / rule
    if which == "lower" and factor > 3:
        return [f"--penalty.weight auto: {weight:g} is {factor:.0f} times the rule, {rule:.3g}"]
    if which == "raise" and factor < 1 / 3:
        return [f"--penalty.weight auto: {weight:g} is {factor:.2g} of the rule, {rule:.3g}"]
    return []


def _more_images(settings: Mapping[str, object]) -> str:
    size = number(settings, "model.size")
    enough = f", {FEW_IMAGES_PER_PIXEL * size:.0f} or more for {size:.0f} px" if size else ""
    return f"train on more images{enough}"


def cures(verdict: str, settings: Mapping[str, object], unmoved: bool = False) -> tuple[str, ...]:
    """What usually helps against a verdict, in order.

    unmoved: whether the averaged generator still is the untrained one.
    """
    penalised = settings.get("penalty.name") not in (None, "none")
    augmented = settings.get("augment.name") not in (None, "none")
    add_penalty = [] if penalised else ["--penalty.name r1 --penalty.weight auto"]
    add_augment = (
        ["raise --augment.probability"]
        if augmented
        else ["--augment.name translate-color --augment.probability 0.4"]
    )
    rates = _rates(settings)
    found: list[str] = []
    if verdict == "critic at chance":
        found = _weight(settings, "lower") + rates
        found += ["lower --penalty.weight by 4"] if penalised and not _weight(settings, "lower") else []
        found += ["raise --optim.critic.lr, to twice the generator's", "--config residual"]
        found += ["lower --augment.probability"] if augmented else []
    elif verdict == "critic wins":
        found = rates + _weight(settings, "raise") + add_penalty
        found += ["lower --optim.critic.lr, or raise --optim.generator.lr", *add_augment]
    elif verdict == "critic memorises":
        found = add_augment + add_penalty + _weight(settings, "raise")
        found += [_more_images(settings), "lower --model.width"]
    elif verdict == "collapsed":
        found = rates + add_penalty + _weight(settings, "raise")
        found += ["--loss.name relativistic --penalty.name r1+r2", "--config residual"]
        found += ["raise --train.batch", "more images of a class that is rare"]
    elif verdict == "worse than the mean image":
        if unmoved:
            found = ["lower --ema.halflife, or set --ema.ramp 0.05: the average has not moved yet"]
        found += rates + _weight(settings, "lower") + ["raise --train.images"]
        found += [] if number(settings, "ema.ramp") else ["--ema.ramp 0.05"]
        found += ["--config residual"]
    elif verdict == "past its best":
        found = ["generate with --checkpoint best", *add_augment, *add_penalty]
        found += ["let the learning rates fall, as {start: 5e-4, end: 5e-5, images: N}"]
    elif verdict == "diverged":
        found = rates + add_penalty
        found += [] if rates else ["lower --optim.critic.lr and --optim.generator.lr by 4"]
        found += [] if settings.get("clip.name") == "norm" else ["--clip.name norm --clip.value 1"]
        found += [] if settings.get("train.precision") == "no" else ["--train.precision no"]
    elif verdict == "labels swapped":
        found = [
            "look at both splits: chexdist-shards preview DIR --out sheet.png",
            "build the shards anew from labels that say the same of all sources",
            "resume from a checkpoint of before",
        ]
    elif verdict == "too early":
        found = ["train on, until two evaluations are below the mean image's KID"]
    return tuple(dict.fromkeys(found))
