"""The command line of `chexdist-shards`: which options there are, and which exit code an outcome has.

0 done; 1 a check failed or the work could not be finished; 2 the user's mistake; 130 Ctrl-C. Nothing heavy is
imported before a command needs it.
"""

import argparse
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from shards.errors import UserError, WorkError
from shards.labels import FORMATS
from shards.options import at_least, count_or_all, part, refusable, split, window

LABEL_RULES = ("any", "majority", "all")
UNCERTAIN_RULES = ("drop", "finding", "no_finding")
VIEWS = ("frontal", "lateral")
NEEDED = ("numpy", "PIL", "pydicom", "imagecodecs", "simplejpeg")
STOPPED = "nothing half-written is left; the same command resumes a build from DIR.work"
EXAMPLES = {
    "build": "chexdist-shards build vinbigdata/train --labels vinbigdata/train.csv --out shards64 --size 64",
    "verify": "chexdist-shards verify shards64",
    "inspect": "chexdist-shards inspect shards64",
    "merge": "chexdist-shards merge parts/* --out shards64",
    "preview": "chexdist-shards preview shards64 --out sheet.png",
    "phantom": "chexdist-shards phantom --layout vinbigdata --images 480 --out vinbigdata",
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        cure = "run `pip install -e .` in the clone, or `make .venv/.ready` there and use .venv/bin"
        return _fail(2, f"{sys.executable} has no {', '.join(missing)}: {cure}")
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        return options.run(options)
    except UserError as error:
        return _fail(2, str(error))
    except WorkError as error:
        return _fail(1, str(error))
    except OSError as error:
        if error.filename2:
            return _fail(1, f"can't rename {error.filename} to {error.filename2}: {error.strerror}")
        return _fail(1, f"{error.strerror or error}: {error.filename or 'while writing'}")
    except KeyboardInterrupt:
        return _fail(130, f"interrupted; {STOPPED}")


def _fail(code: int, text: str) -> int:
    print(f"chexdist-shards: {text}", file=sys.stderr)
    return code


def _stop(number: int, frame: object) -> NoReturn:
    raise WorkError(f"stopped by SIGTERM; {STOPPED}")


def _parser() -> _Parser:
    parser = _Parser(
        prog="chexdist-shards",
        description="Raw chest X-rays -> WebDataset tar shards.",
        epilog=f"`chexdist-shards COMMAND --help` shows its options.\n\nexample:\n  {EXAMPLES['build']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
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
    verify.set_defaults(run=_verify)

    inspect = commands.add_parser("inspect", help="show counts, sizes and settings")
    inspect.add_argument("dir", metavar="DIR", type=Path)
    inspect.add_argument("--json", action="store_true", help="print the same as JSON")
    inspect.set_defaults(run=_inspect)

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
    preview.set_defaults(run=_preview)

    _add_merge(commands.add_parser("merge", help="make one set of the parts that several machines scanned"))

    about = "write synthetic chest X-rays as DICOM files, to try things"
    _add_phantom(commands.add_parser("phantom", help=about))
    for name, command in commands.choices.items():
        command.formatter_class = argparse.RawDescriptionHelpFormatter  # an example stays on its line
        command.epilog = f"example:\n  {EXAMPLES[name]}"
    return parser


def _add_build(build: argparse.ArgumentParser) -> None:
    add = build.add_argument
    add(
        "sources",
        metavar="SOURCE",
        type=Path,
        nargs="+",
        help="folder of SOURCE/ClassName/ images, or see --labels",
    )
    add("--out", metavar="DIR", type=Path, required=True, help="the shard directory to make")
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
    add(
        "--size",
        metavar="N",
        type=at_least(8, 4096),
        default=256,
        help="side in pixels, default %(default)s",
    )
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
    add("--workers", metavar="N", type=at_least(1), help="processes, default: one for each CPU")
    add(
        "--samples-per-shard",
        metavar="N",
        type=at_least(1),
        default=256,
        help="at most, default %(default)s",
    )
    _add_draw(build)
    build.set_defaults(run=_build)


def _add_merge(merge: argparse.ArgumentParser) -> None:
    add = merge.add_argument
    add("parts", metavar="PART", type=Path, nargs="+", help="the folders that build --part made, all of them")
    add("--out", metavar="DIR", type=Path, required=True, help="the shard directory to make")
    add("--workers", metavar="N", type=at_least(1), help="processes, default: one for each CPU")
    add("--key-file", metavar="FILE", type=Path, help="default: that of the parts, else DIR.key")
    add("--allow-quarantine", metavar="N", type=at_least(0), help="default: that of the parts")
    add("--allow-missing", metavar="N|all", type=count_or_all, help="default: that of the parts")
    merge.set_defaults(run=_merge)


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
    add("--patient-pattern", metavar="REGEX", help="group 1 of its match on the file's name is the patient")
    add("--key-file", metavar="FILE", type=Path, help="default DIR.key; made (mode 0600) when there is none")
    add("--allow-quarantine", metavar="N", type=at_least(0), default=0, help="exit 0 with up to N set aside")
    add(
        "--allow-missing",
        metavar="N|all",
        type=count_or_all,
        default=0,
        help="of those, don't count up to N images of the label file that have no file",
    )
    add(
        "--many-classes",
        action="store_true",
        help="class folders and labels are classes even if they look like patients",
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
    phantom.set_defaults(run=_phantom)


def _build(options: argparse.Namespace) -> int:
    from shards.build import Options, build
    from shards.parts import build_part
    from shards.workers import default_workers

    values = {name: value for name, value in vars(options).items() if name != "run"}
    asked = Options(**{**values, "workers": options.workers or default_workers()})
    return build_part(asked) if asked.part else build(asked)


def _merge(options: argparse.Namespace) -> int:
    from shards.parts import merge
    from shards.workers import default_workers

    given = {name: getattr(options, name) for name in ("allow_quarantine", "allow_missing", "key_file")}
    overrides = {name: value for name, value in given.items() if value is not None}
    return merge(options.parts, options.out, options.workers or default_workers(), overrides)


def _verify(options: argparse.Namespace) -> int:
    from shards.checking.verify import verify

    code = verify(options.dir)
    if not options.privacy:
        return code
    from shards.checking.privacy import check_privacy

    return max(code, check_privacy(options.dir, options.privacy))


def _inspect(options: argparse.Namespace) -> int:
    from shards.checking.inspection import inspect

    return inspect(options.dir, options.json)


def _preview(options: argparse.Namespace) -> int:
    from shards.checking.preview import preview

    return preview(options.dir, options.out, options.per_class)


def _phantom(options: argparse.Namespace) -> int:
    if options.layout == "vinbigdata":
        return _phantom_vinbigdata(options)
    from shards.phantom import write_phantom

    if options.images or options.image_ids:
        raise UserError("--images and --image-ids go with --layout vinbigdata; layout plain takes --patients")
    try:
        count = write_phantom(options.out, options.patients or 40, options.seed, options.size or 256)
    except FileExistsError as error:
        raise UserError(str(error)) from None
    labels = options.out / "labels.csv"
    print(f"{options.out}: {count} images")
    print(f"next: chexdist-shards build {options.out} --labels {labels} --out DIR")
    return 0


def _phantom_vinbigdata(options: argparse.Namespace) -> int:
    from shards.phantom.vinbigdata import write_vinbigdata

    if options.patients:
        raise UserError("--patients goes with --layout plain; layout vinbigdata takes --images")
    size, images = options.size or 128, options.images or 480
    count = write_vinbigdata(options.out, images, options.seed, size, options.image_ids)
    print(f"{options.out}: {count} images")
    labels = options.image_ids or options.out / "train.csv"
    missing = " --allow-missing all" if options.image_ids else ""
    print(f"next: chexdist-shards build {options.out / 'train'} --labels {labels} --out DIR{missing}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
