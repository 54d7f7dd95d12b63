"""Decides which settings exist: their types, units, limits, defaults, and the sentence that documents each.

The text below a setting is what `chexdist train --help` and docs/settings.md say of it. Schedules count
images, real ones shown to the critic; train.n_critic and control.every count batches. What may not be
combined is in `rules`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chexdist.config.annotations import OneOf, Unit
from chexdist.gan.augment import AUGMENTS
from chexdist.gan.clips import CLIPS
from chexdist.gan.losses import LOSSES
from chexdist.gan.models import FAMILIES
from chexdist.gan.penalties import PENALTIES
from chexdist.metrics import METRICS
from chexdist.metrics.extractors import EXTRACTORS
from chexdist.metrics.extractors.spec import check as check_spec

NORMS: dict[str, tuple[str, ...]] = {name: FAMILIES.constant(name, "NORMS") for name in FAMILIES}
"""What each GAN's critic may be normalised with; its paper's choice first."""

UPSAMPLINGS: dict[str, tuple[str, ...]] = {
    name: FAMILIES.constant(name, "UPSAMPLINGS", otherwise=()) for name in FAMILIES
}
"""How each GAN's generator may double the side, where that is left open."""

BEST = {name: metric.label for name, metric in METRICS.items() if metric.in_training} | {"none": ""}
"""What may choose the best checkpoint."""

Images = Annotated[int, Unit("images")]
Seconds = Annotated[int, Unit("seconds")]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values don't change after they are read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Ramp(Section):
    """A value that moves from `start` to `end` within the first `images` images, and stays there."""

    start: float = Field(ge=0)
    """The value at the first image."""
    end: float = Field(ge=0)
    """The value from `images` on."""
    images: Images = Field(ge=1)
    """How long it moves."""
    shape: Literal["linear", "cosine"] = "cosine"
    """linear: evenly; cosine: along half a cosine, slow at both ends."""


class Model(Section):
    name: Annotated[str, OneOf(FAMILIES, FAMILIES.summary)]
    """Which GAN: the architecture of its generator and of its critic."""
    size: Annotated[Literal[32, 64, 128, 256, 512], Unit("pixels")] = 64
    """Side of the square image; must be that of the shards."""
    conditional: bool = False
    """Generate by class: the generator embeds the label, the critic projects on it (Miyato 2018)."""
    norm: Annotated[str, OneOf(dict.fromkeys(norm for norms in NORMS.values() for norm in norms))] | None = (
        None
    )
    """The critic's normalisation, of those that the GAN allows; null: what the GAN's paper has."""
    upsampling: Literal["transposed", "bilinear", "nearest"] = "transposed"
    """How the generator of a dcgan or wgan doubles the side: transposed convolutions, as published, or
    interpolation and a 3 x 3 convolution, which leaves no checkerboard."""
    latent: Annotated[int, Unit("dimensions")] = Field(128, ge=1, le=4096)
    """Size of the latent, the random vector from which the generator draws an image."""
    width: Annotated[int, Unit("channels")] = Field(64, ge=1, le=1024)
    """Channels of the layer next to the image, doubled with each halving of the side up to 8 * width; in a
    vanilla GAN, a quarter of the hidden units of the narrowest layer."""


class Loss(Section):
    name: Annotated[str, OneOf(LOSSES, LOSSES.summary)]
    """The adversarial loss of both networks."""


class Penalty(Section):
    name: Annotated[str, OneOf(PENALTIES, PENALTIES.summary)] = "none"
    """The penalty on the critic's gradient by its input, which is added to the critic's loss."""
    weight: Annotated[float, Field(gt=0)] | Ramp | Literal["auto"] = 10.0
    """Factor of the penalty in the critic's loss (lambda of Gulrajani 2017, gamma of Mescheder 2018); auto:
    10 for gp, and for the others the rule of Karras 2020 by size and batch, 0.0002 size^2 / batch."""
    every: Images = Field(0, ge=0)
    """Lazy regularisation (Karras 2020): real images between two computations of the penalty. 0, or anything
    up to train.batch: with every batch. Above that, the penalty is multiplied by every / train.batch."""


class Clip(Section):
    name: Annotated[str, OneOf(CLIPS, CLIPS.summary)] = "none"
    """What is clipped: the weights of the critic, or the gradients of both networks by their norm."""
    value: float = Field(0.01, gt=0)
    """The largest absolute value of a weight, or the largest norm of the gradient."""


class Augment(Section):
    name: Annotated[str, OneOf(AUGMENTS, AUGMENTS.summary)] = "none"
    """The augmentation of real and generated images before the critic scores them."""
    probability: Annotated[float, Field(ge=0, le=1)] | Ramp = 1.0
    """The share of images that are augmented."""


class Data(Section):
    shards: str = ""
    """Directory that `chexdist-shards build` made, or its http(s) URL."""
    cache: str = ""
    """Directory on each node for the shards behind a URL; empty: one below the node's directory for temporary
    files."""
    cache_gib: Annotated[float, Unit("GiB")] = Field(16.0, gt=0, le=2**20)
    """Room on each node for all shards in the cache."""
    timeout: Seconds = Field(30, ge=1, le=3600)
    """Time without a byte of a remote shard after which it is requested again."""
    workers: Annotated[int, Unit("processes")] = Field(1, ge=0, le=64)
    """Loader processes per rank; 0: the rank reads its samples itself."""
    window: Annotated[int, Unit("shards")] = Field(0, ge=0)
    """Shards, in the epoch's order, whose samples are shuffled with each other, so that a cache need not hold
    all; 0: all shards."""
    memory: Annotated[int, Unit("MiB")] = Field(2048, ge=0)
    """Memory per node for the decoded training split, which its ranks share; a larger one is decoded in every
    epoch."""


