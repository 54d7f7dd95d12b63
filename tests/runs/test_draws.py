"""What training leaves of each number under the bootstrap's weights: `RUN/draws`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import jobs

from chexdist.metrics.difference import percentiles
from chexdist.run import draws

SHORT = ("--train.images", "32", "--eval.every", "16", "--checkpoint.every", "32")


def test_every_number_with_an_interval_has_its_draws(undisturbed: Callable[..., Path]) -> None:
    run = undisturbed("dcgan", 1, *SHORT)
    measured = [line for line in jobs.metrics(run) if line["name"].startswith("kid_x1000")]
    assert {(line["name"], line["images"]) for line in measured} >= {
        ("kid_x1000/real", 0),
        ("kid_x1000/mean_image", 0),
        *(("kid_x1000", images) for images in (0, 16, 32)),
    }
    for line in measured:
        name = "real" if "/" in line["name"] else f"images-{line['images']}"
        found = draws.read(run / f"draws/{name}.safetensors")[line["protocol"], line["name"]]
        assert percentiles(found) == (line["low"], line["high"])


@pytest.mark.parametrize(
    "size", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_world_sizes_agree(size: int, undisturbed: Callable[..., Path]) -> None:
    """Of real X-rays, the mean image and the untrained generator: training itself rounds otherwise."""
    alone, others = undisturbed("dcgan", 1, *SHORT), undisturbed("dcgan", size, *SHORT)
    for name in ("real", "images-0"):
        ours, theirs = (draws.read(run / f"draws/{name}.safetensors") for run in (alone, others))
        assert ours.keys() == theirs.keys() and ours
        for key, values in ours.items():
            np.testing.assert_allclose(theirs[key], values, rtol=1e-6, atol=1e-6, err_msg=str(key))
