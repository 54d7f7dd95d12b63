"""The options of `build`, and how the text of one becomes its value, or is refused with what it may be.

Light: no image library.
"""

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path

SPLIT_NAMES = ("train", "val", "test")
REFUSABLE = ("lateral", "not-chest", "burned-in")
WORKERS = (
    "processes, default: one for each CPU; the build needs 80 MB and 2 kB a file of memory, and for each of "
    "these 100 MB and 14 bytes a pixel of the largest picture (28 in colour)"
)


@dataclass(frozen=True)
class Options:
    """The options of `build`, as on the command line.

    `split` has the keys train, val and test; `allow_missing` is math.inf for "all"; `part` is (I, N).
    """

    sources: list[Path]
    out: Path
    labels: Path | None
    label_rule: str | None
    finding: list[str] | None
    size: int
    bits: int
    workers: int
    samples_per_shard: int
    per_class: int | None
    split: dict[str, float]
    seed: int
    patient_pattern: str | None
    key_file: Path | None
    allow_quarantine: int
    allow_missing: float
    allow_synthetic: bool
    many_classes: bool
    uncertain: str | None = None
    view: str | None = None
    fit: str = "pad"
    window: str = "auto"
    refuse: tuple[str, ...] = ()
    one_class: bool = False
    part: tuple[int, int] | None = None


def at_least(least: int, most: int = 2**31):  # type: ignore[no-untyped-def]
    def integer(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return number

    return integer


def destination(text: str) -> Path | str:
    """A folder; an address such as `s3://bucket/set` as it is."""
    return text if "://" in text else Path(text)


def count_or_all(text: str) -> float:
    if text == "all":
        return math.inf
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 0 nor all")


def refusable(text: str) -> tuple[str, ...]:
    given = tuple(name.strip() for name in text.split(","))
    if set(given) <= set(REFUSABLE):
        return given
    raise argparse.ArgumentTypeError(f"{text!r}: of {', '.join(REFUSABLE)}, one or more with commas between")


def window(text: str) -> str:
    if text in ("auto", "first", "percentile") or re.fullmatch("[1-9][0-9]?", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not auto, first, percentile or a number from 1 to 99")


def split(text: str) -> dict[str, float]:
    """`train=0.8,val=0.1,test=0.1` -> fractions by split; a split that is left out gets none."""
    fractions = dict.fromkeys(SPLIT_NAMES, 0.0)
    try:
        given = [part.split("=") for part in text.split(",")]
        values = {name.strip(): float(value) for name, value in given}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like train=0.8,val=0.1,test=0.1") from None
    if len(values) < len(given) or not values.keys() <= fractions.keys():
        raise argparse.ArgumentTypeError(f"{text!r}: the splits are train, val and test, each at most once")
    fractions |= values
    if not all(0 <= value <= 1 for value in fractions.values()) or not math.isclose(
        sum(fractions.values()), 1
    ):
        raise argparse.ArgumentTypeError(f"{text!r}: fractions are from 0 to 1 and add up to 1")
    if not fractions["train"]:
        raise argparse.ArgumentTypeError(f"{text!r}: train needs a fraction above 0")
    return fractions


def part(text: str) -> tuple[int, int]:
    """`2/4` -> (2, 4)."""
    match = re.fullmatch("([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", text, re.ASCII)
    if not match or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 2/4, from 1/N to N/N")
    return int(match[1]), int(match[2])
