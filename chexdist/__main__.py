"""The `chexdist` command: runs what the command line asks for; what goes wrong is a line and an exit code.

0 done; 1 the work could not be finished, or the doctor found a fault; 2 the user's mistake; 75 an agreed
early stop; 130 Ctrl-C.
"""

import os
import platform
import signal
import sys
import time
from importlib import import_module
from importlib.util import find_spec

from chexdist.commands.parser import parser
from chexdist.distributed.world import World
from chexdist.errors import AgreedError, UserError, WorkError
from shards.stop_signals import stoppable

INSTALL = "run `pip install -e .` in the clone, or `make .venv/.ready` there and use .venv/bin"
RANK_0_FIRST = 10.0
"""Seconds that a rank which prints nothing outlives its error."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    rank = 0
    try:
        if find_spec("chexdist.configs") is None:  # another folder of the clone, which installing maps here
            raise UserError(f"this clone is not installed: {INSTALL}")
        options, settings = parser().parse_known_args(arguments)
        if settings and options.command not in ("train", "doctor"):
            raise UserError(f"{settings[0]}: unknown option; see `chexdist {options.command} --help`")
        rank = World.detect().rank
        with stoppable(signal.SIGINT):
            return import_module(f"chexdist.commands.{options.command}").run(options, settings)
    except (UserError, WorkError) as error:
        if rank == 0 or isinstance(error, WorkError) and not isinstance(error, AgreedError):
            print(f"chexdist{f', rank {rank}' if rank else ''}: {error}", file=sys.stderr)
        elif "TORCHELASTIC_RUN_ID" in os.environ:
            let_rank_0_print()  # else rank 0 has not made this mistake: its node has what this one lacks
            print(f"chexdist, rank {rank} on {platform.node()}: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "chexdist").partition(".")[0]
        if package in ("chexdist", "shards"):
            raise
        print(f"chexdist: {sys.executable} has no package {package}: {INSTALL}", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print(
            "chexdist: stopped at once; the same command resumes training from the newest checkpoint, if any",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 1


def let_rank_0_print() -> None:
    """Wait to be killed with rank 0: when its first rank exits, torchrun kills the others at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(RANK_0_FIRST)


def command() -> int:
    """`main`, for a process that has nothing else to do."""
    code = main()
    if group := sys.modules.get("chexdist.distributed.process_group"):
        group.leave(code)
    return code


if __name__ == "__main__":
    sys.exit(command())
