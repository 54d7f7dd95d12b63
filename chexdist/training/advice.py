"""Decides what of a configuration is unusual for its size and number of images, before anything is trained.

The rules are of thumb, those of docs/health.md, so none is a fault. Training and the doctor say them."""

from dataclasses import dataclass

from chexdist.config.rules import automatic_weight
from chexdist.config.tree import Adam, Config, Ramp
from chexdist.run.cures import FEW_IMAGES_PER_PIXEL

LEAST_RATE, MOST_RATE, MOST_RATIO = 5e-5, 2e-3, 5.0
LARGE_BATCH, RATE_OF_16 = 64, 5e-4
"""From where rates should follow the batch, and Adam's usual rate for 16 images, from which they do."""
SLOW = 2.5
"""How many times lower than that a rate may be."""
FAR = 4.0
"""Times the rule, or less than one of so many parts of it, from which a penalty's weight is unusual."""
FEW_UPDATES = 5_000
MOST_HALFLIFE = 0.1


@dataclass(frozen=True)
class Advice:
    """One setting that is unusual, and what is usual."""

    text: str
    cure: str

    def __str__(self) -> str:
        return f"{self.text}; usual: {self.cure}"


def advice(config: Config, images: int | None) -> list[Advice]:
    """What is unusual about a training on so many images, the gravest first; None: they are not known yet."""
    found = [*_weight(config), *_rates(config), *_rates_of_a_large_batch(config)]
    train = config.train
    if images is not None:
        found += _few(config, images)
    updates = train.images // (train.batch * train.n_critic)
    if updates < FEW_UPDATES:
        needed = FEW_UPDATES * train.batch * train.n_critic
        cure = f"--train.images {needed} or more, or a smaller --train.batch"
        found.append(Advice(f"{updates:,} updates of the generator, below {FEW_UPDATES:,}", cure))
    if not config.ema.ramp and config.ema.halflife > MOST_HALFLIFE * train.images:
        text = f"ema.halflife {config.ema.halflife:g} in a training of {train.images:,} images"
        found.append(Advice(f"{text}, so the averaged generator lags far behind", "--ema.ramp 0.05"))
    return found


def _few(config: Config, images: int) -> list[Advice]:
    found, side = [], config.model.size
    enough = FEW_IMAGES_PER_PIXEL * side
    if images < enough and config.augment.name == "none":
        cure = f"--augment.name translate-color --augment.probability 0.4, or {enough} images"
        found.append(Advice(f"{images} training images for {side} px, without augmentation", cure))
    elif images < side:
        cure = "hundreds at least: a critic soon knows so few by heart"
        found.append(Advice(f"{images} training images for {side} px", cure))
    if config.train.batch > images / 2:
        found.append(Advice(f"train.batch {config.train.batch} of {images} images", "at most half of them"))
    return found


def _weight(config: Config) -> list[Advice]:
    weight, rule = config.penalty.weight, automatic_weight(config)
    value = weight.start if isinstance(weight, Ramp) else weight
    if config.penalty.name == "none" or isinstance(value, str) or not value:
        return []
    factor = value / rule
    if 1 / FAR <= factor <= FAR:
        return []
    times = f"{factor:.0f} times" if factor > 1 else f"1/{1 / factor:.0f} of"
    why = "and holds the critic down" if factor > 1 else "and hardly holds the critic"
    text = f"penalty.weight {value:g} of {config.penalty.name} is {times} the rule for"
    text += f" {config.model.size} px and batches of {config.train.batch}, {why}"
    return [Advice(text, f"--penalty.weight auto, {rule:.3g}")]


def _rates(config: Config) -> list[Advice]:
    rates = {"generator": _rate(config.optim.generator), "critic": _rate(config.optim.critic)}
    found = [
        Advice(f"optim.{name}.lr {rate:g}", "2e-4 to 1e-3 with Adam")
        for name, rate in rates.items()
        if not LEAST_RATE <= rate <= MOST_RATE
    ]
    ratio = rates["critic"] / rates["generator"] if rates["generator"] else 1.0
    if not found and not 1 / MOST_RATIO <= ratio <= MOST_RATIO:
        found.append(
            Advice(f"the critic's learning rate is {ratio:.2g} times the generator's", "1/2 to 4 times")
        )
    return found


def _rates_of_a_large_batch(config: Config) -> list[Advice]:
    """Adam's rates grow with the square root of the batch (Malladi et al. 2022, arXiv:2205.10287);
    docs/many-ranks.md has what was measured.
    """
    batch = config.train.batch
    if batch < LARGE_BATCH:
        return []
    usual = min(MOST_RATE, RATE_OF_16 * (batch / 16) ** 0.5)
    rates = {"generator": _rate(config.optim.generator), "critic": _rate(config.optim.critic)}
    return [
        Advice(f"optim.{name}.lr {rate:g} with batches of {batch:,}", f"about {usual:.2g}")
        for name, rate in rates.items()
        if LEAST_RATE <= rate < usual / SLOW
    ]


def _rate(adam: Adam) -> float:
    return max(adam.lr.start, adam.lr.end) if isinstance(adam.lr, Ramp) else adam.lr
