"""`chexdist diagnose`: whether a training was healthy, from what it left, with a picture of its curves."""

import argparse
from pathlib import Path

from chexdist.errors import UserError
from shards.files import replace_file


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0, or 1 where a run is ill; raises `UserError`."""
    out = Path(options.out) if options.out else None
    if out is not None and (out.suffix != ".svg" or not out.parent.is_dir() or out.is_dir()):
        raise UserError(f"--out {out}: must be a name in .svg, in a folder that exists")

    from chexdist.report.collect import collect
    from chexdist.report.health import diagnosed, drawing

    runs = collect(options.runs)
    if out is not None and len(runs) != 1:
        raise UserError(f"--out {out}: shows the curves of one run; {len(runs)} are given")
    ill = 0
    for record in runs:
        verdict = diagnosed(record)
        ill += verdict.is_ill
        print(f"{record.name}: {verdict}")
        for number, cure in enumerate(verdict.cures, 1):
            print(f"  {number}. {cure}")
    if ill:
        print(
            "a run keeps the settings that decide what it learns: begin another, with a --run.dir of its own"
        )
    if out is not None:
        try:
            replace_file(out, drawing(runs[0], diagnosed(runs[0])))
        except OSError as error:
            raise UserError(f"--out {out}: {error.strerror}") from None
        print(f"{out}: the curves that it is judged by")
    return 1 if ill else 0
