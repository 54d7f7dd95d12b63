"""Decides how images are drawn from a trained generator: which latents, which labels, which batch statistics."""

from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from chexdist import noise
from chexdist.config.load import build_config
from chexdist.engine import checkpoint
from chexdist.engine.gan import spec_of
from chexdist.errors import UserError
from chexdist.models import build_generator
from chexdist.models.norms import calibrate
from chexdist.noise import Draw

CALIBRATION_GROUPS = 32
"""Ghost groups over which the statistics of evaluation mode are taken."""

CHUNK = 64
"""Images generated at once."""


def prepare(generator: nn.Module, latent: int, group: int, class_counts: tuple[int, ...], seed: int) -> None:
    """Set a generator's evaluation statistics from fixed latents, so that they are a function of its weights and the seed."""
    weight = next(generator.parameters())
    rows = range(CALIBRATION_GROUPS * group)
    latents = torch.from_numpy(noise.normal(seed, Draw.CALIBRATION_LATENT, 0, rows, latent)).to(weight)
    labels = torch.from_numpy(noise.labels(seed, Draw.CALIBRATION_LABEL, 0, rows, class_counts)).to(
        weight.device
    )
    calibrate(generator, lambda: generator(latents, labels))


@torch.no_grad()
def sample(
    generator: nn.Module,
    latent: int,
    class_counts: tuple[int, ...],
    seed: int,
    rows: range,
    label: int | None = None,
) -> Tensor:
    """Images [len(rows), 1, S, S] in [-1, 1] from a prepared generator; image i depends on (weights, seed, rows[i]) only.

    Args:
        label: the class of all images; None draws classes in the proportions of the training split.
    """
    weight = next(generator.parameters())
    parts = []
    for start in range(rows.start, rows.stop, CHUNK):
        part = range(start, min(start + CHUNK, rows.stop))
        latents = torch.from_numpy(noise.normal(seed, Draw.SAMPLE_LATENT, 0, part, latent)).to(weight)
        labels = torch.from_numpy(noise.labels(seed, Draw.SAMPLE_LABEL, 0, part, class_counts)).to(
            weight.device
        )
        parts.append(generator(latents, labels if label is None else torch.full_like(labels, label)))
    return torch.cat(parts)


def load_generator(run: str | Path) -> nn.Module:
    """The averaged generator of a run's newest complete checkpoint, on the CPU, ready to be called.

    Latents [N, model.latent] from N(0, 1) and labels [N] (int64) -> images [N, 1, size, size] in [-1, 1].

    Raises:
        UserError: the run has no complete checkpoint.
    """
    path, _ = checkpoint.newest(Path(run))
    if path is None:
        raise UserError(f"{run} has no complete checkpoint: train it with `chexdist train --run.dir {run}`")
    config = build_config(yaml.safe_load((Path(run) / "config.yaml").read_text()))
    class_counts = tuple(checkpoint.read_state(path).classes.values())
    generator = build_generator(config.model.name, spec_of(config, len(class_counts)))
    generator.load_state_dict(load_file(path / "ema.safetensors"))
    prepare(generator, config.model.latent, config.train.group, class_counts, config.train.seed)
    return generator
