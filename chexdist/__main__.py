"""The `chexdist` command: reads the command line, and turns what goes wrong into a line and an exit code."""

import argparse
import sys
from importlib import import_module
from typing import NoReturn

from chexdist import __version__
from chexdist.config.shipped import shipped
from chexdist.distributed.world import World
from chexdist.errors import AgreedError, UserError, WorkError

COMMANDS = {
    "train": "train a GAN on a shard directory, or go on with a run",
    "evaluate": "metrics of a run's weights, beside those of real images",
    "generate": "synthetic X-rays as files, after an audit for copies of training images",
    "report": "runs side by side on one page that needs no network",
    "doctor": "what this machine and a configuration can and can't do, each fault with its cure",
    "demo": "phantom X-rays -> shards -> the three GANs -> metrics -> report, on this CPU",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """Every command and option; what a command does is loaded only when it runs."""
    top = _Parser(prog="chexdist", description="Train chest X-ray GANs over any number of machines.")
    top.add_argument("--version", action="version", version=f"chexdist {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    describe = {
        "train": _train,
        "evaluate": _evaluate,
        "generate": _generate,
        "report": _report,
        "doctor": _doctor,
        "demo": _demo,
    }
    for name, options in describe.items():
        options(commands.add_parser(name, help=COMMANDS[name], description=f"{COMMANDS[name]}."))
    return top


def _train(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Settings are given as --section.key value, such as --train.batch 64; --dry-run prints all of them. "
        f"Configurations that come with chexdist: {', '.join(shipped())}."
    )
    command.add_argument(
        "--config", required=True, help="a YAML file, or the name of a configuration that comes with chexdist"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and what each rank will read"
    )


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="the run directory; it may be training at the same time")
    _add_checkpoint(command)
    command.add_argument(
        "--split", choices=("val", "test"), default="val", help="held-out X-rays; keep test for the last look"
    )
    command.add_argument(
        "--samples",
        type=int,
        default=512,
        help="generated images, and as many again of each class (default: 512)",
    )
    command.add_argument(
        "--pairs",
        type=int,
        default=512,
        help="pairs of images for PSNR, MSE and SSIM, over all classes (default: 512)",
    )
    command.add_argument(
        "--seed", type=int, default=0, help="same run, options and seed: same numbers (default: 0)"
    )
    command.add_argument(
        "--extractor", metavar="NAME", help="whose features KID and FID compare (default: the run's own)"
    )
    _add_shards(command)


def _generate(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="the run directory; it may be training at the same time")
    command.add_argument("--n", type=int, default=64, help="how many (default: 64)")
    command.add_argument(
        "--out", required=True, metavar="DIR", help="folder to make; it appears complete or not at all"
    )
    command.add_argument(
        "--label", metavar="CLASS", help="of this class only (default: as in the training split)"
    )
    command.add_argument("--format", choices=("png", "dicom"), default="png", help="default: png")
    command.add_argument(
        "--seed", type=int, default=0, help="same run, options and seed: same pictures (default: 0)"
    )
    _add_checkpoint(command)
    _add_shards(command)
    command.add_argument(
        "--no-audit", action="store_true", help="don't look for copies of training images; the output says so"
    )


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs", metavar="RUN", nargs="+", help="run directories; they may be training at the same time"
    )
    command.add_argument(
        "--out", required=True, metavar="FILE", help="report.html, or report.md for its tables alone"
    )
    command.add_argument(
        "--with-real",
        action="store_true",
        help="show real X-rays too; then share the page only where they may be seen",
    )


def _doctor(command: argparse.ArgumentParser) -> None:
    command.epilog = "Settings are given as for train. Start it by the launcher that will start training."
    command.add_argument("--config", help="a YAML file or a name; without it the machine alone is examined")
    command.add_argument(
        "--data.shards",
        dest="shards",
        metavar="DIR",
        help="the shards to be trained on: a directory or its URL",
    )
    command.add_argument("--run.dir", dest="run", metavar="RUN", help="where the run is to be kept")
    command.add_argument(
        "--simulate-world",
        type=int,
        metavar="N",
        help="say what each of N ranks would read, and for how long",
    )


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", default="demo", help="directory to make (default: demo)")


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--checkpoint", metavar="images-N|best", help="which checkpoint (default: the newest; best: by KID)"
    )


def _add_shards(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data.shards",
        "--shards",
        dest="shards",
        metavar="DIR",
        help="the run's shards, if they have moved since it began",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    rank = 0
    try:
        options, settings = parser().parse_known_args(arguments)
        if settings and options.command not in ("train", "doctor"):
            raise UserError(f"{settings[0]}: unknown option; see `chexdist {options.command} --help`")
        rank = World.detect().rank
        return import_module(f"chexdist.commands.{options.command}").run(options, settings)
    except (UserError, WorkError) as error:
        if rank == 0 or isinstance(error, WorkError) and not isinstance(error, AgreedError):
            print(f"chexdist{f', rank {rank}' if rank else ''}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "chexdist: stopped at once; a training goes on from its newest checkpoint, if there is one",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
