"""The measures of health: the same at any world size, and what they are of known scores."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.worlds import run_worlds

from chexdist.distributed.world import World
from chexdist.evaluation.reference import Embedded
from chexdist.training.health import NAMES, HealthSums, rates
from chexdist.training.health_evaluation import label_agreement

SETTINGS = ("--model.size=32", "--model.width=4", "--model.latent=8", "--train.batch=8", "--train.group=2")
SETTINGS += ("--model.conditional=true", "--eval.extractor=random-conv", "--eval.samples=64")
SETTINGS += ("--penalty.name=r1", "--penalty.weight=auto", "--penalty.every=16", "--train.precision=no")


def _train(world: World, shards: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The measures of four batches, in float64, and of an evaluation after them."""
    from chexdist.config.load import load_config
    from chexdist.data.manifest import read_manifest
    from chexdist.distributed.collectives import Collectives
    from chexdist.distributed.process_group import make_accelerator
    from chexdist.training.networks import Gan
    from chexdist.training.step import Step
    from chexdist.training.validation import Validation

    accelerator = make_accelerator(world, timeout_seconds=60)
    manifest = read_manifest(str(shards))
    config = load_config("dcgan", [*SETTINGS, f"--data.shards={shards}", "--run.dir=unused"])
    torch.set_default_dtype(torch.float64)
    gan = Gan(config, manifest.class_counts("train"), accelerator)
    step = Step(gan, world)
    generator = torch.Generator().manual_seed(0)
    for t in range(4):
        images = torch.rand(8, 1, 32, 32, generator=generator) * 2 - 1
        labels = torch.randint(0, 2, (8,), generator=generator)
        own = slice(step.share.start, step.share.stop)
        step(t, images[own], labels[own])
    collectives = Collectives(world, 60)
    critic, *sums = collectives.all_reduce(
        torch.cat([step.losses.critic[None], step.losses.health.values])
    ).tolist()
    torch.set_default_dtype(torch.float32)
    gan.generator.float(), gan.critic.float(), gan.ema.float()
    validation = Validation(gan, manifest, collectives)
    validation.baselines()
    return rates(sums, 32, critic), validation.evaluate(32)[2]


def test_world_sizes_agree(build_shards: Callable[..., Path]) -> None:
    shards = build_shards(150, 40, split="train=0.7,val=0.3")
    found = run_worlds(_train, {size: (shards,) for size in (1, 2, 4)})
    trained, evaluated = found[1][0]
    assert {"health/wins", "health/score_real", "health/gradient_generator", "health/penalty_share"} <= {
        *trained
    }
    assert {"health/wins_held_out", "health/training_over_held_out", "health/ends"} <= {*evaluated}
    assert {"health/labels", "health/labels/training"} <= {*evaluated}
    assert sum(name.startswith("health/diversity/") for name in evaluated) == 2
    for ranks in found.values():
        for ours, measured in ranks:
            assert ours == pytest.approx(trained, rel=1e-9)
            assert measured == pytest.approx(evaluated, rel=1e-4, abs=1e-4)


def held_out(features: torch.Tensor, labels: np.ndarray) -> Embedded:
    """Features of images that are all there is in a split."""
    split = SimpleNamespace(label=labels)
    return Embedded(split, np.arange(len(labels)), features)  # type: ignore[arg-type]


def test_how_far_labels_agree() -> None:
    """Of three classes at the corners of a triangle, and of images of two classes that are as far along."""
    random = torch.Generator().manual_seed(0)
    corners = torch.eye(3) * 10
    labels = np.repeat(np.arange(3), 40)
    real = held_out(corners[labels] + torch.randn(120, 3, generator=random), labels)
    ours = corners[labels] + torch.randn(120, 3, generator=random)
    assert label_agreement(ours, labels, real, 3) == 1
    swapped = labels.copy()
    swapped[labels == 0], swapped[labels == 1] = 1, 0
    # of the three pairs one is the wrong way round, and two are of a class with another's images
    agreement = label_agreement(ours, swapped, real, 3)
    assert agreement is not None and 0.3 < agreement < 0.75
    first_two = labels < 2
    two = held_out(real.features[torch.from_numpy(first_two)], labels[first_two])
    assert label_agreement(ours[first_two], swapped[first_two], two, 2) == 0
    assert label_agreement(torch.randn(80, 3, generator=random), labels[first_two], two, 2) == pytest.approx(
        0.5, abs=0.15
    )
    assert label_agreement(ours[:45], labels[:45], real, 3) is None  # of one class there are only five
    assert label_agreement(ours, labels, real, 0) is None


def test_of_known_scores() -> None:
    sums = HealthSums.zero(torch.device("cpu"))
    sums.add_scores(torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 2.0, 5.0, -1.0]))
    sums.add_penalty(torch.tensor(3.0))
    sums.add_norm("critic", torch.tensor(2.0))
    sums.add_norm("critic", torch.tensor(4.0))
    found = rates(sums.values.tolist(), 4, -9.0)
    assert len(sums.values) == len(NAMES)
    assert found["health/wins"] == (1 + 0.5 + 0 + 1) / 4
    assert found["health/score_real"] == 1.5 and found["health/score_generated"] == 1.5
    assert found["health/score_real_std"] == pytest.approx(math.sqrt(1.25))
    assert found["health/gradient_critic"] == 3 and "health/gradient_generator" not in found
    assert found["health/penalty_share"] == 3 / 12
