"""Decides which settings exist, their types and their defaults. What they must not be together is in `rules`.

Every schedule counts images: an image is a real image shown to the critic.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Images = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values don't change after they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Model(Section):
    name: Literal["vanilla", "wgan", "dcgan"]
    size: Literal[32, 64, 128, 256] = 64
    """Side of the square image, pixels; must be that of the shards."""
    conditional: bool = False
    """Generate by class: the generator embeds the label, the critic projects on it (Miyato 2018)."""
    norm: Literal["none", "batch", "instance", "group"] | None = None
    """The critic's normalisation; empty means what the GAN's paper has."""
    latent: int = Field(128, ge=1, le=4096)
    width: int = Field(64, ge=1, le=1024)
    """Channels of the widest-resolution layer (convolutional) or half the hidden units of the narrowest (vanilla)."""


class Loss(Section):
    name: Literal["non-saturating", "wasserstein", "hinge"]


class Penalty(Section):
    name: Literal["gp", "r1", "none"] = "none"
    weight: float = Field(10.0, gt=0)
    every: Images = 0
    """Images between two evaluations of the penalty, each then weighted up; 0 means with every batch."""


class Clip(Section):
    name: Literal["weight", "norm", "none"] = "none"
    value: float = Field(0.01, gt=0)


class Augment(Section):
    name: Literal["none", "translate"] = "none"


class Data(Section):
    shards: str = ""
    """Directory that `chexdist-shards build` made, or its http(s) URL."""
    cache: str = ""
    """Directory on each node for the shards behind a URL; empty means one below the node's directory for temporary files."""
    cache_gib: float = Field(16.0, gt=0, le=2**20)
    """GiB that all shards in the cache may take."""
    timeout: int = Field(30, ge=1, le=3600)
    """Seconds without a byte of a remote shard after which it is tried again."""
    workers: int = Field(1, ge=0, le=64)
    """Loader processes per rank."""
    window: int = Field(0, ge=0)
    """Consecutive shards that are mixed with each other; 0 means all."""
    memory: int = Field(2048, ge=0)
    """MiB per rank within which the decoded split stays in memory; a larger split is decoded in every epoch."""


class Train(Section):
    batch: int = Field(64, ge=1)
    """Global batch, images: the sum over all ranks."""
    group: int = Field(8, ge=1)
    """Images that are kept together: batch norm takes its statistics over them, and a rank's share is whole groups."""
    images: int = Field(200_000, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["no", "bf16"] = "no"
    n_critic: int = Field(1, ge=1)
    """Batches shown to the critic for one step of the generator."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a rank computes its share, to save memory; the result does not change."""

    @field_validator("precision", mode="before")
    @classmethod
    def _spelled(cls, value: object) -> object:
        if value == "fp16":
            raise ValueError("fp16 overflows in the penalty's second derivative; use bf16, or no for float32")
        return "no" if value is False else value  # YAML 1.1 reads a bare `no` as false


class Adam(Section):
    lr: float = Field(2e-4, gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.999)


class Optim(Section):
    generator: Adam = Adam()
    critic: Adam = Adam()


class Ema(Section):
    halflife: float = Field(5_000, gt=0)
    """Images after which a generator's weights count half in the averaged generator."""


class Eval(Section):
    every: Images = 20_000
    """Images between two evaluations; 0 means only at the start and at the end."""
    samples: int = Field(512, ge=64)
    """Generated images in each evaluation."""
    split: Literal["val", "test"] = "val"
    extractor: Literal["efficientnet-lite0", "random-conv"] = "efficientnet-lite0"


class Checkpoint(Section):
    every: Images = 10_000
    keep: int = Field(2, ge=1)
    """Newest checkpoints that are kept."""
    best: Literal["kid_x1000", "none"] = "kid_x1000"
    """The metric whose lowest value so far is saved and kept besides."""


class Control(Section):
    every: int = Field(25, ge=1)
    """Batches between two lines of losses; that all values are finite is agreed on as often."""
    timeout: int = Field(600, ge=5)
    """Seconds after which a rank that waits for another gives up."""


class Run(Section):
    dir: str = ""
    tracker: Literal["none", "tensorboard"] = "none"
    """Where the metrics are shown besides `metrics.jsonl`; TensorBoard finds them in `tensorboard/` of the run directory."""


class Config(Section):
    """Everything that decides a run."""

    model: Model
    loss: Loss
    penalty: Penalty = Penalty()
    clip: Clip = Clip()
    augment: Augment = Augment()
    data: Data = Data()
    train: Train = Train()
    optim: Optim = Optim()
    ema: Ema = Ema()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    control: Control = Control()
    run: Run = Run()
