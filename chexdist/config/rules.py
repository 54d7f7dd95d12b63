"""Decides which settings can't be combined, and what a change between two starts of one run may be."""

from typing import Any

from chexdist.config.address import without_secrets
from chexdist.config.tree import NORMS, UPSAMPLINGS, Config, Loss, Model, Ramp
from chexdist.errors import UserError

FREE = {
    "data.shards",
    "data.cache",
    "data.cache_gib",
    "data.timeout",
    "data.workers",
    "data.memory",
    "train.images",
    "train.accumulate",
    "train.start",
    "train.unhealthy",
    "run.dir",
    "run.tracker",
}
FREE_SECTIONS = {"eval", "checkpoint", "control"}
"""What may differ when a run resumes: it does not change what is learned from the next image."""


def resolve(config: Config) -> Config:
    """Fill in what depends on other settings, and refuse what can't be combined.

    Raises:
        UserError: with the option, the rule and the cure.
    """
    norms = NORMS[config.model.name]
    norm = config.model.norm or norms[0]
    if norm not in norms:
        raise UserError(f"model.norm {norm}: a {config.model.name} critic takes {' or '.join(norms)}")
    if norm == "batch" and config.penalty.name != "none":
        raise UserError(
            f"model.norm batch with penalty.name {config.penalty.name}: batch norm makes one image's "
            "gradient depend on the others, so the penalty is not per sample; set model.norm to none, "
            "instance or group"
        )
    train = config.train
    if train.batch % train.group:
        raise UserError(
            f"train.batch {train.batch} is not a multiple of train.group {train.group}: a batch is whole "
            "groups; change one of them"
        )
    if norm == "batch" and train.group < 2:
        raise UserError(
            "train.group 1 with batch norm: one image has no batch statistics; set train.group to 8 or more"
        )
    if config.model.upsampling not in ("transposed", *UPSAMPLINGS[config.model.name]):
        raise UserError(
            f"model.upsampling {config.model.upsampling}: the generator of a {config.model.name} has no such "
            "choice; set it to transposed"
        )
    probability = config.augment.probability
    if isinstance(probability, Ramp) and max(probability.start, probability.end) > 1:
        raise UserError("augment.probability: a ramp of probabilities stays within 0 and 1")
    weight = config.penalty.weight
    if weight == "auto":
        weight = automatic_weight(config)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"norm": norm}),
            "penalty": config.penalty.model_copy(update={"weight": weight}),
        }
    )


def automatic_weight(config: Config) -> float:
    """The penalty's weight by rule: of the gradient penalty that of its paper; of the others 0.0002 size^2 /
    batch.

    Karras 2020, "Training Generative Adversarial Networks with Limited Data", appendix C: the gradient by an
    image grows with its pixels, and a smaller batch needs a larger weight."""
    if config.penalty.name == "gp":
        return 10.0
    return 0.0002 * config.model.size**2 / config.train.batch


def check_world(config: Config, world_size: int) -> None:
    """Refuse more ranks, or more accumulation, than the batch has groups.

    Raises:
        UserError: with the numbers.
    """
    groups = config.train.batch // config.train.group
    if world_size > groups:
        raise UserError(
            f"{world_size} ranks, but train.batch {config.train.batch} has {groups} groups of train.group "
            f"{config.train.group}: a rank needs one at least; raise train.batch or lower train.group"
        )
    if config.train.accumulate > groups // world_size:
        raise UserError(
            f"train.accumulate {config.train.accumulate}, but a rank of {world_size} may have only "
            f"{groups // world_size} groups: lower train.accumulate or train.group"
        )


def shareable(config: Config) -> dict[str, Any]:
    """All settings as nested dictionaries, without what a URL may hold of passwords."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    settings["data"]["shards"] = without_secrets(config.data.shards)
    return settings


def frozen(config: Config) -> dict[str, Any]:
    """The settings that must not change when a run resumes, as `section.key` -> value."""
    leaves: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif prefix not in FREE and prefix.split(".")[0] not in FREE_SECTIONS:
            leaves[prefix] = value

    walk("", config.model_dump(mode="json"))
    return leaves


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`section.key was A, is B` for each frozen setting that is neither the same nor `auto`.

    A setting that did not exist when the run began had its default."""
    defaults = frozen(Config(model=Model(name="vanilla"), loss=Loss(name="hinge")))
    was = {**{key: defaults.get(key) for key in now}, **before}
    return [
        f"{key} was {was[key]}, is {now.get(key)}"
        for key in sorted(was)
        if now.get(key) not in (was[key], "auto")
    ]


def check_unchanged(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to resume a run under other settings.

    Raises:
        UserError: naming each setting that differs.
    """
    changed = differences(before, now)
    if changed:
        raise UserError(
            f"this run began with other settings: {'; '.join(changed)}. Set them as they were, or choose "
            "another run.dir"
        )
