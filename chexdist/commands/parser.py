"""Decides which options each command has, and what `--help` says; what a command does is loaded later."""

import argparse
import shutil
from collections.abc import Callable
from typing import NoReturn

from chexdist.errors import UserError
from shards import __version__

COMMANDS = {
    "train": "train a GAN on a shard directory, or resume a run",
    "evaluate": "metrics of a run's weights, beside those of real images",
    "generate": "synthetic X-rays as files, after an audit for copies of training images",
    "export": "a generator as one file with a model card: safetensors, ONNX or torch.export",
    "compare": "runs, checkpoints or seeds by their paired differences, also as a check for scripts",
    "report": "runs side by side on one page that needs no network",
    "diagnose": "whether a training is healthy, from its log: a verdict, its numbers, what usually helps",
    "doctor": "what this machine and a configuration can and can't do, each fault with its cure",
    "demo": "phantom X-rays -> shards -> four GANs -> metrics -> report, on this CPU",
}

EXAMPLES = {
    "train": (
        "chexdist train --config dcgan --data.shards shards64 --run.dir runs/dcgan",
        "chexdist train --config wgan-gp --data.shards shards64 --train.batch 64 --dry-run",
        (
            "accelerate launch --multi_gpu --num_processes 8 -m chexdist train --config dcgan-256 "
            "--data.shards shards256 --run.dir runs/dcgan-256"
        ),
    ),
    "evaluate": (
        "chexdist evaluate runs/dcgan",
        "chexdist evaluate runs/dcgan --checkpoint best --split test --samples 2048",
        "chexdist evaluate --pictures theirs --data.shards shards64",
    ),
    "generate": (
        "chexdist generate runs/dcgan --n 64 --label finding --out pictures",
        "chexdist generate runs/dcgan --interpolate 3 7 --steps 16 --out between",
        "chexdist generate runs/dcgan --grid 4x8 --truncation 0.7 --out grid.png",
        "chexdist generate runs/dcgan --history learning.gif",
    ),
    "export": ("chexdist export runs/dcgan --format onnx --licence 'CC BY-NC 4.0' --out dcgan.onnx",),
    "compare": (
        "chexdist compare runs/dcgan runs/wgan-gp",
        "chexdist compare runs/dcgan@images-100000 runs/dcgan@images-200000",
        "chexdist compare runs/dcgan runs/wgan-gp --require 'wgan-gp<dcgan'",
    ),
    "report": (
        "chexdist report runs/dcgan runs/wgan-gp --out report.html",
        "chexdist report runs/dcgan runs/wgan-gp --out report.md",
    ),
    "diagnose": ("chexdist diagnose runs/dcgan --out curves.svg",),
    "doctor": (
        "chexdist doctor",
        "chexdist doctor --config dcgan --data.shards shards64 --run.dir runs/dcgan --simulate-world 8",
    ),
    "demo": ("chexdist demo --out demo",),
}

