"""The protocol's hash follows every field, and different protocols are never compared."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.protocol import DifferentProtocols, Protocol, require_same_protocol


def protocol() -> Protocol:
    extractor = load_extractor("random-conv")
    return Protocol.of(extractor, image_size=64, reference="abc", reference_split="val", n=500)


def test_hash_is_short_hex_and_stable() -> None:
    assert protocol().hash == protocol().hash
    assert len(protocol().hash) == 12 and int(protocol().hash, 16) >= 0


@pytest.mark.parametrize("field", [field.name for field in fields(Protocol)])
def test_every_field_changes_the_hash_and_is_named(field: str) -> None:
    a = protocol()
    old: Any = getattr(a, field)
    change: dict[str, Any] = {field: old + 1 if isinstance(old, int) else old + "x"}
    b = replace(a, **change)
    assert a.hash != b.hash
    with pytest.raises(DifferentProtocols, match=rf"differ in {field} \({re.escape(str(old)[:4])}") as error:
        require_same_protocol(a, b)
    assert error.value.args[0].count("against") == 1


def test_like_protocols_pass() -> None:
    require_same_protocol(protocol(), protocol())
    assert protocol().hash == protocol().hash


def test_protocol_says_what_the_extractor_is() -> None:
    extractor = load_extractor("random-conv")
    assert (protocol().extractor, protocol().digest) == ("random-conv", extractor.digest)
    assert protocol().input_size == extractor.input_size
