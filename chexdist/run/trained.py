"""Loads an averaged generator out of a run directory, a checkpoint alone or an exported file, and says what
has to be known to draw from it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from chexdist.config.load import build_config, load_config
from chexdist.config.rules import frozen
from chexdist.config.spec import spec_of
from chexdist.config.tree import Checkpoint, Config
from chexdist.errors import UserError, WorkError
from chexdist.gan.models import FAMILIES
from chexdist.run import checkpoint, exported, layout
from chexdist.run.generator import TrainedGenerator
from chexdist.run.log import read_log
from chexdist.run.retention import best_images
from chexdist.run.sampling import prepare, sample
from chexdist.run.verdict import HEALTHY, judge

NEEDED = (
    *("model.name", "model.size", "model.conditional", "model.latent", "model.width"),
    *("loss.name", "train.batch", "train.group", "train.seed"),
)
"""What a checkpoint alone must say of the settings of its run."""


@dataclass(frozen=True)
class Loaded:
    """An averaged generator, prepared, in evaluation mode, on the CPU, and what has to be known to draw from
    it.

    `classes` are the training images by class name, in label order; `images` the training images that the
    checkpoint has seen; `manifest` the digest of the shards' manifest; `weights` the SHA-256 of the weights'
    file; `passed_over` a line for each newer checkpoint that is damaged, and one where the best is no good
    one; `run` its run directory, None where it is not known: then no setting outside `frozen` is that of the
    run."""

    config: Config
    classes: dict[str, int]
    generator: nn.Module
    images: int
    manifest: str
    weights: str
    passed_over: tuple[str, ...]
    run: Path | None = None

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training images of each class, in label order."""
        return tuple(self.classes.values())

    def sample(self, seed: int, rows: range, label: int | None = None, truncation: float = 1.0) -> Tensor:
        """Images [len(rows), 1, size, size] in [-1, 1]; see `sample`."""
        latent, counts = self.config.model.latent, self.class_counts
        return sample(self.generator, latent, counts, seed, rows, label, truncation)


def load(path: str | Path, name: str | None = None) -> Loaded:
    """The generator of a run directory, of a checkpoint's folder, or of an exported safetensors file.

    A checkpoint in its run directory is that of the run; one alone, with all of its files, is read by what
    it says of the run's settings.

    Args:
        name: the checkpoint of a run directory, as `load_run` takes it.

    Raises:
        UserError, WorkError: as `load_run` and `exported.read` do.
    """
    path = Path(path)
    is_checkpoint = (path / layout.STATE).is_file()
    if name and (path.is_file() or is_checkpoint):
        raise UserError(f"--checkpoint {name}: {path} is one checkpoint, not a run directory")
    if path.is_file():
        return _from_file(path)
    folder = path.resolve()
    if folder.name == layout.CHECKPOINTS and (folder.parent / layout.CONFIG).is_file():
        return load_run(folder.parent, name)
    if not is_checkpoint:
        _check_no_part(path)
        return load_run(path, name)
    run = folder.parent.parent
    if folder.parent.name == layout.CHECKPOINTS and (run / layout.CONFIG).is_file():
        return load_run(run, folder.name)
    state = checkpoint.read_state(path, verify=True)
    config = _config(state.settings, f"checkpoint {path}, {layout.STATE}")
    return _of_checkpoint(path, state, config, f"its {layout.STATE}")


def _check_no_part(path: Path) -> None:
    """Raises UserError for a folder with some files of a checkpoint, but not the one that lists them."""
    found = [file for file in layout.TENSORS if (path / file).is_file()]
    if found:
        raise UserError(
            f"{path} holds {', '.join(found)} of a checkpoint, but not its {layout.STATE}, which is written "
            "last and lists the others: it was copied in part, or its save was cut; give a whole one, "
            "or the run directory"
        )


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
    if name == "best":
        passed_over += _doubts(run, path, config)
    return _of_checkpoint(
        path, checkpoint.read_state(path), config, str(settings), run=run, passed_over=tuple(passed_over)
    )


def _doubts(run: Path, path: Path, config: Config) -> list[str]:
    """What is to be known of the best checkpoint of a run that was not healthy by then."""
    images = layout.images_of(path.name) or 0
    settings = {**frozen(config), "train.images": config.train.images}
    verdict = judge([each for each in read_log(run) if each.images <= images], settings)
    if verdict.name == HEALTHY:
        return []
    return [f"{path.name} is the best of {run}, but not a good one: {verdict}"]


