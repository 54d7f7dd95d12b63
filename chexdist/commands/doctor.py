"""`chexdist doctor`: examines machine and configuration, shows what was found; exit code 1 for a fault."""

import argparse
import gc
import platform
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from chexdist.distributed.world import World
from chexdist.doctor.finding import Finding, Findings, Verdict, counted
from chexdist.doctor.packages import check_versions
from chexdist.errors import UserError

if TYPE_CHECKING:
    from chexdist.config.tree import Config

MOST_RANKS = 65_536
COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAULT: "bold red", Verdict.SKIPPED: "dim"}


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0, or 1 when there is a fault. The process is to end then: garbage is not collected any more.

    Raises:
        UserError: for what is wrong on the command line itself.
    """
    world = World.detect()
    findings = Findings()
    try:
        config = _config(options, settings)
    except ImportError:
        config = None  # which package it is, the next check says
    gc.disable()  # for good: looking for garbage among the modules of torch takes two of its few seconds
    versions = findings.check("packages", check_versions)
    if versions is not None:
        return _examine(options, config, world, findings, versions)
    findings.check("everything else", lambda note: note.skipped("needs these packages"))
    return _say(findings.found, [], world, alone=True)


def _config(options: argparse.Namespace, settings: list[str]) -> "Config | None":
    """What the command line says; raises `UserError`, as training does."""
    simulate = options.simulate_world
    if simulate is not None and not 1 <= simulate <= MOST_RANKS:
        raise UserError(f"--simulate-world {simulate}: must be 1 to {MOST_RANKS}")
    if settings and options.config is None:
        raise UserError(f"{settings[0]}: settings need a configuration to change: give --config too")
    config = None
    if options.config is not None:
        from chexdist.config.load import load_config

        given = {"--data.shards": options.shards, "--run.dir": options.run}
        more = [word for name, value in given.items() if value for word in (name, value)]
        config = load_config(options.config, [*settings, *more])
    if simulate is not None and (config is None or not config.data.shards):
        raise UserError("--simulate-world needs batch and samples: give --config and --data.shards too")
    return config


def _examine(
    options: argparse.Namespace,
    config: "Config | None",
    world: World,
    findings: Findings,
    versions: dict[str, str],
) -> int:
    from chexdist.doctor.examine import Examination, Subject
    from shards.progress import Progress

    shards = config.data.shards if config else options.shards or ""
    run = config.run.dir if config else options.run or ""
    examination = Examination(Subject(world, config, shards, run, options.simulate_world), findings, versions)
    steps = examination.steps()
    with Progress("doctor", len(steps), "steps") if world.is_main else nullcontext() as progress:
        for step in steps:
            step()
            if progress is not None:
                progress.advance(1)
    found = examination.answer()
    code = _say(found, examination.simulated, world, alone=examination.peers.group is None)
    examination.leave()
    return code


def _say(found: list[Finding], simulated: list[str], world: World, alone: bool) -> int:
    """Rank 0 shows everything, another rank only faults that rank 0 can't know of. Returns the exit code."""
    if world.is_main:
        _show(found, simulated)
    elif alone:
        for fault in (finding for finding in found if finding.verdict == Verdict.FAULT):
            print(f"chexdist, rank {world.rank} on {platform.node()}: {fault}", file=sys.stderr)
    sys.stdout.flush()
    return 1 if any(finding.verdict == Verdict.FAULT for finding in found) else 0


def _show(found: list[Finding], simulated: list[str]) -> None:
    """A table on a terminal; elsewhere a line for each finding."""
    counts = {verdict: sum(finding.verdict == verdict for finding in found) for verdict in Verdict}
    summary = f"{counted(counts[Verdict.FAULT], 'fault')}, {counted(counts[Verdict.WARNING], 'warning')}"
    try:
        from rich.console import Console
    except ImportError:
        terminal = False
    else:
        terminal = Console().is_terminal
    if terminal:
        _table(found)
    else:
        print("\n".join(map(str, found)))
    if simulated:
        print("simulated: " + "\n".join(simulated))
    print(summary)


def _table(found: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=False)
    for column in ("check", "", "finding"):
        table.add_column(column, no_wrap=column != "finding", vertical="top")
    for finding in found:
        text = Text(finding.text)
        if finding.cure:
            text.append(f"\ncure: {finding.cure}", style="bold")
        table.add_row(finding.check, Text(finding.verdict, style=COLOURS[finding.verdict]), text)
    Console().print(table)
