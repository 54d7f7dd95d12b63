"""`chexdist diagnose`: whether a training was healthy, from what it left, with a picture of its curves."""

import argparse
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from chexdist.errors import UserError
from chexdist.run import layout
from shards.files import replace_file

if TYPE_CHECKING:
    from chexdist.report.collect import RunRecord
    from chexdist.run.verdict import Verdict


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
        if verdict.is_ill:
            print("  from first to last until one helps, each in another run, for example:")
            print(f"  {_another(record, verdict)}")
    if ill:
        print("what is unusual about settings and data, says")
        print("  chexdist doctor --config RUN/config.yaml --data.shards DIR")
    if out is not None:
        try:
            replace_file(out, drawing(runs[0], diagnosed(runs[0])))
        except OSError as error:
            raise UserError(f"--out {out}: {error.strerror}") from None
        print(f"{out}: the curves that it is judged by")
    return 1 if ill else 0


def _another(record: "RunRecord", verdict: "Verdict") -> str:
    """The command for a run with the settings of this one but for those that are far from a rule, else but
    for the first cure that is a setting.
    """
    cures = [cure for cure in verdict.cures if cure.startswith("--") and not cure.startswith("--config")]
    far = [cure.partition(":")[0] for cure in cures if ":" in cure]
    command = f"chexdist train --config {quote(str(record.path / layout.CONFIG))} --data.shards DIR"
    return " ".join([command, "--run.dir NEW", *(far or cures[:1])])
