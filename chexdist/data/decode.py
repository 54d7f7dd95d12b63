"""Decodes a sample's PNG to pixels; also a decoder for stock WebDataset pipelines over the same shards."""

from typing import Any

import imagecodecs
import numpy as np
from webdataset.autodecode import Decoder, DecodingError

DTYPES = {8: np.uint8, 16: np.uint16}
MAX_PIXELS = 1 << 26
"""A PNG of a few bytes can say that it is of any size."""


def decode_xray(key: str, data: bytes) -> Any:
    """A WebDataset decoding handler: `WebDataset(url).decode(decode_xray)`; [H, W] uint8 or uint16 for `png`.

    WebDataset's own "pil" and "l" decoders go through 8-bit RGB, which saturates a 16-bit X-ray. This one
    takes half of Pillow's time.

    Raises:
        ValueError: the bytes are no PNG that can be decoded, or one of more than MAX_PIXELS.
    """
    if not key.endswith("png"):
        return None
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    if width * height > MAX_PIXELS:
        raise ValueError(f"is a PNG of {width} x {height} pixels, the limit is {MAX_PIXELS}")
    try:
        return imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        raise ValueError(str(error)) from None


_decoder = Decoder([decode_xray])


def decode_sample(key: str, png: bytes) -> np.ndarray:
    """Pixels [H, W], uint8 or uint16, of one sample.

    Raises:
        ValueError: see `decode_xray`.
    """
    try:
        return _decoder({"__key__": key, "png": png})["png"]
    except DecodingError as error:
        raise ValueError(str(error.__cause__)) from None
