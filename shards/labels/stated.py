"""What is asked of a label file and what it answers, in whatever form it is."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

NO_FINDING, FINDING = "no_finding", "finding"


@dataclass(frozen=True)
class Question:
    """The options of `build` that bear on labels; None where the command line does not name them."""

    rule: str | None = None
    finding: str | None = None


@dataclass(frozen=True)
class Stated:
    """What the file says of one image: its class (None: not one of those asked for) and its patient.

    `conflict` tells how its rows disagree; then the class means nothing.
    """

    label: str | None
    patient: str | None = None
    conflict: str = ""


@dataclass(frozen=True)
class Labels:
    """A label file that was read: `images` by key, and `key` of a file by its posix name within a SOURCE.

    An image's file is expected to be called its key and `suffix`. Each of the `classes` has to have images.
    `settings` go into the manifest. `warnings` are what is odd in the file, though it can be used.
    """

    file: Path
    images: dict[str, Stated]
    key: Callable[[str], str]
    settings: dict[str, str]
    suffix: str = ""
    classes: Collection[str] = (NO_FINDING, FINDING)
    has_patients: bool = False
    warnings: list[str] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """How many images the file names of each class."""
        return Counter(
            image.label for image in self.images.values() if image.label is not None and not image.conflict
        )
