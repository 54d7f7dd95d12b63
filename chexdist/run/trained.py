"""Decides how images are drawn from a trained generator: which weights, latents, labels and batch statistics."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import Tensor, nn

from chexdist.config.load import load_config
from chexdist.config.tree import Config
from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.errors import UserError, WorkError
from chexdist.gan.models import build_generator
from chexdist.gan.models.norms import calibrate
from chexdist.run import checkpoint
from chexdist.run.log import read_log
from chexdist.run.saver import best
from chexdist.training.networks import spec_of

CALIBRATION_GROUPS = 32
"""Ghost groups over which the statistics of evaluation mode are taken."""

CHUNK = 64
"""Images generated at once, at the same places of a batch whichever of them are asked for."""


@dataclass(frozen=True)
class Loaded:
    """A run's averaged generator, prepared, in evaluation mode, on the CPU, and what has to be known to draw from it.

    `classes` are the training images by class name, in label order; `images` the training images that the checkpoint has
    seen; `manifest` the digest of the shards' manifest; `weights` the SHA-256 of the weights' file; `passed_over` a line for
    each newer checkpoint that is damaged.
    """

    config: Config
    classes: dict[str, int]
    generator: nn.Module
    images: int
    manifest: str
    weights: str
    passed_over: tuple[str, ...]

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training images of each class, in label order."""
        return tuple(self.classes.values())

    def sample(self, seed: int, rows: range, label: int | None = None) -> Tensor:
        """Images [len(rows), 1, size, size] in [-1, 1]; see `sample`."""
        return sample(self.generator, self.config.model.latent, self.class_counts, seed, rows, label)


def load_run(run: str | Path, name: str | None = None) -> Loaded:
    """The generator of a run's newest complete checkpoint, or of the one called `name` (`images-N`, or `best`: by KID).

    Raises:
        UserError: there is no such run or checkpoint, or its configuration is not the one that its weights are of.
        WorkError: the checkpoint that was asked for is damaged.
    """
    run = Path(run)
    if not run.is_dir():
        raise UserError(f"{run}: there is no such run directory")
    path, passed_over = (_named(run, name), []) if name else checkpoint.newest(run)
    if path is None:
        damaged = "".join(f"; {line}" for line in passed_over)
        raise UserError(
            f"{run} has no complete checkpoint{damaged}: train it with `chexdist train --run.dir {run}`"
        )
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} has no config.yaml: give the whole run directory, not its checkpoint alone")
    config = load_config(str(run / "config.yaml"), [])
    state = checkpoint.read_state(path)
    if not _are_classes(state.classes):
        raise WorkError(
            f"checkpoint {path} is damaged: {checkpoint.LAST_FILE} names no classes with their counts"
        )
    generator = build_generator(config.model.name, spec_of(config, len(state.classes)))
    try:
        content = (path / "ema.safetensors").read_bytes()
        generator.load_state_dict(from_bytes(content))
    except (OSError, SafetensorError) as error:
        raise WorkError(f"checkpoint {path}, ema.safetensors: {error}") from None
    except RuntimeError:
        raise UserError(
            f"checkpoint {path} holds other networks than {run / 'config.yaml'} describes: it was edited, or another "
            "version of chexdist trained them and is needed to draw from them"
        ) from None
    counts = tuple(state.classes.values())
    prepare(generator, config.model.latent, config.train.group, counts, config.train.seed)
    return Loaded(
        config=config,
        classes=state.classes,
        generator=generator,
        images=state.images,
        manifest=state.manifest,
        weights=hashlib.sha256(content).hexdigest(),
        passed_over=tuple(passed_over),
    )


def _are_classes(found: object) -> bool:
    return (
        isinstance(found, dict)
        and all(name.isprintable() and type(number) is int and number >= 0 for name, number in found.items())
        and sum(found.values()) > 0
    )


def _named(run: Path, name: str) -> Path:
    folder = run / checkpoint.FOLDER
    there = {file.parent.name for file in folder.glob(f"images-*/{checkpoint.LAST_FILE}")}
    known = ", ".join(sorted(there, key=lambda each: (len(each), each))) or "none"
    if name == "best":
        found = best(metric for metric in read_log(run) if f"images-{metric.images}" in there)
        if found is None:
            raise UserError(f"{run}: KID was measured for none of its checkpoints: {known}")
        name = f"images-{found}"
    if not re.fullmatch(r"images-[0-9]+", name) or name not in there:
        raise UserError(f"{run} has no complete checkpoint {name}; there are: {known}")
    checkpoint.read_state(folder / name, verify=True)
    return folder / name


def prepare(generator: nn.Module, latent: int, group: int, class_counts: tuple[int, ...], seed: int) -> None:
    """Set a generator's evaluation statistics from fixed latents, so that they are a function of its weights and the seed."""
    weight = next(generator.parameters())
    rows = range(CALIBRATION_GROUPS * group)
    latents = torch.from_numpy(noise.normal(seed, Draw.CALIBRATION_LATENT, 0, rows, latent)).to(weight)
    labels = torch.from_numpy(noise.labels(seed, Draw.CALIBRATION_LABEL, 0, rows, class_counts)).to(
        weight.device
    )
    calibrate(generator, lambda: generator(latents, labels))


def sampled_labels(seed: int, rows: range, class_counts: tuple[int, ...]) -> Tensor:
    """The classes that `sample` draws for these rows, int64 [len(rows)], in the proportions of the training split."""
    return torch.from_numpy(noise.labels(seed, Draw.SAMPLE_LABEL, 0, rows, class_counts))


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

    To the last bit, too: a matrix product adds in an order that depends on how many rows it has, so whole chunks are drawn.

    Args:
        label: the class of all images; None draws classes in the proportions of the training split.
    """
    weight = next(generator.parameters())
    first = rows.start - rows.start % CHUNK
    parts = []
    for start in range(first, rows.stop, CHUNK):
        part = range(start, start + CHUNK)
        latents = torch.from_numpy(noise.normal(seed, Draw.SAMPLE_LATENT, 0, part, latent)).to(weight)
        labels = sampled_labels(seed, part, class_counts).to(weight.device)
        parts.append(generator(latents, labels if label is None else torch.full_like(labels, label)))
    return torch.cat(parts)[rows.start - first : rows.stop - first]


def load_generator(run: str | Path, checkpoint: str | None = None) -> nn.Module:
    """The averaged generator of a run, on the CPU, in evaluation mode, ready to be called.

    Latents [N, model.latent] from N(0, 1) and labels [N] (int64, in the order that `chexdist-shards inspect` shows; an unconditional
    generator ignores them) -> images [N, 1, model.size, model.size] in [-1, 1], -1 black.

    Images that leave the house go through `chexdist generate`, which also looks for copies of training images.

    Args:
        checkpoint: its name, such as `images-10000`, or `best` for the lowest KID; None takes the newest complete one.

    Raises:
        UserError, WorkError: as `load_run` does.
    """
    return load_run(run, checkpoint).generator.requires_grad_(False)
