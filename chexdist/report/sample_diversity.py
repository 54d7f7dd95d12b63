"""Measures how unlike each other the sample images of a run are, for logs without any measure of diversity:
those written before training had one.
"""

import numpy as np
from PIL import Image

from chexdist.errors import UserError
from chexdist.metrics.value import Metric
from chexdist.report.collect import RunRecord
from chexdist.report.samples import images_of
from chexdist.run import layout

NAME = "health/diversity"
MEASURED = (NAME, "feature_distance")
"""Names of which a log has one, unless it is older than both."""
FEWEST = 8


def with_diversity(run: RunRecord) -> list[Metric]:
    """The log, with the diversity of the sample images where it has none of its own.

    Each value is the mean distance of an image from the most similar other one, the root mean square over
    pixels, as a share of the same of as many real X-rays. That is near 0 also where there is one image for
    each class, which a mean over all pairs would not show. A sheet that is missing, damaged or of another
    size is left out: a log can be judged without.
    """
    if any(metric.name in MEASURED for metric in run.log):
        return run.log
    try:
        real = images_of(layout.real_samples(run.path), run)
    except UserError:
        return run.log
    while real and real[-1].getextrema() == (0, 0):  # the rest of the last row
        real.pop()
    found = []
    for metric in {metric.images: metric for metric in run.log}.values():
        try:
            generated = images_of(layout.sample(run.path, layout.after(metric.images)), run)
        except UserError:
            continue
        count = min(len(real), len(generated))
        if count >= FEWEST and (of_real := _distance(real[:count])):
            value = _distance(generated[:count]) / of_real
            found.append(
                Metric(
                    metric.images, metric.step, NAME, "", value, count, None, None, None, None, metric.time
                )
            )
    return sorted(run.log + found, key=lambda metric: metric.images)


def _distance(images: list[Image.Image]) -> float:
    """The mean distance of an image from the nearest other one, in gray levels."""
    pixels = np.stack([np.asarray(image, np.float32).ravel() for image in images])
    apart = np.sqrt([np.square(pixels - one).mean(1) for one in pixels])
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(1).mean())
