"""What lies between two latents: rows whose ends are the images that the same seed draws."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.untrained import make_run
from PIL import Image

from chexdist.data.manifest import Manifest, read_manifest
from chexdist.evaluation import record
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.measure import EvaluationOptions
from chexdist.evaluation.source import WAY_STEPS, WAYS, GeneratorSource
from chexdist.run import layout
from chexdist.run.trained import load_run

OPTIONS = EvaluationOptions("val", 64, 16, 0)


@dataclass
class Made:
    source: GeneratorSource
    manifest: Manifest


@pytest.fixture(scope="module", params=[True, False], ids=["conditional", "unconditional"])
def made(
    request: pytest.FixtureRequest,
    build_shards: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    shards = build_shards(24, 20)
    run = make_run(tmp_path_factory.mktemp("runs") / "run", shards, "dcgan", request.param, lambda gan: None)
    return Made(GeneratorSource(load_run(str(run)), 3), read_manifest(str(shards)))


def test_a_way_leads_from_one_image_to_the_next(made: Made) -> None:
    label = 1 if made.source.conditional else None
    rows = made.source.ways(label)
    assert rows.shape == (WAYS * WAY_STEPS, 1, 32, 32)
    drawn = made.source.draw(range(2 * WAYS), label)
    ends = torch.stack([rows[i] for way in range(WAYS) for i in (way * WAY_STEPS, (way + 1) * WAY_STEPS - 1)])
    assert torch.equal(ends, drawn)
    steps = rows.view(WAYS, WAY_STEPS, -1).diff(dim=1).norm(dim=2)
    assert (steps > 0).all()
    far = (rows[WAY_STEPS - 1] - rows[0]).norm()
    assert (steps[0] < far).all()


def test_an_evaluation_draws_them_where_no_class_is(made: Made, tmp_path: Path) -> None:
    folder = record.write(tmp_path, {}, made.source, made.manifest, OPTIONS, Findings(None, 0))
    picture = layout.interpolation(folder)
    assert picture == folder / "latents" / "interpolation.png"
    drawn = np.asarray(Image.open(picture).convert("L"))
    rows = WAYS * (len(made.manifest.classes) if made.source.conditional else 1)
    assert drawn.shape == (rows * 34 + 2, WAY_STEPS * 34 + 2)
    first = (made.source.draw(range(1), 0 if made.source.conditional else None)[0, 0] + 1) / 2 * 255
    assert np.abs(drawn[2:34, 2:34] - first.detach().numpy()).max() <= 1
