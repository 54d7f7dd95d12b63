"""`chexdist train`: configuration, checks, then the trainer. Only what is to be trained waits for torch."""

import argparse
from threading import Event

from chexdist.commands.parser import parser
from chexdist.config.load import load_config
from chexdist.distributed.world import World
from chexdist.errors import UserError
from chexdist.training.preflight import check, dry_run_lines


def train(arguments: list[str], stop: Event | None = None) -> int:
    """`chexdist train ARGUMENTS` in this process and thread; returns its exit code, 0 or 75.

    In the main thread it takes over the signals that ask for a stop. In another, as Ray Train and notebooks
    call it, signals stay the caller's, and `stop.set()` from any thread stops the run after a batch, saved.

    Raises:
        UserError, WorkError: what the command would print.
    """
    options, settings = parser().parse_known_args(["train", *arguments])
    return run(options, settings, stop)


def run(options: argparse.Namespace, settings: list[str], stop: Event | None = None) -> int:
    """Exit code 0, or 75 after an agreed early stop; raises `UserError` and `WorkError`."""
    world = World.asked() if options.dry_run else World.detect()
    config = load_config(options.config, settings)
    manifest = check(config, world)
    if options.dry_run:
        if world.is_main:
            print("\n".join(dry_run_lines(config, manifest, world)))
        return 0
    if not config.run.dir:
        raise UserError("run.dir is not set: give --run.dir the directory that is to be made for the run")

    from chexdist.doctor.memory import check_part
    from chexdist.training import start

    check_part(config, manifest, world)
    return start.train(config, manifest, world, stop)
