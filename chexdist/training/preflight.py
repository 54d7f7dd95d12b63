"""Checks a run before any process group exists and before torch is loaded, and describes it for
`--dry-run`.
"""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from chexdist.config.rules import check_unchanged, check_world, frozen, shareable
from chexdist.config.tree import Config
from chexdist.data.ahead import cache_bytes, max_skew, widest_window
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.order import batch_samples
from chexdist.distributed.launcher import check_launcher
from chexdist.distributed.partition import share
from chexdist.distributed.world import World, check_asked_world
from chexdist.errors import UserError
from chexdist.run import layout


def check(config: Config, world: World) -> Manifest:
    """Everything that can be wrong and seen from one process.

    Raises:
        UserError: with the option, the rule and the cure.
    """
    check_launcher(config)
    check_asked_world(world)
    check_world(config, world.size)
    manifest = read_manifest(config.data.shards, config.data)
    check_settings(config, manifest)
    if config.run.dir:
        check_run(config, manifest)
    if config.train.start and not (config.run.dir and layout.checkpoints(Path(config.run.dir))):
        check_start(Path(config.train.start))
    return manifest


def check_start(path: Path) -> None:
    """Whether there is a checkpoint to begin with; raises `UserError`."""
    if not (path / layout.STATE).is_file() and not layout.checkpoints(path):
        raise UserError(
            f"train.start {path}: is no checkpoint and no run directory with a complete one; give RUN or "
            "RUN/checkpoints/NAME"
        )


def check_settings(config: Config, manifest: Manifest) -> None:
    """What the configuration asks of the shards and of installed packages; raises `UserError` as `check`
    does.
    """
    if manifest.size != config.model.size:
        raise UserError(
            f"model.size {config.model.size}, but the shards in {manifest.directory} hold {manifest.size} "
            f"px: set model.size to {manifest.size}, or build with --size {config.model.size}"
        )
    if not len(manifest.splits.get("train", ())):
        raise UserError(
            f"{manifest.directory} has no training samples: build it with a --split that has train"
        )
    counts = manifest.class_counts("train")
    missing = [name for name, count in zip(manifest.classes, counts, strict=True) if not count]
    if missing:
        raise UserError(
            f"the training split has no sample of class {', '.join(missing)}: build the shards with more of "
            "it"
        )
    if config.eval.split not in manifest.splits:
        raise UserError(f"eval.split {config.eval.split}: the shards have {', '.join(manifest.splits)}")
    if not len(manifest.splits[config.eval.split]):
        raise UserError(
            f"eval.split {config.eval.split}: {manifest.directory} has no image in it, and evaluations need "
            "images of patients that are not trained on: build it with more patients, or with a --split that "
            f"has {config.eval.split}"
        )
    _check_cache(config, manifest)
    tracker = config.run.tracker
    if tracker != "none" and not find_spec(tracker):
        package = "'chexdist[tensorboard]'" if tracker == "tensorboard" else tracker.replace("_", "-")
        raise UserError(
            f"run.tracker {tracker}: it is not installed: `pip install {package}`, or set run.tracker to none"
        )


def _check_cache(config: Config, manifest: Manifest) -> None:
    if manifest.cache is None:
        return
    needed, limit, data = _cache_room(config, manifest), manifest.cache.limit, config.data
    if needed <= limit:
        return
    train = manifest.splits["train"]
    mixed = f"{data.window} of its {len(train.shards)}" if data.window else f"all {len(train.shards)}"
    narrower = widest_window(
        train.shard_sizes, train.shard_bytes, max_skew(config.train.batch, data.workers), limit
    )
    cure = f", or data.window to {narrower} or less" if narrower and _largest(manifest) <= limit else ""
    raise UserError(
        f"data.cache_gib {data.cache_gib:g} is {limit:,} bytes, but {mixed} shards are mixed with each "
        f"other (data.window) while the next are fetched, which takes {needed:,}: set data.cache_gib to "
        f"{ceil(needed / 2**30 * 1e4) / 1e4}{cure}"
    )


def _cache_room(config: Config, manifest: Manifest) -> int:
    """Bytes that a node's cache must hold: of the training split while it is read in order, or of a single
    shard of another.
    """
    train, data = manifest.splits["train"], config.data
    skew = max_skew(config.train.batch, data.workers)
    return max(cache_bytes(train.shard_sizes, train.shard_bytes, data.window, skew), _largest(manifest))


def _largest(manifest: Manifest) -> int:
    return max(size for split in manifest.splits.values() for size in split.shard_bytes)


def check_run(config: Config, manifest: Manifest) -> None:
    """Whether the run directory can be one, and what is there was begun with these settings; raises
    `UserError`.
    """
    path = Path(config.run.dir)
    try:
        for parent in (path, *path.parents):
            if parent.exists() and not parent.is_dir():
                raise UserError(f"run.dir {path}: {parent} is a file: choose another")
    except OSError as error:
        raise UserError(f"run.dir {path}: {error.filename}: {error.strerror}") from None
    checkpoints = layout.checkpoints(path)
    if not checkpoints:
        return
    try:
        state = json.loads((checkpoints[0] / layout.STATE).read_bytes())
        check_resumed(state["settings"], state["manifest"], config, manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # damaged: it is passed over when it is loaded, and the one before is compared then


def check_resumed(settings: dict[str, Any], digest: str, config: Config, manifest: Manifest) -> None:
    """Refuse to resume from a checkpoint with these settings and this manifest digest under another
    configuration.

    Raises:
        UserError: naming what differs.
    """
    check_unchanged(settings, frozen(config))
    if digest != manifest.digest:
        raise UserError(
            f"this run began with other shards than {manifest.directory} holds now, built anew or extended: "
            "give those, or choose another run.dir; --train.start RUN begins there with this run's weights"
        )


def dry_run_lines(config: Config, manifest: Manifest, world: World) -> Iterator[str]:
    """The resolved configuration, and what each rank will read in its first batch and in its first epoch."""
    yield yaml.safe_dump(shareable(config), sort_keys=False)
    train, split = config.train, manifest.splits["train"]
    epoch = -(-len(split) // train.batch)
    yield (
        f"{len(split)} training samples in {len(split.files)} shards, classes "
        + ", ".join(
            f"{name} {count}"
            for name, count in zip(manifest.classes, manifest.class_counts("train"), strict=True)
        )
    )
    if manifest.cache is not None:
        yield (
            f"fetched from {manifest.directory} into {manifest.cache.directory}: "
            f"{_cache_room(config, manifest):,} bytes on each node at a time, of "
            f"{sum(split.shard_bytes):,}; data.cache_gib allows {manifest.cache.limit:,}"
        )
    yield (
        f"{-(-train.images // train.batch)} batches of {train.batch} in groups of {train.group}; an epoch "
        f"is {epoch} of them"
    )
    first = batch_samples(split.shard_sizes, train.seed, config.data.window, train.batch, 0)
    for rank in range(world.size):
        mine = share(train.batch, train.group, world.size, rank)
        keys = split.key[first[mine.start : mine.stop]]
        shown = " ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")
        yield f"rank {rank}: images {mine.start} to {mine.stop - 1} of each batch; batch 0 is {shown}"
