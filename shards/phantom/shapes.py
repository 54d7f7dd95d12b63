"""Analytic shapes that organs are made of, and the smoothing of pictures; all float32 on an (n, n) grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shards.phantom.anatomy import View

Field = np.ndarray


def grid(view: View, size: int) -> tuple[Field, Field]:
    """Anatomical coordinates (x, y) of each pixel's centre."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    column, row = axis[None, :], axis[:, None]
    cos, sin = np.float32(math.cos(view.tilt) / view.zoom), np.float32(math.sin(view.tilt) / view.zoom)
    x = cos * column + sin * row - np.float32(view.shift[0])
    y = cos * row - sin * column - np.float32(view.shift[1])
    return x, y


def to_pixels(points: np.ndarray, view: View, size: int) -> np.ndarray:
    """The inverse of `grid`: points (n, 2) in anatomical coordinates to pixel positions (n, 2)."""
    moved = (points + np.asarray(view.shift)) * view.zoom
    cos, sin = math.cos(view.tilt), math.sin(view.tilt)
    column, row = cos * moved[:, 0] - sin * moved[:, 1], sin * moved[:, 0] + cos * moved[:, 1]
    return (np.stack([column, row], axis=1) + 1) * (size / 2)


def ramp(distance: Field, width: float) -> Field:
    """0 below -width, 1 above width, smooth between."""
    t = np.clip(distance * (0.5 / width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def chord(q: Field) -> Field:
    """Relative thickness sqrt(1 - q) of an ellipsoid where its quadratic form is q; 0 outside."""
    return np.sqrt(np.maximum(1 - q, 0))


def ellipse(x: Field, y: Field, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Field:
    """The quadratic form of an ellipse, turned by `angle` radians: below 1 inside."""
    dx, dy = x - cx, y - cy
    if angle:
        cos, sin = math.cos(angle), math.sin(angle)
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    return (dx / rx) ** 2 + (dy / ry) ** 2


def capsule(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance to the segment from start to end."""
    vx, vy = end[0] - start[0], end[1] - start[1]
    dx, dy = x - start[0], y - start[1]
    t = np.clip((dx * vx + dy * vy) / (vx * vx + vy * vy), 0, 1)
    return np.sqrt((dx - t * vx) ** 2 + (dy - t * vy) ** 2)


def tube(distance: Field, radius: float | Field, wall: float) -> tuple[Field, Field]:
    """Lengths (in units) of a ray through a tubular bone's cortical wall and through its spongy inside."""
    square = distance * distance
    outer = 2 * np.sqrt(np.maximum(radius**2 - square, 0))
    inner = 2 * np.sqrt(np.maximum((radius - wall) ** 2 - square, 0))
    return outer - inner, inner


def curve(y: Field, at: Sequence[float], value: Sequence[float]) -> Field:
    """A smooth function of y through `value` at the rising knots `at`: Catmull-Rom, by a fine table."""
    knots, levels = np.asarray(at), np.asarray(value)
    assert np.all(np.diff(knots) > 0), f"knots must rise: {at}"
    slope = np.gradient(levels, knots)
    fine = np.linspace(knots[0], knots[-1], 200)
    i = np.clip(np.searchsorted(knots, fine, side="right") - 1, 0, len(knots) - 2)
    h = knots[i + 1] - knots[i]
    t = (fine - knots[i]) / h
    table = (
        (1 + 2 * t) * (1 - t) ** 2 * levels[i]
        + t * (1 - t) ** 2 * h * slope[i]
        + t * t * (3 - 2 * t) * levels[i + 1]
        + t * t * (t - 1) * h * slope[i + 1]
    )
    return np.interp(y, fine, table).astype(np.float32)


def blur(image: Field, sigma: float) -> Field:
    """Gaussian blur with repeated edges; sigma in pixels. A wide one works on a reduced picture."""
    if sigma > 6:
        coarse = math.ceil(len(image) * 3 / sigma)
        return resize(blur(resize(image, coarse), sigma * coarse / len(image)), len(image))
    pad = max(2, math.ceil(3 * sigma))
    wide = np.pad(image, pad, mode="edge")
    frequency = np.fft.fftfreq(len(wide))
    kernel = np.exp(-2 * (math.pi * sigma * frequency) ** 2).astype(np.float32)
    half = wide.shape[1] // 2 + 1
    soft = np.fft.irfft2(np.fft.rfft2(wide) * kernel[:, None] * kernel[None, :half], wide.shape)
    return soft[pad:-pad, pad:-pad].astype(np.float32)


def resize(image: Field, size: int) -> Field:
    """The picture at another size, antialiased when smaller."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def clouds(rng: np.random.Generator, size: int, coarse: int) -> Field:
    """Smooth noise of mean about 0 and deviation about 1 with `coarse` cells across the picture."""
    cells = rng.standard_normal((coarse, coarse), dtype=np.float32)
    return resize(cells, size) * np.float32(1.4)