DOCTOR = "Settings are given as for train; start it by the launcher that will start training."


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UserError`, and leaves the lines of examples as they are."""

    appendix: Callable[[], str] | None = None
    """Writes what the help ends with; called only when it is shown."""

    def __init__(self, **options: object) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")

    def format_help(self) -> str:
        """Usage, options, examples, and the appendix."""
        text = super().format_help()
        return f"{text}\n{self.appendix()}\n" if self.appendix else text


def parser() -> argparse.ArgumentParser:
    """Every command and option."""
    top = Parser(
        prog="chexdist",
        description="Train chest X-ray GANs over any number of machines.",
        epilog=(
            "`chexdist COMMAND --help` shows options and an example; `chexdist train --help`, every setting."
            f"\n\nexamples:\n  {EXAMPLES['demo'][0]}\n  {EXAMPLES['train'][0]}"
        ),
    )
    top.add_argument("--version", action="version", version=f"chexdist {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    options = {
        "train": _train,
        "evaluate": _evaluate,
        "generate": _generate,
        "export": _export,
        "compare": _compare,
        "report": _report,
        "diagnose": _diagnose,
        "doctor": _doctor,
        "demo": _demo,
    }
    for name, add_options in options.items():
        command = commands.add_parser(name, help=COMMANDS[name], description=f"{COMMANDS[name]}.")
        add_options(command)
        heading = "example" if len(EXAMPLES[name]) == 1 else "examples"
        command.epilog = "\n  ".join([f"{heading}:", *EXAMPLES[name]])
    return top


def _train(command: Parser) -> None:
    command.appendix = _settings
    command.usage = "%(prog)s [-h] --config NAME|FILE [--dry-run] [--section.key VALUE ...]"
    command.add_argument(
        "--config",
        required=True,
        metavar="NAME|FILE",
        help="a configuration that comes with chexdist, or a YAML file; both are described below",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="print all settings as they are now, and what each rank will read, of CHEXDIST_WORLD_SIZE (a "
        "variable) ranks where no launcher is used",
    )


def _settings() -> str:
    from chexdist.config.reference import as_help  # takes pydantic, which no other help waits for

    return as_help(max(40, shutil.get_terminal_size().columns - 2))


def _evaluate(command: Parser) -> None:
    command.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        help="the run directory, or a checkpoint in it; it may be training at the same time",
    )
    command.add_argument(
        "--pictures", metavar="DIR", help="instead: a folder of .png or .jpg files, whoever made them"
    )
    _add_checkpoint(command)
    command.add_argument(
        "--out", metavar="DIR", help="where numbers of pictures go (default: DIR-evaluation, beside DIR)"
    )
    command.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="training images that the pictures' generator has seen, to set it beside runs",
    )
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
        "--extractor",
        metavar="NAME|FILE:size=N,range=A..B",
        action="append",
        help="whose features KID and FID compare, as in eval.extractor; may be given several times "
        "(default: the run's own)",
    )
    _add_shards(command)


def _generate(command: Parser) -> None:
    command.add_argument(
        "run",
        metavar="RUN",
        help="the run directory, which may be training at the same time, one checkpoint's folder, or a file "
        "of `chexdist export --format safetensors`",
    )
    command.add_argument("--n", type=int, help="how many (default: 64)")
    command.add_argument("--out", metavar="DIR", help="folder to make; it appears complete or not at all")
    command.add_argument(
        "--label", metavar="CLASS", help="of this class only (default: as in the training split)"
    )
    command.add_argument("--format", choices=("png", "dicom"), help="default: png")
    command.add_argument("--bits", type=int, choices=(8, 16), help="of a pixel (default: 8)")
    command.add_argument("--seed", type=int, help="same run, options and seed: same pictures (default: 0)")
    command.add_argument(
        "--truncation",
        type=float,
        metavar="PSI",
        help="multiply latents by PSI, above 0 and up to 1: less variety, more typical pictures (default: 1)",
    )
    command.add_argument(
        "--interpolate",
        type=int,
        nargs=2,
        metavar=("A", "B"),
        help="instead: pictures on the way from the first one of seed A to the first one of seed B",
    )
    command.add_argument("--steps", type=int, metavar="N", help="pictures on that way (default: 8)")
    command.add_argument(
        "--grid", metavar="ROWSxCOLS", help="instead: one PNG of so many pictures; --out is its name"
    )
    command.add_argument(
        "--history",
        metavar="FILE.gif",
        help="instead: the samples that training drew, an animation; without --out",
    )
    _add_checkpoint(command)
    _add_shards(command)
    command.add_argument(
        "--no-audit", action="store_true", help="don't look for copies of training images; the output says so"
    )


def _export(command: Parser) -> None:
    command.add_argument(
        "run",
        metavar="RUN",
        help="the run directory, one checkpoint's folder, or a file exported as safetensors",
    )
    command.add_argument(
        "--format",
        choices=("safetensors", "onnx", "torch-export"),
        default="safetensors",
        help="safetensors: weights, for chexdist; onnx, torch-export: for programs without it "
        "(default: safetensors)",
    )
    command.add_argument(
        "--out", required=True, metavar="FILE", help="file to make: .safetensors, .onnx or .pt2"
    )
    command.add_argument(
        "--licence",
        default="not stated",
        metavar="TEXT",
        help="under which it is given (default: not stated)",
    )
    _add_checkpoint(command)


def _compare(command: Parser) -> None:
    command.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="run directories; RUN@images-N is a run as it was after N images",
    )
    command.add_argument(
        "--require",
        metavar="A<B",
        action="append",
        default=[],
        help="exit 1 unless the paired difference shows that A's number is below B's, or nearer to that of "
        "real X-rays where this is what counts; A and B as they are printed; may be given several times",
    )
    command.add_argument(
        "--metric",
        metavar="NAME",
        default="kid_x1000",
        help="what --require is about, as in the log, of a class as NAME/CLASS (default: kid_x1000)",
    )


def _report(command: Parser) -> None:
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


def _diagnose(command: Parser) -> None:
    command.description = f"{COMMANDS['diagnose']}. Exit code 1 where a run is ill."
    command.add_argument(
        "runs", metavar="RUN", nargs="+", help="run directories; they may be training, or of earlier releases"
    )
    command.add_argument("--out", metavar="FILE.svg", help="draw the curves that one run was judged by")


def _doctor(command: Parser) -> None:
    command.description = f"{COMMANDS['doctor']}.\n{DOCTOR}"
    command.usage = (
        "%(prog)s [-h] [--config NAME|FILE] [--data.shards DIR] [--run.dir RUN] [--simulate-world N]\n"
        "                       [--section.key VALUE ...]"
    )
    command.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="as for train; without it the machine alone is examined",
    )
    command.add_argument(
        "--data.shards",
        dest="shards",
        metavar="DIR",
        help="the shards to be trained on: a directory or its URL",
    )
    command.add_argument("--run.dir", dest="run", metavar="RUN", help="the run directory to be")
    command.add_argument(
        "--simulate-world",
        type=int,
        metavar="N",
        help="say what each of N ranks would read, and for how long",
    )


def _demo(command: Parser) -> None:
    command.add_argument("--out", default="demo", help="directory to make (default: demo)")
    command.add_argument("--seed", type=int, default=0, help="other phantoms and weights (default: 0)")


def _add_checkpoint(command: Parser) -> None:
    command.add_argument(
        "--checkpoint",
        metavar="images-N|best",
        help="which checkpoint (default: the newest; best: by the run's checkpoint.best)",
    )


def _add_shards(command: Parser) -> None:
    command.add_argument(
        "--data.shards",
        "--shards",
        dest="shards",
        metavar="DIR",
        help="the run's shards, if they have moved since it began",
    )
