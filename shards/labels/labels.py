"""The label options of the command line, and the labels read from a file of any format."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

NO_FINDING, FINDING = "no_finding", "finding"


@dataclass(frozen=True)
class LabelOptions:
    """The options --label-rule and --finding of `build`; None where the command line does not have them."""

    rule: str | None = None
    finding: str | None = None


@dataclass(frozen=True)
class ImageLabel:
    """The class of one image (None: not one of those asked for) and its patient, where the file has patients.

    `conflict` says how the rows of the image disagree, in which case it has no class; empty when they agree.
    """

    label: str | None
    patient: str | None = None
    conflict: str = ""


@dataclass(frozen=True)
class Labels:
    """The labels of a file: `images` by key; `key` makes one of an image file's posix name within a SOURCE.

    A missing image is listed as its key and `suffix`. Each of the `classes` must have images. `settings`
    (`rule`, `finding`: the options in force) go into the manifest after the format's name. `warnings` are
    what is unusual in the file, though it can be used. `written` counts the rows by class as the file writes
    it, where the file names the classes itself.
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

    def counts(self) -> Counter[str]:
        """How many images the file names of each class."""
        return Counter(
            image.label for image in self.images.values() if image.label is not None and not image.conflict
        )
