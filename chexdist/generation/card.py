"""What an exported generator says of itself to people: a model card in Markdown, inside its file."""

from collections.abc import Sequence

from chexdist import __version__
from chexdist.metrics import METRICS
from chexdist.metrics.value import Metric
from chexdist.run.trained import Loaded


def measured(log: Sequence[Metric], images: int) -> list[Metric]:
    """The metrics of the averaged generator after so many images, the newest of each name and protocol."""
    found = {
        (metric.name, metric.protocol): metric
        for metric in log
        if metric.images == images and metric.name.partition("/")[0] in METRICS
    }
    return list(found.values())


def card(loaded: Loaded, metrics: Sequence[Metric], licence: str) -> str:
    """After Mitchell 2019, "Model Cards for Model Reporting": what it is, use, data, numbers, limits."""
    model, classes = loaded.config.model, loaded.classes
    counts = ", ".join(f"{name} {number:,}" for name, number in classes.items())
    chosen = (
        f"`labels` [N], int64: {', '.join(f'{number} {name}' for number, name in enumerate(classes))}"
        if model.conditional
        else "no labels: the classes of its training images can't be chosen"
    )
    return f"""# Generator of synthetic chest X-rays: {model.name}, {model.size} px

The averaged generator of a GAN, trained by chexdist {__version__}. Its pictures show no patient.

- model: {model.name}, {"by class" if model.conditional else "without classes"}
- input: `latents` [N, {model.latent}] from N(0, 1), float32; {chosen}
- output: `images` [N, 1, {model.size}, {model.size}], float32 in [-1, 1], -1 black
- trained on: {sum(classes.values()):,} chest X-rays ({counts}), shards with manifest {loaded.manifest}
- checkpoint: after {loaded.images:,} images shown to the critic; weights (SHA-256) {loaded.weights}
- licence: {licence}

## Intended use
Research on generative models and on their evaluation. Not for diagnosis, not for any decision about a
patient, and not as evidence of how a disease looks: what the generator draws is neither labelled nor checked
by a radiologist.

## Measured
{_table(metrics)}

## Copies of training images
A generator can draw its training images again. Pictures that come out of this file by other programs have
not been compared with them. `chexdist generate FILE --data.shards DIR` (FILE exported as safetensors, DIR the
shards named above) does that before a picture leaves.
"""


def _table(metrics: Sequence[Metric]) -> str:
    if not metrics:
        return "Nothing is known here of metrics at this checkpoint."
    rows = [
        f"| {metric.name} | {metric.value:.4g}{_interval(metric)} | {_number(metric.real_baseline)} | "
        f"{metric.n:,} | {(metric.protocol or '')[:12]} |"
        for metric in metrics
    ]
    head = ["| metric | value [95 %] | real X-rays | n | protocol |", "|---|---|---|--:|---|"]
    return "\n".join([*head, *rows])


def _interval(metric: Metric) -> str:
    return "" if metric.low is None else f" [{metric.low:.4g}, {metric.high:.4g}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
