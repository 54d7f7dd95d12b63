"""The label options of the command line, and the labels read from a file of any format."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from shards.errors import UserError

NO_FINDING, FINDING = "no_finding", "finding"

OTHER_FINDINGS = "only other findings"
UNCERTAIN = "uncertain"
SEVERAL_FINDINGS = "several of the findings asked for"
OTHER_VIEWS = "other views"
NOTHING_SAID = "neither a finding nor their absence"
"""Why an image that the file names is of none of the classes asked for."""


@dataclass(frozen=True)
class LabelOptions:
    """--label-rule, --finding, --uncertain and --view of `build`; None, or (), where they aren't given."""

    rule: str | None = None
    findings: tuple[str, ...] = ()
    uncertain: str | None = None
    view: str | None = None


def check_options(options: LabelOptions, path: Path, takes: Collection[str]) -> None:
    """Raise UserError for an option that is given, and is none of those that the file's format `takes`."""
    needs = {
        "--label-rule": (options.rule, "several readers per image", "one verdict for each"),
        "--finding": (options.findings, "a label file with findings", "a class for each path"),
        "--uncertain": (options.uncertain, "labels that may be uncertain", "none"),
        "--view": (options.view, "a column of views", "none"),
    }
    for option, (given, need, instead) in needs.items():
        if given and option not in takes:
            raise UserError(f"{option} needs {need}; {path} has {instead}")


@dataclass(frozen=True, slots=True)
class ImageLabel:
    """The class of one image, and its patient, where the file has patients.

    A label of None: it is of none of the classes asked for, because of `left_out`. `conflict` says how the
    rows of the image disagree, in which case it has no class; empty when they agree.
    """

    label: str | None
    patient: str | None = None
    conflict: str = ""
    left_out: str = OTHER_FINDINGS


@dataclass(frozen=True)
class Labels:
    """The labels of a file: `images` by key; `key` makes one of an image file's posix name within a SOURCE.

    A missing image is listed as its key and `suffix`. Each of the `classes` must have images. `settings`
    (the options in force) go into the manifest after the format's name. `warnings` are what is unusual in the
    file, though it can be used. `written` counts the rows by class as the file writes it, where the file
    names the classes itself. `by_path`: keys are paths, which may be absolute or have a prefix (see `paths`).
    `many_files`: a key may be that of several files, such as a study's.
    """

    file: Path
    images: dict[str, ImageLabel]
    key: Callable[[str], str]
    settings: dict[str, str]
    suffix: str = ""
    classes: Collection[str] = (NO_FINDING, FINDING)
    has_patients: bool = False
    warnings: list[str] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)
    by_path: bool = False
    many_files: bool = False

    def counts(self) -> Counter[str]:
        """How many images the file names of each class."""
        return Counter(
            image.label for image in self.images.values() if image.label is not None and not image.conflict
        )

    def left_out(self) -> Counter[str]:
        """How many images are of none of the classes, by reason."""
        return Counter(
            image.left_out for image in self.images.values() if image.label is None and not image.conflict
        )
