"""What each command of `chexdist-shards` does, and which exit code an outcome has.

0 done; 1 a check failed or the work could not be finished; 2 the user's mistake; 130 Ctrl-C. Nothing heavy is
imported before a command needs it.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from shards.errors import UserError, WorkError
from shards.parser import parser
from shards.stop_signals import ASKING, stoppable

NEEDED = ("numpy", "PIL", "pydicom", "imagecodecs", "simplejpeg")
STOPPED = "nothing half-written is left; the same command resumes from DIR.work"


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        cure = "run `pip install -e .` in the clone, or `make .venv/.ready` there and use .venv/bin"
        return _fail(2, f"{sys.executable} has no {', '.join(missing)}: {cure}")
    options = parser().parse_args(argv)
    try:
        with stoppable(*ASKING):
            return RUN[options.run](options)
    except UserError as error:
        return _fail(2, str(error))
    except WorkError as error:
        return _fail(1, str(error))
    except OSError as error:
        if error.filename2:
            return _fail(1, f"can't rename {error.filename} to {error.filename2}: {error.strerror}")
        return _fail(1, f"{error.strerror or error}: {error.filename or 'while writing'}")
    except KeyboardInterrupt as stop:
        number = signal.Signals(stop.args[0]) if stop.args else signal.SIGINT
        if number == signal.SIGINT:
            return _fail(130, f"interrupted; {STOPPED}")
        return _fail(1, f"stopped by {number.name}; {STOPPED}")


def _fail(code: int, text: str) -> int:
    print(f"chexdist-shards: {text}", file=sys.stderr)
    return code


def _build(options: argparse.Namespace) -> int:
    from shards.build import build
    from shards.options import Options
    from shards.parts import build_part
    from shards.workers import default_workers

    values = {name: value for name, value in vars(options).items() if name != "run"}
    values["workers"] = options.workers or default_workers()
    if isinstance(options.out, Path):
        return build_part(Options(**values)) if options.part else build(Options(**values))
    from shards.upload import build_behind

    if options.part:
        raise UserError(f"--part goes into a folder of this machine, not to {options.out}")
    return build_behind(
        options.out, lambda folder, publish: build(Options(**{**values, "out": folder}), publish)
    )


def _append(options: argparse.Namespace) -> int:
    from shards.appending.append import append
    from shards.workers import default_workers

    given = {name: value for name, value in vars(options).items() if name not in ("run", "dir")}
    return append(options.dir, given | {"workers": options.workers or default_workers()})


def _merge(options: argparse.Namespace) -> int:
    from shards.parts import merge
    from shards.workers import default_workers

    given = {name: getattr(options, name) for name in ("allow_quarantine", "allow_missing", "key_file")}
    overrides = {name: value for name, value in given.items() if value is not None}
    workers = options.workers or default_workers()
    if isinstance(options.out, Path):
        return merge(options.parts, options.out, workers, overrides)
    from shards.upload import build_behind

    return build_behind(
        options.out, lambda folder, publish: merge(options.parts, folder, workers, overrides, publish)
    )


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


RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "build": _build,
    "verify": _verify,
    "inspect": _inspect,
    "preview": _preview,
    "append": _append,
    "merge": _merge,
    "phantom": _phantom,
}


if __name__ == "__main__":
    sys.exit(main())
