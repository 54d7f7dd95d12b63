"""`chexdist generate`: audited synthetic X-rays in a folder or file that appears complete or not at all."""

import argparse
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chexdist.distributed.world import World
from chexdist.errors import UserError, WorkError
from shards.files import appearing_folder, replace_file
from shards.stop_signals import stoppable

if TYPE_CHECKING:
    from chexdist.evaluation.copies import Audit
    from chexdist.generation.produce import Made
    from chexdist.run.trained import Loaded

MOST = 100_000
MOST_IN_GRID = 1024
DEFAULTS: dict[str, Any] = {
    "n": 64,
    "seed": 0,
    "label": None,
    "format": "png",
    "bits": 8,
    "truncation": 1.0,
    "steps": 8,
}
MODES = {
    "history": ("n", "seed", "label", "format", "bits", "truncation", "steps", "out", "checkpoint"),
    "interpolate": ("n", "seed"),
    "grid": ("n", "format", "steps"),
}
"""What else a run of the command may make than a folder of pictures, and the options that have no meaning
then."""


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0; raises `UserError` and `WorkError`."""
    mode = _mode(options)
    for name, value in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    out = Path(options.history if mode == "history" else options.out)
    shape = _check(options, mode, out)
    try:
        with stoppable(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            return _generate(options, mode, shape, out)
    except KeyboardInterrupt:
        raise WorkError(f"stopped; {out} was not made") from None


def _mode(options: argparse.Namespace) -> str:
    """`pictures`, or which of MODES is asked for; raises `UserError` for options that contradict it."""
    asked = [name for name in MODES if getattr(options, name) is not None]
    if len(asked) > 1:
        raise UserError(f"--{asked[0]} and --{asked[1]}: give one of the two")
    mode = asked[0] if asked else "pictures"
    for name in MODES.get(mode, ("steps",)):
        if getattr(options, name) is not None:
            cure = f"leave it out with --{mode}" if asked else "it belongs to --interpolate A B"
            raise UserError(f"--{name} {getattr(options, name)}: {cure}")
    if mode != "history" and options.out is None:
        raise UserError("--out must be given: a folder to make, or with --grid a file; see --help")
    return mode


def _check(options: argparse.Namespace, mode: str, out: Path) -> tuple[int, int]:
    """Refuse what can't be made. Returns the rows and columns of a grid."""
    if not 1 <= options.n <= MOST:
        raise UserError(
            f"--n {options.n}: from 1 to {MOST} pictures; for more, another --seed and another --out"
        )
    for name, seed in [("seed", options.seed)] + [
        ("interpolate", each) for each in options.interpolate or ()
    ]:
        if not 0 <= seed < 2**63:
            raise UserError(f"--{name} {seed}: from 0 to 2^63 - 1")
    if options.interpolate and options.interpolate[0] == options.interpolate[1]:
        raise UserError(f"--interpolate {options.interpolate[0]} twice: give two seeds")
    if options.interpolate and not 2 <= options.steps <= 64:
        raise UserError(f"--steps {options.steps}: from 2 to 64 pictures, the two ends included")
    if not 0 < options.truncation <= 1:
        raise UserError(f"--truncation {options.truncation}: above 0 and up to 1, which changes nothing")
    if options.shards and options.no_audit:
        raise UserError("--shards and --no-audit: the shards are for the audit alone; give one of the two")
    suffix = {"grid": ".png", "history": ".gif"}.get(mode)
    if suffix:
        if out.suffix != suffix or out.exists() or out.is_symlink():
            name = "history" if mode == "history" else "out"
            raise UserError(f"--{name} {out}: with --{mode}, a file to make that ends in {suffix}")
    elif out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"--out {out} exists and is not an empty folder: choose another, or remove it")
    world = World.detect()
    if world.size > 1:
        raise UserError(f"generate is one process, and a launcher started {world.size}: start it without one")
    return _shape(options.grid) if options.grid is not None else (0, 0)


def _shape(grid: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", grid)
    shape = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= shape[0] * shape[1] <= MOST_IN_GRID:
        raise UserError(f"--grid {grid}: ROWSxCOLS, such as 4x8, of {MOST_IN_GRID} pictures at most")
    return shape


def _generate(options: argparse.Namespace, mode: str, shape: tuple[int, int], out: Path) -> int:
    from chexdist.evaluation.copies import Audit
    from chexdist.generation.audit import training_shards
    from chexdist.generation.history import sampled
    from chexdist.generation.produce import class_number
    from chexdist.run.trained import load

    loaded = load(options.run, options.checkpoint)
    for line in loaded.passed_over:
        print(f"chexdist: {line}", file=sys.stderr)
    # before the audit, which takes a while
    class_number(loaded, options.label)
    if mode == "history":
        sampled(loaded)
    shards = options.shards or loaded.config.data.shards
    if not shards and not options.no_audit:
        raise UserError(
            f"{options.run} does not say where the shards are that it was trained on, which the audit needs: "
            "give them with --shards DIR, or leave the audit out with --no-audit"
        )
    manifest = None if options.no_audit else training_shards(shards, loaded.manifest, loaded.config.data)
    try:
        audit = Audit(manifest) if manifest else None
        said, made = _make(options, mode, shape, out, loaded, audit)
    except OSError as error:
        raise WorkError(f"--out {out}: {error.strerror or error}; it was not made") from None
    print(said)
    print(_audited(audit, made, "replaced" if mode in ("pictures", "grid") else "left out"))
    return 0


def _make(
    options: argparse.Namespace,
    mode: str,
    shape: tuple[int, int],
    out: Path,
    loaded: "Loaded",
    audit: "Audit | None",
) -> tuple[str, "Made"]:
    """What was made, in words, and how many images were drawn for it."""
    from chexdist.generation import history, interpolation, produce
    from chexdist.run import layout

    kind = (options.label, options.format, options.bits, options.truncation)
    after = layout.after(loaded.images)
    if mode == "history":
        content, frames, made = history.history(loaded, audit)
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, content)
        return f"{frames} frames of the training of {options.run} in {out}", made
    if mode == "grid":
        request = produce.Request(shape[0] * shape[1], options.seed, *kind)
        content, made = produce.grid(loaded, request, shape[1], audit)
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, content)
        return f"{shape[0]} x {shape[1]} synthetic X-rays of {after} in {out}", made
    with appearing_folder(out) as folder:
        if mode == "interpolate":
            way = interpolation.Way(tuple(options.interpolate), options.steps, *kind)
            made = interpolation.interpolate(loaded, way, audit, folder)
        else:
            made = produce.generate(loaded, produce.Request(options.n, options.seed, *kind), audit, folder)
    return f"{made.kept} synthetic X-rays of {after} in {out}, with index.csv and sheet.png", made


def _audited(audit: "Audit | None", made: "Made", done: str) -> str:
    if audit is None:
        return "audit: none, as --no-audit asks; any of these pictures may be a copy of a patient's X-ray"
    found = audit.threshold
    return (
        f"audit: {made.near_copies} of {made.drawn} drawn were near-copies of "
        f"{len(audit.references)} training images, and were {done}: likeness above {found.value:.3f}, "
        f"which {100 * found.rate:.1f} % of {found.images} real X-rays exceed towards other patients"
    )
