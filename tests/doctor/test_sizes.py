"""Sizes without an allocation, against the same networks in memory and a checkpoint on disk."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from accelerate import Accelerator

from chexdist.config.load import load_config
from chexdist.distributed.world import World
from chexdist.doctor.sizes import largest_part, sizes_of
from chexdist.run import checkpoint
from chexdist.training.networks import Gan
from chexdist.training.step import Step


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "wgan-clip", "vanilla", "residual"])
def test_state_and_checkpoint_are_as_large_as_was_said(name: str, tmp_path: Path) -> None:
    config = load_config(name, ["--model.size", "32", "--train.batch", "8"])
    sizes = sizes_of(config, classes=2)
    alone = SimpleNamespace(device=torch.device("cpu"), prepare_model=lambda network: network)
    gan = Gan(config, (1, 1), cast(Accelerator, alone))
    step = Step(gan, World.detect({}))
    images, labels = torch.zeros(8, 1, 32, 32), torch.zeros(8, dtype=torch.int64)
    step.critic_gradients(0, images, labels, penalty_gain=1.0)
    step.generator_gradients(0, images, labels)
    gradients = sum(
        weight.grad.nbytes
        for network in (gan.generator, gan.critic)
        for weight in network.parameters()
        if weight.grad is not None
    )
    assert gradients == sum(sizes.gradients)
    state = checkpoint.State(1, 8, {}, "", {}, {})
    folder = checkpoint.save(tmp_path, checkpoint.snapshot(gan.state()), state)
    written = sum(file.stat().st_size for file in folder.iterdir())
    assert sizes.checkpoint == pytest.approx(written, rel=0.02)
    assert sizes.state(1) == sizes.checkpoint
    assert sizes.state(2) == sizes.state(1) + gradients


def test_a_wider_network_keeps_more_and_a_penalty_too() -> None:
    """Of networks whose critic keeps more than the generator."""

    def held(*settings: str) -> int:
        words = ["--model.size", "32", "--model.upsampling", "transposed", *settings]
        return sizes_of(load_config("dcgan", words), classes=2).step(256)

    assert held("--model.width", "64") > 1.8 * held()
    assert held("--penalty.name", "none") < held()
    assert held("--train.group", "16") == pytest.approx(held(), rel=0.05)


def test_nothing_is_allocated() -> None:
    """Though a checkpoint of this would be of more than 10 GiB."""
    sizes = sizes_of(load_config("dcgan", ["--model.size", "256", "--model.width", "1024"]), classes=2)
    assert sizes.checkpoint > 10 * 2**30


def test_the_largest_part_of_a_batch() -> None:
    config = load_config("dcgan", ["--train.batch", "80", "--train.group", "8", "--train.accumulate", "2"])
    assert [largest_part(config, ranks) for ranks in (1, 2, 3, 5)] == [40, 24, 16, 8]
