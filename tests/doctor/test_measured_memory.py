"""The estimate of training's memory against what training took, in a process of its own."""

import pytest
from helpers import peaks
from helpers.worlds import run_world

from chexdist.config.load import load_config
from chexdist.config.shipped import shipped
from chexdist.config.tree import Config
from chexdist.doctor.memory import step_terms
from chexdist.doctor.sizes import sizes_of

BATCHES = {
    "dcgan": (16, 96),
    "dcgan-128": (8, 16),
    "dcgan-256": (8, 16),
    "residual": (8, 64),
    "vanilla": (16, 8192),
    "wgan-clip": (16, 128),
    "wgan-gp": (16, 96),
}
"""The shipped batch, where that is a matter of seconds, and one of which little is weights."""


def estimate(config: Config) -> int:
    return sum(step_terms(config, sizes_of(config, len(peaks.CLASSES)), ranks=1).values())


def check(name: str, *words: str) -> None:
    """Against all that torch's allocator was asked for."""
    config = load_config(name, ["--train.precision=no", *words])
    said, (measured,) = estimate(config), run_world(1, peaks.allocated, config)
    print(f"{name}, {config.train.batch}: {said / 2**20:.1f} MiB, measured {measured / 2**20:.1f}")
    assert said == pytest.approx(measured, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.parametrize("name", shipped())
def test_shipped(name: str, larger: bool) -> None:
    check(name, f"--train.batch={BATCHES[name][larger]}")


def test_a_small_one() -> None:
    """With a penalty, an augmentation and a generator that sees real images."""
    check("residual", "--model.size=32", "--model.width=8", "--train.batch=32")


def test_parts_of_a_batch() -> None:
    """Gradients of the part before stay, and the images of both are there."""
    check("wgan-gp", "--model.size=32", "--model.width=8", "--train.batch=32", "--train.accumulate=2")


@pytest.mark.slow
def test_the_kernel_has_as_much_and_what_malloc_keeps() -> None:
    config = load_config("wgan-gp", ["--train.precision=no", "--train.batch=96"])
    (kept,), (given_back,) = (run_world(1, peaks.resident, config, keeps) for keeps in (True, False))
    print(f"{kept / 2**20:.1f} MiB, without what malloc keeps {given_back / 2**20:.1f}")
    assert estimate(config) == pytest.approx(given_back, rel=0.15)
    assert kept > given_back
