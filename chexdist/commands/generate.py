"""`chexdist generate`: audited synthetic X-rays of a run in a folder that appears complete or not."""

import argparse
import signal
import sys
from pathlib import Path

from chexdist.distributed.world import World
from chexdist.errors import UserError, WorkError
from shards.files import appearing_folder

MOST = 100_000


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0; raises `UserError` and `WorkError`."""
    out = Path(options.out)
    _check(options, out)
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        return _generate(options, out)
    except KeyboardInterrupt:
        raise WorkError(f"stopped; {out} was not made") from None


def _check(options: argparse.Namespace, out: Path) -> None:
    if not 1 <= options.n <= MOST:
        raise UserError(
            f"--n {options.n}: from 1 to {MOST} pictures; for more, another --seed and another --out"
        )
    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed {options.seed}: from 0 to 2^63 - 1")
    if options.shards and options.no_audit:
        raise UserError("--shards and --no-audit: the shards are for the audit alone; give one of the two")
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"--out {out} exists and is not an empty folder: choose another, or remove it")
    world = World.detect()
    if world.size > 1:
        raise UserError(f"generate is one process, and a launcher started {world.size}: start it without one")


def _generate(options: argparse.Namespace, out: Path) -> int:
    from chexdist.generation.audit import Audit, training_shards
    from chexdist.generation.produce import Request, class_number, generate
    from chexdist.run import layout
    from chexdist.run.trained import load_run

    loaded = load_run(options.run, options.checkpoint)
    for line in loaded.passed_over:
        print(f"chexdist: {line}", file=sys.stderr)
    class_number(loaded, options.label)  # before the audit, which takes a while
    request = Request(options.n, options.seed, options.label, options.format)
    shards = options.shards or loaded.config.data.shards
    manifest = None if options.no_audit else training_shards(shards, loaded.manifest, loaded.config.data)
    try:
        with appearing_folder(out) as folder:
            audit = Audit(manifest) if manifest else None
            made = generate(loaded, request, audit, folder)
    except OSError as error:
        raise WorkError(f"--out {out}: {error.strerror or error}; it was not made") from None
    print(
        f"{made.kept} synthetic X-rays of {layout.after(loaded.images)} in {out}, "
        "with index.csv and sheet.png"
    )
    if audit:
        found = audit.threshold
        print(
            f"audit: {made.near_copies} of {len(made.rows)} drawn were near-copies of "
            f"{len(audit.references)} training images, and were replaced: likeness above {found.value:.3f}, "
            f"which {100 * found.rate:.1f} % of {found.images} real X-rays exceed towards other patients"
        )
    else:
        print("audit: none, as --no-audit asks; any of these pictures may be a copy of a patient's X-ray")
    return 0
