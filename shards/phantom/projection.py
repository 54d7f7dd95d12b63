"""How a patient becomes an X-ray picture: beam, scatter, quanta, the film's response, borders and marker."""

from __future__ import annotations

import numpy as np

from shards.phantom import soft
from shards.phantom.anatomy import Anatomy, Lesion, View, with_lesion
from shards.phantom.bones import skeleton
from shards.phantom.shapes import Field, blur, clouds, grid

SOFT_TISSUE, LUNG = 0.19, 0.05  # linear attenuation at diagnostic energies, per cm
GLYPHS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "11100", "10110", "10011"),
}


def attenuation(anatomy: Anatomy, view: View, lesion: Lesion | None, size: int) -> Field:
    """The line integral of attenuation along each ray, float32 (size, size); 0 is the open beam."""
    x, y = grid(view, size)
    shown = with_lesion(anatomy, lesion)
    full = soft.lungs(x, y, anatomy, view)
    air = np.maximum(full - soft.heart_and_vessels(x - view.turn, y, shown, view), 0)
    texture = np.random.default_rng(anatomy.vessel_seed + 1)
    fine = 0.2 * clouds(texture, size, 36) + 0.2 * clouds(texture, size, 72)
    share = np.clip(air / 8, 0, 1)
    air = np.maximum(air - share * (soft.vessels(anatomy, view, size) + fine), 0)
    air = soft.add_lesion(air, x, y, anatomy, lesion)
    gas = soft.airways(x - view.turn, y) + soft.stomach_gas(x, y, anatomy, view)
    trunk = soft.body(x, y + view.lean * x, anatomy)
    tissue = np.maximum(SOFT_TISSUE * (trunk - gas) - (SOFT_TISSUE - LUNG) * air, 0)
    return tissue + skeleton(x, y, anatomy, view) * np.clip(trunk / 3, 0, 1)


def render_chest(anatomy: Anatomy, view: View, lesion: Lesion | None, size: int) -> Field:
    """One radiograph, float32 (size, size) in [0, 1], dense parts bright; a pure function of its arguments.

    Primary beam by Beer-Lambert, scatter as a wide blur of it, Poisson quanta (normal approximation), and the
    sigmoid that film and the usual processing of computed radiography share.
    """
    rng = np.random.default_rng(view.noise_seed)
    primary = np.exp(-attenuation(anatomy, view, lesion, size))
    veil = view.scatter * blur(np.minimum(primary, 0.15), 0.09 * size)
    beam = blur(primary, 0.0022 * size) + veil
    beam += np.sqrt(beam / view.dose) * rng.standard_normal(beam.shape, dtype=np.float32)
    dense = -np.log(np.clip(beam, 1e-3, None))
    if view.sharpen:
        dense += view.sharpen * (dense - blur(dense, 0.012 * size))
    middle = 2.55 + 0.09 * (anatomy.depth - 21.5) + view.exposure
    film = 1 / (1 + np.exp(-view.contrast * (dense - middle)))
    return add_frame(film, view).astype(np.float32)


def add_frame(film: Field, view: View) -> Field:
    """Blacks out what the collimator covers and burns in the side marker."""
    size = len(film)
    left, top, right, bottom = (round(share * size) for share in view.borders)
    framed = np.zeros_like(film)
    framed[top : size - bottom, left : size - right] = film[top : size - bottom, left : size - right]
    if view.marker:
        height = max(7, round(0.055 * size))
        glyph = letter(view.marker, height)
        row, column = round(size * view.marker_at[1]), round(size * view.marker_at[0])
        region = framed[row : row + height, column : column + glyph.shape[1]]
        np.maximum(region, glyph[: region.shape[0], : region.shape[1]], out=region)
    return framed


def letter(name: str, height: int) -> Field:
    """A side marker's letter, 1 on 0."""
    from PIL import Image

    bits = np.array([[int(bit) for bit in row] for row in GLYPHS[name]], dtype=np.float32)
    smooth = np.asarray(Image.fromarray(bits).resize((height * 5 // 7, height), Image.Resampling.BILINEAR))
    return np.clip(2.2 * smooth - 0.5, 0, 1)
