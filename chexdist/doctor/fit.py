"""Whether a configuration goes with the shards, with the world, and with what its run directory holds."""

from pathlib import Path

from chexdist.config.rules import check_world
from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest
from chexdist.doctor.finding import Note, counted
from chexdist.run import checkpoint
from chexdist.training.preflight import check_run, check_settings


def check_fit(note: Note, config: Config, manifest: Manifest) -> None:
    """What the configuration asks of the shards, and of installed packages; raises `UserError`."""
    check_settings(config, manifest)
    note.ok("the shards are what the configuration asks for")


def check_batch(note: Note, config: Config, ranks: int) -> None:
    """Raises `UserError` for more ranks than groups; a warning where shares are uneven."""
    check_world(config, ranks)
    train = config.train
    groups = train.batch // train.group
    text = (
        f"train.batch {train.batch} is {counted(groups, 'group')} of {train.group}, for "
        f"{counted(ranks, 'rank')}"
    )
    if groups % ranks:
        note.warning(
            f"{text}: a rank takes {groups // ranks} or {groups // ranks + 1} of them, and those with fewer "
            "wait",
            f"set train.batch to a multiple of {ranks * train.group}",
        )
    else:
        note.ok(f"{text}; up to {counted(groups, 'rank')} can share it")


def check_checkpoints(note: Note, path: Path, config: Config | None, manifest: Manifest | None) -> None:
    """Whether training can resume from what is there; raises `UserError` where shards or frozen settings
    differ.
    """
    newest, problems = checkpoint.newest(path)
    for problem in problems:
        note.warning(problem, "nothing to do, if training may resume from an older one")
    if config is not None and manifest is not None:
        check_run(config, manifest)
    note.ok(f"training would resume from {newest.name}" if newest else "none yet: training would begin")
