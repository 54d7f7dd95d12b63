"""What a measurement leaves: numbers as lines of the log, their protocols, what was refused and why."""

from dataclasses import asdict, dataclass, field

from torch import Tensor

from chexdist.config.tree import Config
from chexdist.evaluation.line import line_of
from chexdist.metrics import METRICS
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.preprocess import RESIZE
from chexdist.metrics.protocol import Hashed, hash_of
from chexdist.metrics.value import Metric


@dataclass(frozen=True)
class Closest:
    """A generated image, by its index, and the training image that it is most similar to, by its key.

    likeness: as `metrics.memorisation` has it; both pictures [1, S, S] in [-1, 1].
    """

    image: int
    key: str
    likeness: float
    picture: Tensor
    training: Tensor


@dataclass
class Findings:
    """The numbers of one set of generated images.

    config: the run's settings, or None for pictures of unknown origin; images: training images that its
    generator has seen; brought_from: see `Source`, part of every protocol; protocols: by hash; refused: the
    reason by the metric's name; draws: float64 [DRAWS] of each number that has them, by (protocol's hash,
    name); closest: the most similar pairs with training images, most similar first.
    """

    config: Config | None
    images: int
    brought_from: int | None = None
    metrics: list[Metric] = field(default_factory=list)
    protocols: dict[str, dict[str, object]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    draws: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    closest: list[Closest] = field(default_factory=list)

    def add(self, name: str, estimate: Estimate, real: Estimate | None, protocol: Hashed) -> None:
        """Record a number; `real` is the same of real images. `name` starts with one of `METRICS`."""
        unit = METRICS[name.partition("/")[0]].formula.UNIT
        baseline = None if real is None else real.value
        fields: dict[str, object] = asdict(protocol)  # type: ignore[call-overload]
        if self.brought_from:
            fields["pictures"] = f"brought from {self.brought_from} px: {RESIZE}"
        key = hash_of(fields)
        self.metrics.append(line_of(self.config, self.images, name, unit, estimate, baseline, key))
        self.protocols[key] = fields
        if estimate.draws is not None:
            self.draws[key, name] = estimate.draws

    def refuse(self, name: str, reason: str) -> None:
        """Record why a number is missing; of several extractors, each may have its reason."""
        before = self.refused.get(name, reason)
        self.refused[name] = reason if before == reason else f"{before}; {reason}"
