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
    evaluate = commands.add_parser("evaluate", help=COMMANDS["evaluate"], description=COMMANDS["evaluate"])
    evaluate.add_argument("run", metavar="RUN", help="the run directory; it may be training at the same time")
    evaluate.add_argument(
        "--checkpoint", metavar="images-N|best", help="which checkpoint (default: the newest; best: by KID)"
    )
    evaluate.add_argument(
        "--split", choices=("val", "test"), default="val", help="held-out X-rays; keep test for the last look"
    )
    evaluate.add_argument(
        "--samples",
        type=int,
        default=512,
        help="generated images, and as many again of each class (default: 512)",
    )
    evaluate.add_argument(
        "--pairs",
        type=int,
        default=512,
        help="pairs of images for PSNR, MSE and SSIM, over all classes (default: 512)",
    )
    evaluate.add_argument(
        "--seed", type=int, default=0, help="same run, options and seed: same numbers (default: 0)"
    )
    evaluate.add_argument(
        "--extractor", metavar="NAME", help="whose features KID and FID compare (default: the run's own)"
    )
    evaluate.add_argument(
        "--data.shards",
        "--shards",
        dest="shards",
        metavar="DIR",
        help="the run's shards, if they have moved since it began",
    )
    generate = commands.add_parser("generate", help=COMMANDS["generate"], description=COMMANDS["generate"])
    generate.add_argument("run", metavar="RUN", help="the run directory; it may be training at the same time")
    generate.add_argument("--n", type=int, default=64, help="how many (default: 64)")
    generate.add_argument(
        "--out", required=True, metavar="DIR", help="folder to make; it appears complete or not at all"
    )
    generate.add_argument(
        "--label", metavar="CLASS", help="of this class only (default: as in the training split)"
    )
    generate.add_argument("--format", choices=("png", "dicom"), default="png", help="default: png")
    generate.add_argument(
        "--seed", type=int, default=0, help="same run, options and seed: same pictures (default: 0)"
    )
    generate.add_argument(
        "--checkpoint", metavar="images-N|best", help="which checkpoint (default: the newest; best: by KID)"
    )
    generate.add_argument(
        "--data.shards", "--shards", dest="shards", metavar="DIR", help="the run's shards, if they have moved"
    )
    generate.add_argument(
        "--no-audit", action="store_true", help="don't look for copies of training images; the output says so"
    )
    report = commands.add_parser("report", help=COMMANDS["report"], description=COMMANDS["report"])
    report.add_argument(
        "runs", metavar="RUN", nargs="+", help="run directories; they may be training at the same time"
    )
    report.add_argument(
        "--out", required=True, metavar="FILE", help="report.html, or report.md for its tables alone"
    )
    report.add_argument(
        "--with-real",
        action="store_true",
        help="show real X-rays too; then share the page only where they may be seen",
    )
    doctor = commands.add_parser(
        "doctor",
        help=COMMANDS["doctor"],
        description=f"{COMMANDS['doctor']}. Settings are given as for train; start it by the launcher that will start training.",
    )
    doctor.add_argument("--config", help="a YAML file or a name; without it the machine alone is examined")
    doctor.add_argument(
        "--data.shards",
        dest="shards",
        metavar="DIR",
        help="the shards to be trained on: a directory or its URL",
    )
    doctor.add_argument("--run.dir", dest="run", metavar="RUN", help="where the run is to be kept")
    doctor.add_argument(
        "--simulate-world",
        type=int,
        metavar="N",
        help="say what each of N ranks would read, and for how long",
    )
    demo = commands.add_parser("demo", help=COMMANDS["demo"], description=COMMANDS["demo"])
    demo.add_argument("--out", default="demo", help="directory to make (default: demo)")
    return top


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
