"""Decides how images are drawn from a trained generator: which latents, labels and batch statistics."""

import math

import torch
from torch import Tensor, nn

from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.gan.models.norms import calibrate

CALIBRATION_GROUPS = 32
"""Ghost batches over which the statistics of evaluation mode are taken."""

CHUNK = 64
"""Images generated at once, at the same positions of a chunk whichever of them are asked for."""


def prepare(generator: nn.Module, latent: int, group: int, class_counts: tuple[int, ...], seed: int) -> None:
    """Set a generator's evaluation statistics from fixed latents, so that they are a function of its weights
    and the seed.
    """
    weight = next(generator.parameters())
    rows = range(CALIBRATION_GROUPS * group)
    latents = torch.from_numpy(noise.normal(seed, Draw.CALIBRATION_LATENT, 0, rows, latent)).to(weight)
    labels = torch.from_numpy(noise.labels(seed, Draw.CALIBRATION_LABEL, 0, rows, class_counts)).to(
        weight.device
    )
    calibrate(generator, lambda: generator(latents, labels))


def sampled_latents(seed: int, rows: range, latent: int) -> Tensor:
    """The latents from which `sample` draws these rows, float64 [len(rows), latent] from N(0, 1)."""
    return torch.from_numpy(noise.normal(seed, Draw.SAMPLE_LATENT, 0, rows, latent))


def sampled_labels(seed: int, rows: range, class_counts: tuple[int, ...]) -> Tensor:
    """The classes that `sample` draws for these rows, int64 [len(rows)], in the proportions of the training
    split.
    """
    return torch.from_numpy(noise.labels(seed, Draw.SAMPLE_LABEL, 0, rows, class_counts))


@torch.no_grad()
def sample(
    generator: nn.Module,
    latent: int,
    class_counts: tuple[int, ...],
    seed: int,
    rows: range,
    label: int | None = None,
    truncation: float = 1.0,
) -> Tensor:
    """Images [len(rows), 1, S, S] in [-1, 1] from a prepared generator; image i depends on (weights, seed,
    rows[i]) only.

    To the last bit, too: a matrix product adds in an order that depends on how many rows it has, so whole
    chunks are drawn.

    Args:
        label: the class of all images; None draws classes in the proportions of the training split.
        truncation: in (0, 1]; latents are multiplied by it, so that they lie nearer the mean.
    """
    weight = next(generator.parameters())
    first = rows.start - rows.start % CHUNK
    parts = []
    for start in range(first, rows.stop, CHUNK):
        part = range(start, start + CHUNK)
        latents = (truncation * sampled_latents(seed, part, latent)).to(weight)
        labels = sampled_labels(seed, part, class_counts).to(weight.device)
        parts.append(generator(latents, labels if label is None else torch.full_like(labels, label)))
    return torch.cat(parts)[rows.start - first : rows.stop - first]


def between(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Latents [steps, latent] from `start` to `end`, float64 [latent], both included, along a great circle.

    Spherical interpolation (White 2016, "Sampling Generative Networks", sec. 2.1): a straight line would pass
    nearer the origin than a latent ever lies. Latents of one direction, as all of one dimension are, are
    joined by that line all the same."""
    way = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    cosine = torch.dot(start, end) / (start.norm() * end.norm())
    angle = math.acos(max(-1.0, min(1.0, float(cosine))))
    if math.sin(angle) < 1e-6:
        return (1 - way) * start + way * end
    return (torch.sin((1 - way) * angle) * start + torch.sin(way * angle) * end) / math.sin(angle)


@torch.no_grad()
def draw(generator: nn.Module, latents: Tensor, label: int) -> Tensor:
    """Images [N, 1, S, S] in [-1, 1] of one class from latents [N, latent]; each as `sample` would draw it.

    A last chunk is filled up, for the reason that `sample` gives.
    """
    weight = next(generator.parameters())
    parts = []
    for chunk in latents.split(CHUNK):
        whole = torch.cat([chunk, chunk.new_zeros(CHUNK - len(chunk), chunk.shape[1])]).to(weight)
        labels = torch.full((CHUNK,), label, device=weight.device)
        parts.append(generator(whole, labels)[: len(chunk)])
    return torch.cat(parts)
