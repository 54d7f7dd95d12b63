"""How generated images are measured: formulae, feature extractors, intervals, protocols.

Pure: tensors in, numbers out; no rank, no run directory, no choice of images or device. `evaluation`,
`training` and `generation` measure with it; `config`, `run` and `report` read its registries and log lines.
Imports `gan.registry` and errors alone; importing this file loads no torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from chexdist.metrics.value import Metric


Source = Literal["features", "pairs", "own pairs", "classifier", "likeness"]
"""What a metric is computed from: features of images, pairs of a generated and a real image, pairs of
generated images, a classifier's outputs, likeness to training images."""


@dataclass(frozen=True)
class MetricSpec:
    """What is known of a metric before its module is loaded.

    module: where its formula is; label: what people read; computed_from: which of the two functions the
    module has; better: which values are, `near real` meaning those near the value of real X-rays, from either
    side; few_images: whether it is right with few images, so that it is also measured by class, of the mean
    image and while training, or else once, by `chexdist evaluate`; reference: which real images the generated
    ones are measured against, `training halves` meaning one half of the training images' patients, of which
    the other half gives the real baseline.
    """

    module: str
    label: str
    computed_from: Source
    better: Literal["lower", "higher", "near real"]
    few_images: bool = True
    reference: Literal["held-out", "training", "training halves"] = "held-out"

    @property
    def formula(self) -> Any:
        """The module, imported."""
        return import_module(self.module)

    def distance(self, metric: "Metric") -> float:
        """A number by which metrics of this name are ordered: the lower, the better."""
        if self.better == "near real":
            return abs(metric.value - (metric.real_baseline or 0.0))
        return metric.value if self.better == "lower" else -metric.value

    @property
    def in_training(self) -> bool:
        """Whether training measures it, so that it can choose the best checkpoint."""
        return self.computed_from == "features" and self.few_images


METRICS: dict[str, MetricSpec] = {
    "kid_x1000": MetricSpec("chexdist.metrics.kid", "KID × 1000", "features", "lower"),
    "kid_all_pairs_x1000": MetricSpec(
        "chexdist.metrics.kid_all_pairs", "KID × 1000, all pairs", "features", "lower"
    ),
    "fid": MetricSpec("chexdist.metrics.fid", "FID", "features", "lower", few_images=False),
    "fid_train": MetricSpec(
        "chexdist.metrics.fid", "FID to training images", "features", "lower", False, "training"
    ),
    "precision_k5": MetricSpec(
        "chexdist.metrics.precision", "Precision", "features", "near real", reference="training halves"
    ),
    "recall_k5": MetricSpec(
        "chexdist.metrics.recall", "Recall", "features", "higher", reference="training halves"
    ),
    "density_k5": MetricSpec(
        "chexdist.metrics.density", "Density", "features", "near real", reference="training halves"
    ),
    "coverage_k5": MetricSpec(
        "chexdist.metrics.coverage", "Coverage", "features", "higher", reference="training halves"
    ),
    "feature_distance": MetricSpec(
        "chexdist.metrics.feature_distance", "Distance of features", "features", "near real"
    ),
    "psnr_db_random_pairs_256px": MetricSpec("chexdist.metrics.psnr", "PSNR", "pairs", "near real"),
    "mse_random_pairs_256px": MetricSpec("chexdist.metrics.mse", "MSE", "pairs", "near real"),
    "ssim_wang2004_random_pairs_256px": MetricSpec("chexdist.metrics.ssim", "SSIM", "pairs", "near real"),
    "ms_ssim_own_pairs_256px": MetricSpec("chexdist.metrics.ms_ssim", "MS-SSIM", "own pairs", "near real"),
    "near_copy_rate": MetricSpec(
        "chexdist.metrics.near_copy_rate", "Near-copies", "likeness", "lower", False, "training"
    ),
    "label_accuracy": MetricSpec("chexdist.metrics.share", "Label obeyed", "classifier", "higher"),
    "transfer_accuracy": MetricSpec(
        "chexdist.metrics.share", "Trained on generated", "classifier", "higher", few_images=False
    ),
    "mirrored": MetricSpec("chexdist.metrics.share", "Mirrored", "classifier", "lower"),
    "upside_down": MetricSpec("chexdist.metrics.share", "Upside down", "classifier", "lower"),
    "inverted": MetricSpec("chexdist.metrics.share", "Inverted", "classifier", "lower"),
}
"""By the name in the log, in the order in which they are measured and shown.

A new metric is a file beside `kid.py` or `psnr.py` and a line here; from these follow its lines in
the log and in evaluations, its column in the tables, its charts, and, where training measures it, its name in
`checkpoint.best`. The file holds UNIT, a short text, and one function:

    measure(real, generated, real_patients=None, generated_patients=None) -> Estimate
        "features": of features real [N, D] and generated [M, D], any float dtype. `real_patients` [N] and
        `generated_patients` [M] tell which images are of one patient; None, that all are independent. Raises
        Refusal where the number could not be right.
    score(a, b) -> Tensor
        "pairs", "own pairs": of images a[i] with b[i], both [N, 1, S, S] float32 in [0, 1], as
        `pairs.pair_scores` and `pairs.own_pair_scores` prepare them: float32 [N].

Of the other sources, the file holds UNIT alone: `evaluation.labels` asks a classifier for its shares.

The name says which formula it is: two numbers of one name and protocol are compared, so a formula that
changes takes another name.
"""

FORMER = {
    "ssim_random_pairs_256px": MetricSpec(
        "chexdist.metrics.ssim", "SSIM (borders reflected)", "pairs", "near real"
    )
}
"""What earlier releases measured in another way, and reports of their runs still show."""


def computed_from(source: Source) -> dict[str, MetricSpec]:
    """The metrics of one kind."""
    return {name: spec for name, spec in METRICS.items() if spec.computed_from == source}