class Train(Section):
    batch: Images = Field(64, ge=1)
    """Global batch: the sum over all ranks."""
    group: Images = Field(8, ge=1)
    """Ghost batch size (Hoffer 2017): images over which batch norm takes its statistics; a rank gets whole
    ghost batches."""
    images: Images = Field(200_000, ge=1)
    """Length of the training: real images shown to the critic."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Decides all random numbers: initial weights, order of samples, latents, labels and augmentation."""
    precision: Literal["auto", "no", "bf16"] = "auto"
    """Mixed precision: bf16 for the networks' forward and backward passes; no: float32 throughout; auto: bf16
    where this device computes it natively, decided when a run begins."""
    start: str = ""
    """Run directory, or one of its checkpoints, whose networks this run begins with; empty: fresh ones."""
    n_critic: Annotated[int, Unit("batches")] = Field(1, ge=1)
    """Batches shown to the critic for each step of the generator."""
    accumulate: Annotated[int, Unit("parts")] = Field(1, ge=1)
    """Gradient accumulation: parts in which a rank computes its share of a batch, to save memory; the result
    does not change."""

    unhealthy: Literal["warn", "stop"] = "warn"
    """What is done about a training that two evaluations in a row judge to be ill (docs/health.md): say so;
    or stop: save a checkpoint, and fail with the verdict."""

    @field_validator("precision", mode="before")
    @classmethod
    def _spelled(cls, value: object) -> object:
        if value == "fp16":
            raise ValueError("fp16 overflows in the penalty's second derivative; use bf16, or no for float32")
        return "no" if value is False else value  # YAML 1.1 reads a bare `no` as false


class Adam(Section):
    lr: Annotated[float, Field(gt=0)] | Ramp = 2e-4
    """Learning rate of Adam."""
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    """Decay, per step, of Adam's averages of the gradient and of its square."""


class Optim(Section):
    generator: Adam = Adam()
    """Of the generator."""
    critic: Adam = Adam()
    """Of the critic."""


class Ema(Section):
    halflife: Annotated[float, Unit("images")] = Field(5_000, gt=0)
    """Images after which the weights of a generator count half in the averaged generator."""
    ramp: float = Field(0.0, ge=0, le=1)
    """The half-life is this share of the images shown so far where that is less (Karras 2020, 0.05), so that
    the average does not lag at the start; 0: always the half-life."""


class Eval(Section):
    every: Images = Field(20_000, ge=0)
    """Images between two evaluations; 0: only at the start and at the end."""
    samples: Images = Field(512, ge=64)
    """Generated images in each evaluation."""
    split: Literal["val", "test"] = "val"
    """The held-out split whose images the generated ones are compared with."""
    extractor: Annotated[str, OneOf(EXTRACTORS, EXTRACTORS.summary, check_spec)] = "efficientnet-lite0"
    """The network whose features KID and FID compare; or a file, FILE:size=N,range=A..B (docs/evaluating.md).
    """


class Checkpoint(Section):
    every: Images = Field(10_000, ge=0)
    """Images between two checkpoints; 0: only at the end, after a best evaluation and at a stop."""
    keep: Annotated[int, Unit("checkpoints")] = Field(2, ge=1)
    """How many of the newest checkpoints stay on the disk."""
    best: Annotated[str, OneOf(BEST, BEST.__getitem__)] = "kid_x1000"
    """The metric by which the best checkpoint so far is chosen, which stays on the disk too."""


class Control(Section):
    every: Annotated[int, Unit("batches")] = Field(25, ge=1)
    """Batches, not images, between two log lines of the losses, at which all ranks check that values are
    finite."""
    timeout: Seconds = Field(600, ge=5)
    """Time after which a rank that waits for another times out."""


class Run(Section):
    dir: str = ""
    """The run directory, which is made, or in which a run that was stopped resumes."""
    tracker: Literal[
        "none",
        "tensorboard",
        "wandb",
        "mlflow",
        "trackio",
        "swanlab",
        "comet_ml",
        "clearml",
        "aim",
        "dvclive",
    ] = "none"
    """Where metrics are shown besides `metrics.jsonl`, by Accelerate's trackers, each with settings and login
    of its own; TensorBoard finds them in `tensorboard/` of the run directory."""


class Config(Section):
    """Everything that decides a run."""

    model: Model
    """The networks."""
    loss: Loss
    """What the networks minimise."""
    penalty: Penalty = Penalty()
    """The penalty that keeps the critic smooth."""
    clip: Clip = Clip()
    """Clipping."""
    augment: Augment = Augment()
    """Augmentation, so that a small data set is not learned by heart."""
    data: Data = Data()
    """Where the images are and how they are read."""
    train: Train = Train()
    """The training loop."""
    optim: Optim = Optim()
    """The optimizers, Adam (Kingma 2015)."""
    ema: Ema = Ema()
    """The averaged generator (exponential moving average), which is evaluated and generates."""
    eval: Eval = Eval()
    """Evaluations while training."""
    checkpoint: Checkpoint = Checkpoint()
    """When checkpoints are written, and which stay."""
    control: Control = Control()
    """What ranks agree on while training."""
    run: Run = Run()
    """What the run writes, and where."""
