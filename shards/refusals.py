"""What `build` refuses: folders it can't end in, names that no class can have, classes of few images."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shards.errors import UserError
from shards.quarantine import Code
from shards.sources.listing import Listing, Source

NOT_CLASSES = frozenset({"all", "real", "mean_image"})
"""What numbers and pictures beside those of the classes are called."""

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""s3:/bucket, as a path holds s3://bucket, or s3:bucket."""


def check_out(out: Path) -> None:
    """Refuse what no build may end in; a finished directory may be what the same command asks for again."""
    if not (out.is_dir() and Path(f"{out}.work").is_dir()):
        check_empty(out)


def check_address(out: Path) -> None:
    """Refuse what is an address and no path."""
    if ADDRESS.match(str(out)):
        raise UserError(f"{out} is no folder of this machine, and no URL such as s3://BUCKET/DIR")


def check_empty(out: Path) -> None:
    """Refuse a path at which there is something."""
    above = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise UserError(f"{out} can't be made: {above} is not a folder; choose another --out")
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists and is not an empty folder: choose another --out, or remove it")


def check_names(classes: list[str]) -> None:
    if taken := sorted(NOT_CLASSES.intersection(classes)):
        raise UserError(
            f"no class can be called {' or '.join(taken)}: metrics call all classes at once, real X-rays and "
            "the mean image so; rename the folder, or the label in the label file"
        )


def check_enough(listing: Listing, per_class: int | None) -> None:
    counts = Counter(image.label for image in listing.images)
    least = min(counts[name] for name in listing.classes())
    for name in listing.classes():
        if per_class and counts[name] < per_class:
            missing = sum(entry.code == Code.MISSING_FILE for entry in listing.quarantine)
            raise UserError(
                f"--per-class {per_class}: class {name} has only {counts[name]} images in the source folders"
                + (f"; {missing} images of the label file have no file there" if missing else "")
                + (f": --per-class can be {least}" if least else "")
            )


def check_drawn(
    listing: Listing, usable: Sequence[Source], per_class: int | None, quarantine_list: Path
) -> None:
    counts = Counter(source.label for source in usable)
    for name in listing.classes():
        if counts[name] < (per_class or 1):
            raise UserError(
                f"class {name} has only {counts[name]} usable images, {per_class or 1} needed; "
                f"the others are listed in {quarantine_list}"
            )
