"""JPEG 2000 decoded at a lower level, many times faster, for a picture that comes out the same.

Leaving out the finest `level` wavelet levels gives every 2**level-th sample of the low-passed picture
(ISO/IEC 15444-1, annex F), the first one at the first pixel. What those levels would add is detail that
shrinking averages away again. To shrink, the samples are first interpolated back to the full grid, one axis
at a time, as the inverse wavelet does without its detail: for the 5/3 wavelet that is exactly linear, for the
9/7 one nearly Lanczos. So the box filter falls on the same pixels as after the full decode.

Whether the detail matters is measured: `render` compares the picture with the one from half as many samples.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from shards.pixels.codestream import JPEG_2000_START, Codestream

MOST_LEVELS = 2  # 12 times faster, 6 times for 9/7; at 3 the thumbnails of `copies` begin to differ
FEWEST_SAMPLES = 64  # on the shorter side, for these thumbnails


@dataclass(frozen=True)
class Reduced:
    """Samples of a picture whose full size is `shape`: [rows, columns] at every 2**level-th pixel."""

    samples: np.ndarray
    level: int
    shape: tuple[int, int]
    kernel: Image.Resampling

    def resize(
        self, rows: int, columns: int, part: tuple[float, float, float, float] | None = None
    ) -> np.ndarray:
        """Shrink to float32 [rows, columns] by the box filter of the full picture.

        `part`: which [top, left, bottom, right] of it, all by default.
        """
        top, left, bottom, right = part or (0, 0, *self.shape)
        once = self._shrink(self.samples.astype(np.float32), self.shape[1], columns, left, right)
        return self._shrink(np.ascontiguousarray(once.T), self.shape[0], rows, top, bottom).T

    def coarser(self) -> "Reduced":
        """Half as many samples each way, by the 5/3 wavelet's low-pass (-1, 2, 6, 2, -1) / 8."""
        samples = self.samples.astype(np.float32)
        for _ in range(2):
            padded = np.pad(samples.T, ((2, 2), (0, 0)), "reflect")
            far, near = padded[:-4] + padded[4:], padded[1:-3] + padded[3:-1]
            samples = ((6 * padded[2:-2] + 2 * near - far) / 8)[::2]
        return replace(self, samples=samples, level=self.level + 1)

    def _shrink(self, samples: np.ndarray, full: int, side: int, start: float, end: float) -> np.ndarray:
        """Interpolate rows of samples to `full` pixels, then shrink those from `start` to `end` to `side`."""
        step = 2**self.level
        padded = Image.fromarray(np.pad(samples, ((0, 0), (0, 1)), "edge"))
        first = 0.5 - 0.5 / step  # of the first pixel; it and the first sample have the same centre
        box = (first, 0, first + full / step, len(samples))
        whole = padded.resize((full, len(samples)), self.kernel, box)
        return np.asarray(
            whole.resize((side, len(samples)), Image.Resampling.BOX, (start, 0, end, len(samples)))
        )


def levels_for(stream: Codestream, side: int) -> range:
    """The levels at which enough samples are left for a picture of `side` pixels, the fastest first."""
    shorter, longer = sorted((stream.height, stream.width))
    most = min(stream.levels, MOST_LEVELS) if stream.complete else 0
    while most and (longer < side << most or shorter < FEWEST_SAMPLES << most):
        most -= 1
    return range(most, 0, -1)


def decode_reduced(frame: bytes, stream: Codestream, level: int) -> Reduced | None:
    """Decode without the finest `level` levels; None when that fails, and the full decode will report why."""
    shape = (stream.height, stream.width)
    try:
        samples = _decode(frame, stream, level)
    except (OSError, SyntaxError, ValueError, TypeError, AttributeError):
        return None
    if samples.shape != tuple(-(-length // 2**level) for length in shape):
        return None
    kernel = Image.Resampling.BILINEAR if stream.reversible else Image.Resampling.LANCZOS
    return Reduced(samples, level, shape, kernel)


def _decode(frame: bytes, stream: Codestream, level: int) -> np.ndarray:
    """The samples by Pillow, as integers with the codestream's sign."""
    codestream = io.BytesIO(frame[frame.find(JPEG_2000_START) :])
    with Image.open(codestream, formats=["JPEG2000"]) as image:
        # Pillow rounds the reduced size, OpenJPEG takes the ceiling: the same for multiples of 2**level.
        width, height = (-(-length >> level) << level for length in image.size)
        image._size = (width, height)
        image.reduce = level  # type: ignore[method-assign, assignment]
        image.load()
        values = np.asarray(image)
    if values.dtype.kind != "u":
        raise ValueError(f"Pillow decodes to {values.dtype}")
    empty = 8 * values.itemsize - stream.bits  # Pillow fills the upper bits of its 8 or 16
    values = (values >> empty).astype(np.int32)
    return values - 2 ** (stream.bits - 1) if stream.signed else values