def _of_checkpoint(
    path: Path, state: checkpoint.State, config: Config, described: str, **more: Any
) -> Loaded:
    """The generator of a checkpoint under a configuration, which `described` names; `more` of its fields."""
    if not _are_classes(state.classes):
        raise WorkError(f"checkpoint {path} is damaged: {layout.STATE} names no classes with their counts")
    try:
        content = (path / layout.EMA).read_bytes()
        tensors = from_bytes(content)
    except (OSError, SafetensorError) as error:
        raise WorkError(f"checkpoint {path}, {layout.EMA}: {error}") from None
    generator = _filled(config, len(state.classes), tensors)
    if generator is None:
        raise UserError(
            f"checkpoint {path} holds other networks than {described} describes: it was edited, or another "
            "version of chexdist trained them and is needed to draw from them"
        )
    counts = tuple(state.classes.values())
    prepare(generator, config.model.latent, config.train.group, counts, config.train.seed)
    return Loaded(
        config=config,
        classes=state.classes,
        generator=generator,
        images=state.images,
        manifest=state.manifest,
        weights=hashlib.sha256(content).hexdigest(),
        **{"passed_over": (), **more},
    )


def _from_file(path: Path) -> Loaded:
    origin, tensors = exported.read(path)
    if not _are_classes(origin.classes):
        raise UserError(f"{path} is damaged: it names no classes with their counts")
    config = _config(origin.settings, str(path))
    generator = _filled(config, len(origin.classes), tensors)
    if generator is None:
        raise UserError(f"{path} holds other networks than it says: it was edited, or is of another version")
    return Loaded(
        config=config,
        classes=origin.classes,
        generator=generator.eval(),
        images=origin.images,
        manifest=origin.manifest,
        weights=hashlib.sha256(to_bytes(generator.state_dict())).hexdigest(),
        passed_over=(),
    )


def _config(settings: object, source: str) -> Config:
    """The configuration from settings by `section.key`; what they lack has its default.

    Raises:
        UserError: they are none, or not those of a run.
    """
    known = settings if isinstance(settings, dict) else {}
    missing = [key for key in NEEDED if key not in known]
    if missing:
        raise UserError(
            f"{source} does not say {', '.join(missing)}, as early versions did not: give the whole run "
            "directory instead"
        )
    tree: dict[str, Any] = {}
    for key, value in known.items():
        *sections, last = key.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise UserError(f"{source}: {key} is below a setting that has a value")
        inner[last] = value
    try:
        return build_config(tree)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _filled(config: Config, classes: int, tensors: dict[str, Tensor]) -> nn.Module | None:
    """A generator with these weights and, if they are there, batch statistics; None if they are not its own.

    Shapes are compared before memory is taken for the network that settings describe."""
    make, spec = FAMILIES[config.model.name].Generator, spec_of(config, classes)
    with torch.device("meta"):
        described = make(spec)
    weights = described.state_dict()
    statistics = {name: buffer for name, buffer in described.named_buffers() if name not in weights}
    wanted = weights if tensors.keys() == weights.keys() else weights | statistics
    if {name: each.shape for name, each in tensors.items()} != {
        name: each.shape for name, each in wanted.items()
    }:
        return None
    generator = make(spec)
    with torch.no_grad():
        for name, live in [*generator.named_parameters(), *generator.named_buffers()]:
            if name in tensors:
                live.copy_(tensors[name])
    return generator


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


def load_generator(path: str | Path, checkpoint: str | None = None) -> TrainedGenerator:
    """The averaged generator of a run directory, a checkpoint's folder or an exported safetensors file.

    On the CPU, in evaluation mode, ready to be called; see `TrainedGenerator`.

    Images that leave the house go through `chexdist generate`, which also looks for copies of training
    images.

    Args:
        checkpoint: its name, such as `images-10000`, or `best` by `checkpoint.best`; None takes the newest
            complete one.

    Raises:
        UserError, WorkError: as `load` does.
    """
    loaded = load(path, checkpoint)
    model = loaded.config.model
    counts = loaded.classes if model.conditional else {}
    return TrainedGenerator(loaded.generator, counts, model.latent, model.size).requires_grad_(False)
