"""Samples are decoded to the pixels that Pillow finds in them, or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from chexdist.data.decode import decode_sample, decode_xray

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
PICTURES = st.sampled_from((np.uint8, np.uint16)).flatmap(lambda dtype: arrays(dtype, SHAPES))


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def of_size(png: bytes, width: int, height: int) -> bytes:
    """The same with another size in its header, whose checksum is right."""
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@given(PICTURES)
def test_as_pillow_reads_it(pixels: np.ndarray) -> None:
    png = encoded(pixels)
    found = decode_sample("key", png)
    assert found.dtype == pixels.dtype
    with Image.open(io.BytesIO(png)) as image:
        np.testing.assert_array_equal(found, np.asarray(image))
    np.testing.assert_array_equal(found, pixels)


PNG = encoded(np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG", b"no picture" + bytes(99), PNG[: len(PNG) // 2], of_size(PNG, 30, 21)]
)
def test_what_is_no_png_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"PNG|stream|data"):
        decode_sample("key", data)


def test_a_huge_picture_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(ValueError, match=r"60000 x 60000 pixels, the limit is 67108864"):
        decode_sample("key", of_size(PNG, 60_000, 60_000))


def test_other_files_of_a_sample_are_left_to_other_decoders() -> None:
    assert decode_xray("key.json", b"{}") is None
