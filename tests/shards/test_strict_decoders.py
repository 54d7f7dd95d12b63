"""The tests' own decoders agree with libraries about what is right, and refuse what is not."""

import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from helpers.strict_decoders import jpeg_ls, lossless_jpeg
from helpers.xray_files import smooth

RNG = np.random.default_rng(6)
FIELDS = {
    "smooth": smooth(1, 40, 36),
    "noisy": (smooth(2, 40, 36) * 0.8 + RNG.random((40, 36)) * 0.2).clip(0, 1),
    "flat parts": np.where(smooth(3, 40, 36) > 0.6, 1.0, 0.0),
}


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_they_agree_with_libraries(bits: int) -> None:
    for name, field in FIELDS.items():
        values = (field * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
        for near in (0, 1, 3):
            frame = imagecodecs.jpegls_encode(values, level=near)
            np.testing.assert_array_equal(jpeg_ls(frame), imagecodecs.jpegls_decode(frame), err_msg=name)
        for predictor in range(1, 8):
            frame = imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits, predictor=predictor)
            np.testing.assert_array_equal(lossless_jpeg(frame), values, err_msg=name)


@pytest.mark.parametrize("decode", [jpeg_ls, lossless_jpeg])
def test_they_refuse_what_is_left_over_or_missing(decode: Callable[[bytes], np.ndarray]) -> None:
    values = (FIELDS["noisy"] * 4095).astype(np.uint16)
    if decode is jpeg_ls:
        frame = imagecodecs.jpegls_encode(values)
    else:
        frame = imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=12)
    for broken in (frame[:-2], frame[:-9] + frame[-2:], frame[:-2] + bytes(3) + frame[-2:], frame[:60]):
        with pytest.raises((ValueError, IndexError, struct.error)):
            decode(broken)
