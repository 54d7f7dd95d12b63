"""Decides which trainings the promise tests compare: every combination of the registries' entries."""

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

from chexdist.config.load import build_config
from chexdist.config.rules import NORMS
from chexdist.config.tree import Config
from chexdist.errors import UserError
from chexdist.gan import clips
from chexdist.gan.augment import AUGMENTS
from chexdist.gan.losses import LOSSES
from chexdist.gan.models import FAMILIES
from chexdist.gan.penalties import PENALTIES

BATCH = 16
GROUP = 2
SIZE = 32
NORM_NAMES = tuple(dict.fromkeys(norm for norms in NORMS.values() for norm in norms))
WEIGHT_CLIPS = [name for name, clip in clips.CLIPS.items() if isinstance(clip, clips.WeightClip)]
CLIPS = {name: 0.015 if name in WEIGHT_CLIPS else 0.05 for name in clips.CLIPS if name != "none"}
"""Clips by name, with a value that bites on these networks."""


@dataclass(frozen=True)
class Case:
    """A training: settings as `section.key` -> value, and how many batches are compared."""

    name: str
    settings: dict[str, Any] = field(hash=False)
    batches: int = 2

    def config(self, accumulate: int = 1) -> Config:
        """The resolved configuration; raises `UserError` when the settings contradict each other."""
        tree: dict[str, dict[str, Any]] = {
            "model": {"size": SIZE, "latent": 8, "width": 2},
            "loss": {},
            "train": {"batch": BATCH, "group": GROUP, "seed": 7, "accumulate": accumulate, "precision": "no"},
            "ema": {"halflife": 2 * BATCH},
        }
        for name, value in self.settings.items():
            section, key = name.split(".")
            tree.setdefault(section, {})[key] = value
        return build_config(tree)

    def unclipped(self) -> "Case":
        """The same with free weights."""
        if self.settings["clip.name"] not in WEIGHT_CLIPS:
            return self
        return Case(self.name, {**self.settings, "clip.name": "none"}, self.batches)


def _case(model: str, norm: str, loss: str, penalty: str, clip: str, batches: int = 2, **more: Any) -> Case:
    settings: dict[str, Any] = {
        "model.name": model,
        "model.norm": norm,
        "loss.name": loss,
        "penalty.name": penalty,
        "clip.name": clip,
    }
    if clip in CLIPS:
        settings["clip.value"] = CLIPS[clip]
    if model == "residual":
        settings["train.batch"] = BATCH // 2  # its convolutions at the full side take four times as long
    settings |= {name.replace("__", "."): value for name, value in more.items()}
    extra = [f"{name.split('__')[1]}={value}" for name, value in more.items()]
    return Case(
        " ".join([model, norm, loss, f"penalty={penalty}", f"clip={clip}", *extra]), settings, batches
    )


def _accepted(cases: list[Case]) -> list[Case]:
    accepted = []
    for case in cases:
        try:
            case.config()
        except UserError:
            continue
        accepted.append(case)
    return accepted


def every_combination() -> list[Case]:
    """GAN x norm x loss x (a penalty, or a clip, or neither), without what the rules refuse."""
    regularisers = [(penalty, "none") for penalty in PENALTIES] + [("none", clip) for clip in CLIPS]
    product = itertools.product(FAMILIES, NORM_NAMES, LOSSES, regularisers)
    return _accepted([_case(model, norm, loss, *regulariser) for model, norm, loss, regulariser in product])


def special_cases() -> list[Case]:
    """What changes schedule or input: classes, several critic batches, lazy penalties, augmentation."""
    augment = next(name for name in AUGMENTS if name != "none")
    cases = []
    for model, loss in zip(FAMILIES, itertools.cycle(LOSSES)):
        cases += [
            _case(model, "none", loss, "gp", "norm", model__conditional=True),
            _case(
                *(model, "none", loss, "r1", "weight", 3),
                model__conditional=True,
                train__n_critic=2,
                penalty__every=2 * BATCH,
                augment__name=augment,
            ),
        ]
        cases += [_case(model, "none", loss, "none", "none", augment__name=name) for name in AUGMENTS]
    cases += [paired_case(), moving_case()]
    cases.append(
        _case("dcgan", "batch", "hinge", "none", "norm", model__conditional=True, augment__name=augment)
    )
    return cases


def full_case() -> Case:
    """One case in which every kind of random number is drawn."""
    augment = next(name for name in AUGMENTS if name != "none")
    return _case(
        *("wgan", "instance", "wasserstein", "gp", "none", 3), model__conditional=True, augment__name=augment
    )


def paired_case() -> Case:
    """One case in which the generator's loss sees the scores of real images, in pairs of one class."""
    augment = next(name for name in AUGMENTS if name != "none")
    return _case(
        *("dcgan", "none", "relativistic", "r1", "none", 3), model__conditional=True, augment__name=augment
    )


def moving_case() -> Case:
    """One case in which every setting moves that may; pairs, some of them augmented, and both penalties."""
    ramp = {"start": 4.0e-4, "end": 1.0e-4, "images": 3 * BATCH // 2, "shape": "cosine"}
    case = _case(
        *("residual", "none", "relativistic", "r1+r2", "none", 3),
        model__conditional=True,
        augment__name="affine-color",
        augment__probability={"start": 0.4, "end": 1, "images": BATCH, "shape": "linear"},
        penalty__weight={"start": 2, "end": 0.1, "images": BATCH, "shape": "linear"},
        optim__generator={"lr": ramp},
        optim__critic={"lr": ramp},
        ema__ramp=0.5,
    )
    return replace(case, name="residual, with all that moves")


def norm_case() -> Case:
    """One case with batch norm in both networks and the gradient norm clipped."""
    return _case("dcgan", "batch", "non-saturating", "none", "norm")
