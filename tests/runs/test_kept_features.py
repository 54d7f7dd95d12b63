"""A start does not embed again what the one before it has embedded, and measures the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import jobs

from chexdist.run.log import read_log


def no_embedding(rank: int) -> None:
    """Real images can't be embedded: what is kept must do."""
    from chexdist.evaluation.reference import RealImages

    def refuse(*_: object) -> torch.Tensor:
        raise AssertionError("embedded again")

    setattr(RealImages, "_features", refuse)  # noqa: B010


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_finite(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (features,) = load_file(path).values()
    features[0, 0] = torch.nan
    save_file({"features": features}, path)


@pytest.mark.parametrize("size", [1, 2])
def test_a_restart_embeds_no_real_images(
    size: int, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    jobs.run([*words, "--train.images", "96"], tmp_path / "log", size)
    assert len(list((tmp_path / "run/features").iterdir())) == 2
    jobs.run(words, tmp_path / "log", size, no_embedding)
    measured = [
        [(line.name, line.images, line.value) for line in read_log(run) if line.name.startswith("kid")]
        for run in (tmp_path / "run", undisturbed("vanilla", size))
    ]
    assert measured[0] == measured[1] and len(measured[0]) > 4


@pytest.mark.parametrize("damage", [halved, not_finite, Path.unlink])
def test_what_is_damaged_is_embedded_again(
    damage: Callable[[Path], None], shards: Path, tmp_path: Path
) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    jobs.run([*words, "--train.images", "96"], tmp_path / "log")
    kept = sorted((tmp_path / "run/features").iterdir())
    before = [path.read_bytes() for path in kept]
    damage(kept[0])
    jobs.run(words, tmp_path / "log")
    assert [path.read_bytes() for path in kept] == before
