"""`chexdist export`: a generator as one file, for this program or for others."""

import argparse
import sys
from pathlib import Path

from chexdist.distributed.world import World
from chexdist.errors import UserError, WorkError
from shards.files import replace_file


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0; raises `UserError` and `WorkError`."""
    if World.detect().size > 1:
        raise UserError("export is the work of one process: start it without a launcher")
    if not options.licence.isprintable() or not options.licence:
        raise UserError("--licence: one line of text, such as 'CC BY-NC 4.0'")
    out = Path(options.out)
    if out.exists() or out.is_symlink():
        raise UserError(f"--out {out} exists: choose another, or remove it")

    from chexdist.generation.export import FORMATS, facts
    from chexdist.run import layout
    from chexdist.run.trained import load

    suffix, content = FORMATS[options.format]
    if out.suffix != suffix:
        raise UserError(f"--out {out}: a {options.format} file ends in {suffix}")
    loaded = load(options.run, options.checkpoint)
    for line in loaded.passed_over:
        print(f"chexdist: {line}", file=sys.stderr)
    said = facts(loaded, options.licence)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, content(loaded, said))
    except OSError as error:
        raise WorkError(f"--out {out}: {error.strerror or error}; it was not made") from None
    print(
        f"{said['model']} of {layout.after(loaded.images)}, {said['size']} px, in {out}, "
        f"with a model card; licence: {said['licence']}"
    )
    print("what is drawn from it is not audited for copies of training images: see the card")
    return 0
