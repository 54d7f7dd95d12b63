"""Decodes a sample's PNG to pixels; also a decoder for stock WebDataset pipelines over the same shards."""

import io
from typing import Any

import numpy as np
from PIL import Image
from webdataset.autodecode import Decoder

DTYPES = {8: np.uint8, 16: np.uint16}


def decode_xray(key: str, data: bytes) -> Any:
    """A WebDataset decoding handler: `WebDataset(url).decode(decode_xray)`; [H, W] uint8 or uint16 for `png`.

    WebDataset's own "pil" and "l" decoders go through 8-bit RGB, which saturates a 16-bit X-ray.
    """
    if not key.endswith("png"):
        return None
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        pixels = np.asarray(image)
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)


_decoder = Decoder([decode_xray])


def decode_sample(key: str, png: bytes) -> np.ndarray:
    """Pixels [H, W], uint8 or uint16, of one sample.

    Raises:
        OSError, ValueError: the bytes are no PNG that can be decoded.
    """
    return _decoder({"__key__": key, "png": png})["png"]
