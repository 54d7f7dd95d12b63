"""One radiograph of the phantom in each encoding that radiographs come in, for `build`."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from shards.phantom.dicom import chest_dataset, stored_values
from shards.phantom.image import draw_image
from shards.phantom.projection import render_chest
from shards.pixels.codecs import JPEG_2000, NATIVE, decode_frame, read_frame
from shards.pixels.decode import is_dicom, native_values, read_dicom
from shards.pixels.raster import decode_raster
from shards.pixels.reduced import decode_reduced, levels_for

NOISE = 2.0
"""Deviation of the film noise, of 4096 levels."""


def _lossless_jpeg(values: np.ndarray, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits, predictor=1))


def _jpeg_2000(values: np.ndarray, bits: int) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            values, codecformat="j2k", reversible=True, bitspersample=bits, numthreads=1
        )
    )


def _run_lengths(values: np.ndarray, bits: int) -> bytes:
    """A segment for the upper bytes and one for the lower, behind their places (PS3.5, annex G)."""
    planes = (values >> 8, values & 255)
    segments = [bytes(imagecodecs.packbits_encode(plane.astype(np.uint8), axis=-1)) for plane in planes]
    upper, lower = (segment + b"\0" * (len(segment) % 2) for segment in segments)
    return struct.pack("<16I", 2, 64, 64 + len(upper), *[0] * 13) + upper + lower


ENCODERS: dict[str, tuple[UID, Callable[[np.ndarray, int], Any]]] = {
    "RLE": (RLELossless, _run_lengths),
    "JPEG lossless": (JPEGLosslessSV1, _lossless_jpeg),
    "JPEG-LS": (JPEGLSLossless, lambda values, bits: imagecodecs.jpegls_encode(values)),
    "JPEG 2000": (JPEG2000Lossless, _jpeg_2000),
}
BASELINE = "JPEG baseline"
ENCODINGS = ("uncompressed", "RLE", "JPEG lossless", BASELINE, "JPEG-LS", "JPEG 2000", "PNG")
SLOW = ("JPEG 2000",)
"""Those of which a build takes several times as long."""


def write_encodings(number: int, folder: Path, side: int, encodings: tuple[str, ...] = ENCODINGS) -> None:
    """Write radiograph `number` of `side` px into a folder for each encoding; 8 bits as PNG and baseline."""
    drawn = draw_image(number, 0, 0, bool(number % 2))
    small = Image.fromarray(render_chest(drawn.anatomy, drawn.view, drawn.lesion, side // 2))
    film = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(number).standard_normal(film.shape, dtype=np.float32)
    film = (film + NOISE / 4096 * noise).clip(0, 1)
    for encoding in encodings:
        path = folder / encoding / f"{number:04d}{'.png' if encoding == 'PNG' else '.dcm'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if encoding == "PNG":
            Image.fromarray(_eight_bits(film)).save(path)
            continue
        dataset = chest_dataset(film, drawn.encoding, drawn.header)
        if encoding == BASELINE:
            _make_baseline(dataset, film)
        elif encoding in ENCODERS:
            syntax, encode = ENCODERS[encoding]
            values = stored_values(film, drawn.encoding)
            _compress(dataset, syntax, encode(values, dataset.BitsStored))
        dataset.save_as(path, enforce_file_format=True)


def decoded(path: Path, size: int) -> np.ndarray:
    """What the shard builder's decoder alone makes of a file; JPEG 2000 as coarse as `size` px allow."""
    with open(path, "rb") as file:
        if not is_dicom(file):
            return decode_raster(file).values
    dataset = read_dicom(str(path))
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in NATIVE:
        return native_values(dataset)
    frame, stream = read_frame(dataset, syntax)
    if syntax in JPEG_2000 and (levels := levels_for(stream, size)):
        reduced = decode_reduced(frame, stream, levels[0])
        if reduced:
            return reduced.samples
    return decode_frame(dataset, syntax, frame, stream)


def _eight_bits(film: np.ndarray) -> np.ndarray:
    return np.round(film * 255).astype(np.uint8)


def _make_baseline(dataset: Dataset, film: np.ndarray) -> None:
    """Of 8 bits, to be shown as it is."""
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    for name in ("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth"):
        if name in dataset:
            delattr(dataset, name)
    _compress(dataset, JPEGBaseline8Bit, bytes(imagecodecs.jpeg8_encode(_eight_bits(film), level=90)))


def _compress(dataset: Dataset, syntax: UID, frame: Any) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset["PixelData"].VR = "OB"
