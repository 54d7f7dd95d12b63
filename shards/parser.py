"""The commands and options of `chexdist-shards`, and how a mistake in them is said: one line, exit code 2."""

import argparse
from pathlib import Path
from typing import NoReturn

from shards.labels import FORMATS
from shards.options import WORKERS, at_least, count_or_all, destination, part, refusable, split, window

LABEL_RULES = ("any", "majority", "all")
UNCERTAIN_RULES = ("drop", "finding", "no_finding")
VIEWS = ("frontal", "lateral")
MADE = "the shard directory to make; or a URL, such as s3://BUCKET/DIR: it is built here, then uploaded"
EXAMPLES = {
    "build": "chexdist-shards build vinbigdata/train --labels vinbigdata/train.csv --out shards64 --size 64",
    "verify": "chexdist-shards verify shards64",
    "inspect": "chexdist-shards inspect shards64",
    "append": "chexdist-shards append shards64 more --labels more.csv",
    "merge": "chexdist-shards merge parts/* --out shards64",
    "preview": "chexdist-shards preview shards64 --out sheet.png",
    "phantom": "chexdist-shards phantom --layout vinbigdata --images 480 --out vinbigdata",
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Every command with its options; `run` is the name of the command."""
    top = _Parser(
        prog="chexdist-shards",
        description="Raw chest X-rays -> WebDataset tar shards.",
        epilog=f"`chexdist-shards COMMAND --help` shows its options.\n\nexample:\n  {EXAMPLES['build']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add_build(commands.add_parser("build", help="pack X-rays into shards"))

    verify = commands.add_parser("verify", help="check every digest, count and sample")
    verify.add_argument("dir", metavar="DIR", type=Path)
    verify.add_argument(
        "--privacy",
        metavar="SOURCE",
        type=Path,
        nargs="+",
        default=[],
        help="also look in DIR and beside it for names, ids, dates, UIDs, file names of these folders, and "
        "cells of these label files",
    )
    verify.set_defaults(run="verify")

    inspect = commands.add_parser("inspect", help="show counts, sizes and settings")
    inspect.add_argument("dir", metavar="DIR", type=Path)
    inspect.add_argument("--json", action="store_true", help="print the same as JSON")
    inspect.set_defaults(run="inspect")

    preview = commands.add_parser("preview", help="draw a contact sheet of the images")
    preview.add_argument("dir", metavar="DIR", type=Path)
    preview.add_argument("--out", metavar="FILE.png", type=Path, required=True)
    preview.add_argument(
        "--per-class",
        metavar="N",
        type=at_least(1, 64),
        default=8,
        help="images of each class in each split, default %(default)s",
    )
    preview.set_defaults(run="preview")

    _add_append(commands.add_parser("append", help="put new images into a set, which stays as it is"))
    _add_merge(commands.add_parser("merge", help="make one set of the parts that several machines scanned"))

    about = "write synthetic chest X-rays as DICOM files, to try things"
    _add_phantom(commands.add_parser("phantom", help=about))
    for name, command in commands.choices.items():
        command.formatter_class = argparse.RawDescriptionHelpFormatter  # an example stays on its line
        command.epilog = f"example:\n  {EXAMPLES[name]}"
    return top


def _add_build(build: argparse.ArgumentParser) -> None:
    add = build.add_argument
    add(
        "sources",
        metavar="SOURCE",
        type=Path,
        nargs="+",
        help="folder of SOURCE/ClassName/ images, or see --labels",
    )
    add("--out", metavar="DIR", type=destination, required=True, help=MADE)
    add(
        "--part",
        metavar="I/N",
        type=part,
        help="only scan the Ith of N parts, into the folder --out: see merge",
    )
    add(
        "--labels",
        metavar="FILE.csv",
        type=Path,
        help=f"label file, its format known by its columns ({', '.join(FORMATS)}); may be gzipped",
    )
    add(
        "--label-rule",
        choices=LABEL_RULES,
        help="an image has a finding when so many of its readers marked one, default any",
    )
    add(
        "--finding",
        metavar="NAME",
        action="append",
        help="only this finding, against the images without any; given several times, each is a class",
    )
    add(
        "--uncertain",
        choices=UNCERTAIN_RULES,
        help="what uncertain labels (-1) are taken as, default drop: the image is left out",
    )
    add("--view", choices=VIEWS, help="only images of this view, by the label file's column of views")
    _add_look(build)
    add("--workers", metavar="N", type=at_least(1), help=WORKERS)
    most = "at most, default %(default)s"
    add("--samples-per-shard", metavar="N", type=at_least(1), default=256, help=most)
    _add_draw(build)
    build.set_defaults(run="build")


def _add_look(build: argparse.ArgumentParser) -> None:
    """How pictures look."""
    add = build.add_argument
    side = "side in pixels, default %(default)s"
    add("--size", metavar="N", type=at_least(8, 4096), default=256, help=side)
    add("--bits", type=int, choices=(8, 16), default=8, help="bits of a pixel, default %(default)s")
    add(
        "--fit",
        choices=("pad", "crop", "stretch"),
        default="pad",
        help="how a picture that is not square gets into the square: black around it, its middle, or out of "
        "proportion; default %(default)s",
    )
    add(
        "--window",
        metavar="auto|first|N|percentile",
        type=window,
        default="auto",
        help="of DICOM: the VOI LUT or first window, the first window, the Nth, or percentiles 0.5 to 99.5; "
        "default %(default)s",
    )


def _add_merge(merge: argparse.ArgumentParser) -> None:
    add = merge.add_argument
    add("parts", metavar="PART", type=Path, nargs="+", help="the folders that build --part made, all of them")
    add("--out", metavar="DIR", type=destination, required=True, help=MADE)
    add("--workers", metavar="N", type=at_least(1), help=WORKERS)
    add("--key-file", metavar="FILE", type=Path, help="default: that of the parts, else DIR.key")
    add("--allow-quarantine", metavar="N", type=at_least(0), help="default: that of the parts")
    add("--allow-missing", metavar="N|all", type=count_or_all, help="default: that of the parts")
    merge.set_defaults(run="merge")


def _add_append(append: argparse.ArgumentParser) -> None:
    add = append.add_argument
    add(
        "dir",
        metavar="DIR",
        type=destination,
        help="the shard directory; its settings are those of its build",
    )
    add("sources", metavar="SOURCE", type=Path, nargs="+", help="folders of the new images")
    add("--labels", metavar="FILE.csv", type=Path, help="their label file, of the format that the build had")
    add("--workers", metavar="N", type=at_least(1), help=WORKERS)
    _add_one_class(append)
    _add_patients(append)
    _add_allowed(append)
    append.set_defaults(run="append")


def _add_one_class(command: argparse.ArgumentParser) -> None:
    about = "all images are of one class, whatever folders they are in"
    command.add_argument("--one-class", action="store_true", help=about)


def _add_patients(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--patient-pattern", metavar="REGEX", help="group 1 of its match on the file's name is the patient")
    add("--key-file", metavar="FILE", type=Path, help="default DIR.key; a build makes it (mode 0600)")


def _add_allowed(command: argparse.ArgumentParser) -> None:
    """What is set aside, and how much of it is no failure."""
    add = command.add_argument
    add("--allow-quarantine", metavar="N", type=at_least(0), default=0, help="exit 0 with up to N set aside")
    add(
        "--allow-missing",
        metavar="N|all",
        type=count_or_all,
        default=0,
        help="of those, don't count up to N images of the label file that have no file",
    )
    add(
        "--refuse",
        metavar="lateral,not-chest,burned-in",
        type=refusable,
        default=(),
        help="set aside DICOM images whose headers say that the view is lateral, that another part of the "
        "body is shown, or that text is burnt in; else they are counted in a warning",
    )
    add(
        "--allow-synthetic",
        action="store_true",
        help="pack images whose headers say that a generative model drew them, and count them",
    )


def _add_draw(build: argparse.ArgumentParser) -> None:
    """Which images are used, in which split, and under which names."""
    add = build.add_argument
    add("--per-class", metavar="N", type=at_least(1), help="draw N images of each class, by --seed")
    add(
        "--split",
        metavar="FRACTIONS",
        type=split,
        default="train=0.8,val=0.1,test=0.1",
        help="default %(default)s",
    )
    add("--seed", metavar="N", type=int, default=0, help="of draw, split and order, default %(default)s")
    _add_patients(build)
    add(
        "--many-classes",
        action="store_true",
        help="class folders and labels are classes even if they look like patients",
    )
    _add_one_class(build)
    _add_allowed(build)


def _add_phantom(phantom: argparse.ArgumentParser) -> None:
    add = phantom.add_argument
    add("--out", metavar="DIR", type=Path, required=True)
    add(
        "--layout",
        choices=("plain", "vinbigdata"),
        default="plain",
        help="plain: images/*.dcm and labels.csv; vinbigdata: train/IMAGE_ID.dicom and train.csv with boxes; "
        "default %(default)s",
    )
    add("--patients", metavar="N", type=at_least(1), help="layout plain: default 40")
    add("--images", metavar="N", type=at_least(1), help="layout vinbigdata: default 480")
    add(
        "--image-ids",
        metavar="FILE.csv",
        type=Path,
        help="layout vinbigdata: take ids and classes of the first images in this label file",
    )
    add("--seed", metavar="N", type=at_least(0), default=0, help="default %(default)s")
    add("--size", metavar="N", type=at_least(32, 4096), help="pixels, default 256; 128 in layout vinbigdata")
    phantom.set_defaults(run="phantom")
