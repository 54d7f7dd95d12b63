"""What makes two numbers comparable: everything besides the generator that a metric's value depends on."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields

from chexdist.metrics.extractor import Extractor
from chexdist.metrics.preprocess import RESIZE, VALUE_RANGE

VERSION = 1  # raise it when a change of code moves a metric's value and no other field shows it


class DifferentProtocols(ValueError):
    """Two numbers were to be compared that were not measured in the same way."""


def hash_of(fields: dict[str, object]) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the canonical JSON of a protocol's fields."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


class Hashed:
    """Makes a dataclass a protocol: numbers may be compared when the hashes of their protocols are equal."""

    @property
    def hash(self) -> str:
        """See `hash_of`."""
        return hash_of(asdict(self))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Protocol(Hashed):
    """How a number was measured in an extractor's features.

    reference: digest of the real images; n: images evaluated.
    """

    extractor: str
    digest: str
    input_size: int
    value_range: str
    resize: str
    gray: str
    normalisation: str
    image_size: int
    reference: str
    reference_split: str
    n: int
    version: int = VERSION

    @classmethod
    def of(
        cls, extractor: Extractor, *, image_size: int, reference: str, reference_split: str, n: int
    ) -> "Protocol":
        """The protocol of numbers from this extractor, for images of side image_size."""
        return cls(
            extractor=extractor.name,
            digest=extractor.digest,
            input_size=extractor.input_size,
            value_range=VALUE_RANGE,
            resize=RESIZE,
            gray=extractor.normalised.gray,
            normalisation=extractor.normalised.normalisation,
            image_size=image_size,
            reference=reference,
            reference_split=reference_split,
            n=n,
        )


def require_same_protocol(a: Hashed, b: Hashed) -> None:
    """Raises DifferentProtocols, naming each field that differs."""
    if type(a) is not type(b):
        raise DifferentProtocols(
            f"these numbers can't be compared: one has a {type(a).__name__}, the other a {type(b).__name__}"
        )
    different = [
        f"{field.name} ({getattr(a, field.name)} against {getattr(b, field.name)})"
        for field in fields(a)  # type: ignore[arg-type]
        if getattr(a, field.name) != getattr(b, field.name)
    ]
    if different:
        raise DifferentProtocols(f"these numbers can't be compared: they differ in {', '.join(different)}")
