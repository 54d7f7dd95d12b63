"""Loads the averaged generator out of a run directory: which checkpoint, and what has to be known to draw
from it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import Tensor, nn

from chexdist.config.load import load_config
from chexdist.config.spec import spec_of
from chexdist.config.tree import Checkpoint, Config
from chexdist.errors import UserError, WorkError
from chexdist.gan.models import FAMILIES
from chexdist.run import checkpoint, layout
from chexdist.run.log import read_log
from chexdist.run.retention import best_images
from chexdist.run.sampling import prepare, sample


@dataclass(frozen=True)
class Loaded:
    """A run's averaged generator, prepared, in evaluation mode, on the CPU, and what has to be known to draw
    from it.

    `classes` are the training images by class name, in label order; `images` the training images that the
    checkpoint has seen; `manifest` the digest of the shards' manifest; `weights` the SHA-256 of the weights'
    file; `passed_over` a line for each newer checkpoint that is damaged."""

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
    """The generator of a run's newest complete checkpoint, or of the one called `name` (`images-N`, or
    `best`: of those still there, by `checkpoint.best`).

    Raises:
        UserError: there is no such run or checkpoint, or its configuration is not the one that its weights
            are of.
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
    settings = run / layout.CONFIG
    if not settings.is_file():
        raise UserError(
            f"{run} has no {layout.CONFIG}: give the whole run directory, not its checkpoint alone"
        )
    config = load_config(str(settings), [])
    state = checkpoint.read_state(path)
    if not _are_classes(state.classes):
        raise WorkError(f"checkpoint {path} is damaged: {layout.STATE} names no classes with their counts")
    generator = FAMILIES[config.model.name].Generator(spec_of(config, len(state.classes)))
    try:
        content = (path / layout.EMA).read_bytes()
        generator.load_state_dict(from_bytes(content))
    except (OSError, SafetensorError) as error:
        raise WorkError(f"checkpoint {path}, {layout.EMA}: {error}") from None
    except RuntimeError:
        raise UserError(
            f"checkpoint {path} holds other networks than {settings} describes: it was edited, or another "
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
    there = {path.name: path for path in reversed(layout.checkpoints(run))}
    known = ", ".join(there) or "none"
    if name == "best":
        chosen = load_config(str(run / layout.CONFIG), []).checkpoint.best
        metric = Checkpoint().best if chosen == "none" else chosen
        found = best_images((each for each in read_log(run) if layout.after(each.images) in there), metric)
        if found is None:
            raise UserError(f"{run}: {metric} was measured for none of its checkpoints: {known}")
        name = layout.after(found)
    if name not in there:
        raise UserError(f"{run} has no complete checkpoint {name}; there are: {known}")
    checkpoint.read_state(there[name], verify=True)
    return there[name]


def load_generator(run: str | Path, checkpoint: str | None = None) -> nn.Module:
    """The averaged generator of a run, on the CPU, in evaluation mode, ready to be called.

    Latents [N, model.latent] from N(0, 1) and labels [N] (int64, in the order that `chexdist-shards inspect`
    shows; an unconditional generator ignores them) -> images [N, 1, model.size, model.size] in [-1, 1], -1
    black.

    Images that leave the house go through `chexdist generate`, which also looks for copies of training
    images.

    Args:
        checkpoint: its name, such as `images-10000`, or `best` by `checkpoint.best`; None takes the newest
            complete one.

    Raises:
        UserError, WorkError: as `load_run` does.
    """
    return load_run(run, checkpoint).generator.requires_grad_(False)
