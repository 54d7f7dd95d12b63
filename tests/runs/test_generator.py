"""`chexdist.load_generator` as Python code sees it: what it knows of itself, labels by name, wrong input."""

import copy
import re
from pathlib import Path

import pytest
import torch
from helpers.untrained import make_run
from torch import nn

import chexdist
from chexdist.errors import UserError
from chexdist.run.generator import TrainedGenerator
from chexdist.run.sampling import sampled_labels
from chexdist.run.trained import load_run

LATENTS = torch.randn(20, 8)


@pytest.fixture(scope="module")
def generators(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, TrainedGenerator]:
    """By class, and without."""
    folders = {by_class: tmp_path_factory.mktemp("run") for by_class in (True, False)}
    return {
        by_class: chexdist.load_generator(make_run(folder, shards, "residual", by_class, lambda gan: None))
        for by_class, folder in folders.items()
    }


def test_what_it_knows(generators: dict[bool, TrainedGenerator]) -> None:
    for by_class, generator in generators.items():
        assert generator.classes == (("no_finding", "finding") if by_class else ())
        assert (generator.latent, generator.size) == (8, 32)
        assert isinstance(generator, nn.Module) and not generator.training
        assert generator(LATENTS).shape == (20, 1, 32, 32)
        assert not any(weight.requires_grad for weight in generator.parameters())


def test_labels(generators: dict[bool, TrainedGenerator]) -> None:
    """By number, by name, one for all; left out, those of the first pictures of `chexdist generate`."""
    generator = generators[True]
    numbers = torch.arange(20) % 2
    expected = generator(LATENTS, numbers)
    assert torch.equal(generator(LATENTS, [generator.classes[number] for number in numbers]), expected)
    assert torch.equal(generator(LATENTS, numbers.tolist()), expected)
    assert torch.equal(generator(LATENTS, numbers.to(torch.int32)), expected)
    ones = generator(LATENTS, torch.ones(20, dtype=torch.int64))
    assert torch.equal(generator(LATENTS, 1), ones) and torch.equal(generator(LATENTS, "finding"), ones)
    assert not torch.equal(ones, expected)
    drawn = sampled_labels(0, range(20), (48, 24))
    assert 0 < drawn.sum() < 20
    assert torch.equal(generator(LATENTS), generator(LATENTS, drawn))
    without = generators[False]
    assert torch.equal(without(LATENTS), without(LATENTS, numbers))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("pneumonia", "label pneumonia: this generator has no such class; there are 0 no_finding, 1 finding"),
        (2, "label 2: this generator has no such class; there are 0 no_finding, 1 finding"),
        (-1, "label -1: "),
        ([0] * 19 + [5], "label 5: "),
        (torch.full((20,), 7), "label 7: "),
        (torch.zeros(19, dtype=torch.int64), "of shape [19]: 20 latents take 20 whole numbers"),
        (torch.zeros(20), "labels are torch.float32"),
        (torch.zeros(20, 1, dtype=torch.int64), "of shape [20, 1]"),
    ],
)
def test_wrong_labels(generators: dict[bool, TrainedGenerator], labels: object, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        generators[True](LATENTS, labels)


@pytest.mark.parametrize("latents", [torch.randn(8), torch.randn(3, 9), torch.zeros(3, 8, dtype=torch.int64)])
def test_wrong_latents(generators: dict[bool, TrainedGenerator], latents: torch.Tensor) -> None:
    for generator in generators.values():
        with pytest.raises(UserError, match=re.escape("[N, 8], such as torch.randn(16, 8)")):
            generator(latents)


def test_it_is_a_module_like_others(shards: Path, tmp_path: Path) -> None:
    """Moved, copied and saved as one; its weights have the names that they have in a checkpoint."""
    run = make_run(tmp_path, shards, "residual", True, lambda gan: None)
    generator, network = chexdist.load_generator(run), load_run(run).generator
    assert generator.state_dict().keys() == network.state_dict().keys()
    before = generator(LATENTS, 1)
    double = copy.deepcopy(generator).double()
    assert (double(LATENTS.double(), 1) - before).abs().max() < 1e-3
    assert torch.equal(generator(LATENTS, 1), before)
    with torch.no_grad():
        for weight in double.parameters():
            weight.zero_()
    assert double(LATENTS.double(), 1).abs().max() == 0
    generator.load_state_dict(double.state_dict())
    assert generator(LATENTS, 1).abs().max() == 0
