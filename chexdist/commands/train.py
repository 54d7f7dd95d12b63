"""`chexdist train`: configuration, checks, then the trainer. Only what is to be trained waits for torch."""

import argparse

from chexdist.config.load import load_config
from chexdist.distributed.world import World
from chexdist.errors import UserError
from chexdist.training.preflight import check, dry_run_lines


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0, or 75 after an agreed early stop; raises `UserError` and `WorkError`."""
    world = World.detect()
    config = load_config(options.config, settings)
    manifest = check(config, world)
    if options.dry_run:
        if world.is_main:
            print("\n".join(dry_run_lines(config, manifest, world)))
        return 0
    if not config.run.dir:
        raise UserError("run.dir is not set: give --run.dir the directory that is to be made for the run")

    from chexdist.training.start import train

    return train(config, manifest, world)
