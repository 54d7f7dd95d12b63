"""Decides how a user names a network of their own: `FILE:size=299,range=-1..1`. Light, since settings use it.

size: side of its input in pixels; range: what black and white become, A..B, or imagenet for ImageNet's mean
and deviation by channel; channels: 3 or 1; arch: for a safetensors file, the torchvision architecture.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from chexdist.errors import UserError

FORM = "FILE:size=N,range=A..B[,channels=1|3][,arch=NAME], such as inception.pt:size=299,range=-1..1"
OPTIONS = ("size", "range", "channels", "arch")
SMALLEST, LARGEST = 16, 1024
_SPEC = re.compile(r"(?P<file>.+?):(?P<options>[a-z]+=[^:/\\]*)", re.DOTALL)
_NUMBER = r"[+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})"


@dataclass(frozen=True)
class FileSpec:
    """A file with a network, its input's side in pixels and channels, and its values' range.

    range: what levels 0 and 255 become, or None for ImageNet's mean and deviation; arch: "" where the file
    holds the network itself.
    """

    file: Path
    size: int
    range: tuple[float, float] | None
    channels: int
    arch: str


def is_spec(text: str) -> bool:
    """Whether a text names a file, rather than an extractor of the registry."""
    return _SPEC.fullmatch(text) is not None


def check(text: str) -> bool:
    """Whether a text names a file. Raises ValueError for one that does so wrongly."""
    if not is_spec(text):
        return False
    try:
        parse(text)
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"extractor {text!r}: ")) from None
    return True


def parse(text: str) -> FileSpec:
    """The parts of a text for which `is_spec` holds.

    Raises:
        UserError: an option is missing, unknown, given twice or out of its range.
    """
    found = _SPEC.fullmatch(text)
    if not found:
        raise UserError(f"extractor {text!r}: write it as {FORM}")
    options: dict[str, str] = {}
    for part in found["options"].split(","):
        name, equals, value = part.partition("=")
        if not equals or name not in OPTIONS or name in options:
            raise UserError(f"extractor {text!r}: {part!r} is unknown or given twice; write it as {FORM}")
        options[name] = value
    size, channels = options.get("size", ""), options.get("channels", "3")
    if not re.fullmatch("[0-9]{1,4}", size) or not SMALLEST <= int(size) <= LARGEST:
        raise UserError(
            f"extractor {text!r}: size must be the side of its input, {SMALLEST} to {LARGEST} pixels"
        )
    if channels not in ("1", "3"):
        raise UserError(f"extractor {text!r}: channels must be 1 or 3")
    values = _range(options.get("range", ""), text)
    if values is None and channels == "1":
        raise UserError(f"extractor {text!r}: range=imagenet is of 3 channels")
    return FileSpec(Path(found["file"]), int(size), values, int(channels), options.get("arch", ""))


def _range(value: str, text: str) -> tuple[float, float] | None:
    if value == "imagenet":
        return None
    ends = re.fullmatch(rf"({_NUMBER})\.\.({_NUMBER})", value)
    if ends:
        low, high = float(ends[1]), float(ends[2])
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return low, high
    raise UserError(
        f"extractor {text!r}: range must say what black and white become, such as range=-1..1, 0..255 or "
        "imagenet"
    )
