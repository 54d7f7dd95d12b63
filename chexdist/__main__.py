"""The `chexdist` command: reads the command line, and turns what goes wrong into a line and an exit code."""

import argparse
import sys
from importlib import import_module
from typing import NoReturn

from chexdist import __version__
from chexdist.errors import AgreedError, UserError, WorkError
from chexdist.world import World

COMMANDS = {
    "train": "train a GAN on a shard directory, or go on with a run",
    "demo": "phantom X-rays -> shards -> the three GANs -> metrics, on this CPU",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """Every command and option; what a command does is loaded only when it runs."""
    top = _Parser(prog="chexdist", description="Train chest X-ray GANs over any number of machines.")
    top.add_argument("--version", action="version", version=f"chexdist {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    train = commands.add_parser(
        "train",
        help=COMMANDS["train"],
        description=f"{COMMANDS['train']}. Settings are given as --section.key value.",
    )
    train.add_argument(
        "--config", required=True, help="a YAML file, or the name of a configuration that comes with chexdist"
    )
    train.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and what each rank will read"
    )
    demo = commands.add_parser("demo", help=COMMANDS["demo"], description=COMMANDS["demo"])
    demo.add_argument("--out", default="demo", help="directory to make (default: demo)")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    rank = 0
    try:
        options, settings = parser().parse_known_args(arguments)
        if settings and options.command != "train":
            raise UserError(f"{settings[0]}: unknown option; see `chexdist {options.command} --help`")
        rank = World.detect().rank
        return import_module(f"chexdist.commands.{options.command}").run(options, settings)
    except (UserError, WorkError) as error:
        if rank == 0 or isinstance(error, WorkError) and not isinstance(error, AgreedError):
            print(f"chexdist{f', rank {rank}' if rank else ''}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "chexdist: stopped at once; the newest checkpoint is where the same command goes on",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
