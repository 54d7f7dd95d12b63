"""`step`: images/s of `chexdist.training.step` against a notebook's loop, on the same images and batches.

Data come from memory on both sides, so only training is timed. An image is a real image shown to the critic.
"""

import itertools
import time
from dataclasses import dataclass
from functools import cache, partial
from math import lcm

import torch
from torch import Tensor

from benchmarks import notebook
from benchmarks.alternate import Comparison, Effort, Side, alternate
from benchmarks.machine import has_bf16
from benchmarks.material import draw_chest
from benchmarks.record import Result
from chexdist.config.load import load_config
from chexdist.config.tree import Config
from chexdist.data.loader import to_unit_range
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.gan.models import residual
from chexdist.gan.models.dcgan import channels
from chexdist.training.networks import Gan, spec_of
from chexdist.training.schedule import phases
from chexdist.training.step import Step

UNCONDITIONAL = ["--model.conditional", "false"]
PLAIN = [*UNCONDITIONAL, "--augment.name", "none", "--model.upsampling", "transposed"]
BARE = {
    "dcgan": [*PLAIN, "--penalty.name", "none"],
    "wgan-gp": [*PLAIN, "--penalty.every", "0"],
    "residual": [*UNCONDITIONAL, "--augment.name", "none", "--penalty.name", "none"],
}
ALONE = World(rank=0, size=1, node=0, local_rank=0)
PICTURES = 128
CLASS_COUNTS = (PICTURES // 2, PICTURES // 2)

NOTES = (
    "as shipped: chexdist also takes classes, keeps an averaged generator (EMA) and draws fresh latents "
    + "for the generator's step, and augments; its dcgan also computes R1 every 128 images. The notebook "
    + "does none of these. wgan-gp has its gradient penalty every 32 images, in every second batch, the "
    + "notebook in each.",
    "bare: without classes, EMA, R1 and augmentation, and with a WGAN's penalty in every batch. batch norm: "
    + "bare, and with batch norm in the critic, as in the notebook.",
    "residual: against a plain loop over the same networks, which no notebook has: with R1 and R2 in every "
    + "batch, as Huang 2024 trains, where chexdist has them every 128 images; and without.",
    "RGB: the notebook as found, gray images in three equal channels, so its first and last layers are "
    + "larger. gray: one channel, so that both sides have the same layers and equally many parameters.",
)


@dataclass(frozen=True)
class Setting:
    """What both sides share; `more` are further settings, as on chexdist's command line."""

    batch: int = 16
    more: tuple[str, ...] = ()


SHIPPED = Setting()
TINY = Setting(more=("--model.size", "32", "--model.width", "2", "--model.latent", "8"))


class Ours:
    """The production step under a shipped configuration, on this rank's share of each batch.

    `period`: batches after which all that it has scheduled was due.
    """

    def __init__(self, config: Config, pixels: Tensor, averaging: bool = True, world: World = ALONE) -> None:
        self.gan = Gan(config, CLASS_COUNTS, make_accelerator(world, timeout_seconds=60))
        self.step = Step(self.gan, world)
        if not averaging:
            update, gan = self.step.update, self.gan
            self.step.update_generator = partial(  # type: ignore[method-assign]
                update, gan.generator, gan.generator_optimizer, self.step.values.generator_lr
            )
        self.step.warm_up()
        self.images = to_unit_range(pixels, 8, torch.float32).to(self.gan.device)
        self.labels = torch.arange(len(pixels), device=self.gan.device) % 2
        self.batch, self.t = config.train.batch, 0
        self.period = lcm(*(-(-phase.every // self.batch) for phase in phases(config)))

    def train(self) -> None:
        """The next batch."""
        share = self.step.share
        rows = batch_rows(self.t, self.batch, self.images)[share.start : share.stop]
        self.step(self.t, self.images[rows], self.labels[rows])
        self.t += 1


class Theirs:
    """The notebook's loop, with the layers that the configuration describes."""

    def __init__(self, config: Config, pixels: Tensor, colours: int, device: torch.device) -> None:
        torch.manual_seed(config.train.seed)
        self.loop = loop_of(config, colours, device)
        self.images = to_unit_range(pixels, 8, torch.float32).repeat(1, colours, 1, 1).to(device)
        self.batch, self.t = config.train.batch, 0
        self.period = config.train.n_critic

    def train(self) -> None:
        """The next batch."""
        self.loop.batch(self.t, self.images[batch_rows(self.t, self.batch, self.images)])
        self.t += 1


def loop_of(config: Config, colours: int, device: torch.device) -> notebook.Notebook:
    """The notebook's loop over networks of the configuration's sizes, drawn from torch's random state."""
    spec = spec_of(config, classes=0)
    if config.model.name == "residual":
        networks = (residual.Generator(spec), residual.Critic(spec))
        betas = config.optim.critic.betas
        return notebook.Residual(*networks, spec.latent, device, betas, config.train.n_critic)
    widths = channels(spec)
    loop = notebook.Dcgan if config.model.name == "dcgan" else notebook.WganGp
    return loop(
        notebook.generator(widths, spec.latent, colours),
        notebook.critic(widths, colours, batch_norm=config.model.norm == "batch"),
        spec.latent,
        device,
        config.optim.critic.betas,
        config.train.n_critic,
    )


@cache
def draw_pixels(size: int) -> Tensor:
    """What all sides train on: uint8 [PICTURES, size, size]."""
    return torch.stack([torch.from_numpy(draw_chest(number, size)) for number in range(PICTURES)])


def batch_rows(t: int, batch: int, images: Tensor) -> Tensor:
    """The images in batch t, in a cycle, on their device: the host would wait for the copy of an index."""
    return torch.arange(t * batch, (t + 1) * batch, device=images.device) % len(images)


def configuration(name: str, setting: Setting, *more: str) -> Config:
    """A shipped configuration, with bf16 where the machine computes in it."""
    precision = "bf16" if has_bf16() else "no"
    overrides = ["--train.batch", str(setting.batch), "--train.precision", precision, *setting.more, *more]
    return load_config(name, overrides)


def sides(name: str, setting: Setting, pixels: Tensor) -> dict[str, Ours | Theirs]:
    """The trainings of one GAN that take turns, by name."""
    shipped = configuration(name, setting)
    bare = configuration(name, setting, *BARE[name])
    made: dict[str, Ours | Theirs] = {
        f"{name} as shipped": Ours(shipped, pixels),
        f"{name} bare": Ours(bare, pixels, averaging=False),
    }
    same = bare
    if name == "dcgan":
        same = configuration(name, setting, *BARE[name], "--model.norm", "batch")
        made[f"{name} batch norm"] = Ours(same, pixels, averaging=False)
    device = next(iter(made.values())).images.device
    if name == "residual":
        for kind, weight in (("plain, R1 and R2", notebook.Residual.weight), ("plain", 0.0)):
            made[f"{name} {kind}"] = plain = Theirs(same, pixels, 1, device)
            plain.loop.weight = weight
        return made
    for kind, colours in (("RGB", 3), ("gray", 1)):
        made[f"{name} notebook {kind}"] = Theirs(same, pixels, colours, device)
    return made


COMPARISONS = {
    "dcgan": [
        Comparison("dcgan as shipped / notebook RGB", "dcgan as shipped", "dcgan notebook RGB"),
        Comparison("dcgan bare / notebook RGB", "dcgan bare", "dcgan notebook RGB"),
        Comparison("dcgan batch norm / notebook RGB", "dcgan batch norm", "dcgan notebook RGB"),
        Comparison("dcgan batch norm / notebook gray", "dcgan batch norm", "dcgan notebook gray"),
    ],
    "wgan-gp": [
        Comparison("wgan-gp as shipped / notebook RGB", "wgan-gp as shipped", "wgan-gp notebook RGB"),
        Comparison("wgan-gp bare / notebook gray", "wgan-gp bare", "wgan-gp notebook gray"),
    ],
    "residual": [
        Comparison(
            "residual as shipped / plain, R1 and R2", "residual as shipped", "residual plain, R1 and R2"
        ),
        Comparison("residual bare / plain", "residual bare", "residual plain"),
    ],
}


def timed(training: Ours | Theirs) -> float:
    """Seconds that a period takes, until the device has finished it."""
    if training.images.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(training.period):
        training.train()
    if training.images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(effort: Effort, setting: Setting = SHIPPED) -> Result:
    """All rows of `step`."""
    model = configuration("dcgan", setting).model
    pixels = draw_pixels(model.size)
    rates: dict[str, list[float]] = {}
    for name in COMPARISONS:
        found = [
            Side(side, training.period * training.batch, partial(timed, training))
            for side, training in sides(name, setting, pixels).items()
        ]
        rates |= alternate(f"step, {name}", found, effort)
    precision = "bf16 (notebook float32)" if has_bf16() else "float32"
    settings = {"batch": setting.batch, "size": model.size, "width": model.width, "precision": precision}
    return Result("step", "images/s", settings, NOTES, [*itertools.chain(*COMPARISONS.values())], rates)
