"""What training measures: the same numbers at any world size, each beside real X-rays."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.worlds import run_worlds

from chexdist.distributed.world import World
from chexdist.metrics import METRICS
from chexdist.metrics.value import Metric

SETTINGS = ("--model.size=32", "--model.width=4", "--model.latent=8", "--train.batch=4", "--train.group=1")
SETTINGS += ("--model.conditional=true", "--eval.extractor=random-conv", "--eval.samples=70")


def _measure(world: World, shards: Path) -> list[Metric]:
    """Of the untrained generator, whose weights all ranks draw."""
    from accelerate import Accelerator

    from chexdist.config.load import load_config
    from chexdist.data.manifest import read_manifest
    from chexdist.distributed.collectives import Collectives
    from chexdist.training.networks import Gan
    from chexdist.training.validation import Validation

    manifest = read_manifest(str(shards))
    config = load_config("dcgan", [*SETTINGS, f"--data.shards={shards}", "--run.dir=unused"])
    torch.manual_seed(0)
    gan = Gan(config, manifest.class_counts("train"), Accelerator(cpu=True))
    validation = Validation(gan, manifest, Collectives(world, 60))
    baselines, measured = validation.baselines(), validation.evaluate(4)[0]
    assert not validation.refused
    assert set(measured.draws) == {(each.protocol, each.name) for each in measured.metrics}
    return [*baselines.metrics, *measured.metrics]


@pytest.fixture(scope="module")
def measured(build_shards: Callable[..., Path]) -> dict[int, list[list[Metric]]]:
    """Of each world size, of each rank."""
    shards = build_shards(150, 40, split="train=0.7,val=0.3")
    return run_worlds(_measure, {size: (shards,) for size in (1, 2, 3, 4)})


def test_every_metric_of_few_images_stands_beside_its_baselines(
    measured: dict[int, list[list[Metric]]],
) -> None:
    metrics = {metric.name: metric for metric in measured[1][0]}
    names = [name for name, spec in METRICS.items() if spec.in_training]
    assert {"kid_x1000", "precision_k5", "recall_k5", "coverage_k5", "feature_distance"} <= {*names}
    assert list(metrics) == [*(f"{n}{kind}" for n in names for kind in ("/real", "/mean_image")), *names]
    for name in names:
        assert metrics[name].real_baseline == metrics[f"{name}/real"].value != metrics[name].value
    halves, held_out = metrics["recall_k5"], metrics["kid_x1000"]
    assert (halves.n, halves.n_real) == (35, 35) and (held_out.n, held_out.n_real) == (70, 45)
    assert halves.protocol != held_out.protocol == metrics["feature_distance"].protocol
    assert metrics["recall_k5"].value == 0 < metrics["recall_k5/real"].value  # it draws gray alone
    assert metrics["recall_k5/mean_image"].value == metrics["feature_distance/mean_image"].value == 0


def test_world_sizes_agree(measured: dict[int, list[list[Metric]]]) -> None:
    reference = measured[1][0]
    for ranks in measured.values():
        for metrics in ranks:
            assert [metric.name for metric in metrics] == [metric.name for metric in reference]
            for ours, theirs in zip(metrics, reference, strict=True):
                assert (ours.protocol, ours.n, ours.n_real) == (theirs.protocol, theirs.n, theirs.n_real)
                for key in ("value", "low", "high"):
                    expected = pytest.approx(getattr(theirs, key), rel=1e-10, abs=1e-10)
                    assert getattr(ours, key) == expected, (ours.name, key, len(ranks))
