"""Where soft tissue and air lie: body outline, lungs, heart, mediastinum, diaphragm, vessels and lesions."""

from __future__ import annotations

import math

import numpy as np

from shards.phantom.anatomy import CM_PER_UNIT, Anatomy, Lesion, Spot, View
from shards.phantom.shapes import Field, blur, capsule, chord, clouds, curve, ellipse, ramp, to_pixels


def chest_wall(y: Field, anatomy: Anatomy) -> Field:
    """Half-width of the inside of the rib cage at height y."""
    rise = np.clip((0.3 - y) / (0.3 - anatomy.apex), 0, 1)
    return (anatomy.width - 0.02) * np.maximum(1 - rise**2.4, 0) ** 0.5


def body(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Thickness of the body, cm."""
    flank, joint = anatomy.width + anatomy.fat, anatomy.shoulder
    half = curve(
        y,
        (-1.4, -1.0, joint - 0.22, joint - 0.13, joint, joint + 0.2, joint + 0.42, 0.1, 0.5, 1.4),
        (0.21, 0.24, 0.36, 0.68, 0.95, 0.92, flank + 0.06, flank, flank + 0.01, flank + 0.05),
    )
    front_to_back = curve(
        y, (-1.4, -0.95, joint, -0.2, 0.3, 0.7, 1.4), (0.55, 0.56, 0.78, 0.98, 1.0, 1.04, 1.1)
    )
    torso = anatomy.depth * front_to_back * chord(np.abs(x / half) ** 2.6)
    side, arm_radius = np.abs(x), 0.15 + 0.5 * anatomy.fat
    to_arm = capsule(side, y, (0.93, joint + 0.08), (1.12, 0.9))
    arm = 2 * CM_PER_UNIT * arm_radius * chord((to_arm / arm_radius) ** 2)
    total = np.maximum(torso, arm) + 0.3 * np.minimum(torso, arm)
    if anatomy.breast:
        form = ellipse(side, y, 0.42, 0.38, 0.38, 0.4)
        total = total + 2 * anatomy.breast * chord(form) * ramp(y - 0.1, 0.35) * (torso > 0)
    return total


def diaphragm(x: Field, anatomy: Anatomy, view: View) -> Field:
    """Height y of the diaphragm's dome above each x."""
    dome = anatomy.dome + view.breath + anatomy.dome_step * ramp(x, 0.12)
    off = (np.abs(x) - 0.34) / (anatomy.width - 0.34)
    return dome + np.where(off > 0, 0.2 * np.abs(off) ** 2.6, 0.04 * off**2)


def lungs(x: Field, y: Field, anatomy: Anatomy, view: View) -> Field:
    """Thickness of both lungs, cm, as if no heart lay between them."""
    side = np.abs(x)
    rise = np.clip((0.25 - y) / (0.25 - anatomy.apex), 0, 1.2)
    across = side / np.maximum(chest_wall(y, anatomy), 0.03)
    full = 0.74 * anatomy.depth * chord(across**3.5) * np.maximum(1 - rise**2.6, 0) ** 0.5
    above = diaphragm(x, anatomy, view) - y
    behind = 0.13 * ramp(above + 0.12, 0.13)  # the sinus at the back reaches below the dome
    edge = ramp(above, 0.012)
    return full * (edge + (1 - edge) * behind) * ramp(side - 0.11, 0.11)


def heart_and_vessels(x: Field, y: Field, anatomy: Anatomy, view: View) -> Field:
    """Thickness of heart, great vessels and the tissue between the lungs, cm, by left and right outlines.

    From the top: vessels of the neck, aortic knob, pulmonary trunk and the ventricles down to the apex on the
    image's right; upper vena cava and right atrium on its left.
    """
    half, low, knob = anatomy.heart, anatomy.dome + view.breath, anatomy.knob
    apex = 0.09 + 1.08 * half  # how far the apex reaches to the patient's left
    bulge = max(low - half * (0.25 + 0.35 * anatomy.heart_lift), 0.1)
    upper_edge = max(bulge - 0.62 * half, (bulge - 0.1) / 2)
    left = curve(
        y,
        (-1.4, -0.6, -0.45, -0.32, -0.22, -0.1, upper_edge, bulge, low + 0.1, 1.4),
        (0.09, 0.09, 0.09, 0.085 + knob, 0.12, 0.1 + 0.25 * half, 0.07 + 0.62 * half, apex, apex - 0.07, 0.1),
    )
    right = curve(
        y,
        (
            -1.4,
            -0.6,
            -0.45,
            -0.15,
            max(low - 1.1 * half, -0.08),
            max(low - 0.55 * half, 0.0),
            low + 0.02,
            1.4,
        ),
        (0.09, 0.1, 0.13, 0.13, 0.13, 0.06 + 0.42 * half, 0.04 + 0.25 * half, 0.1),
    )
    u = (2 * x - left + right) / (left + right)
    thick = curve(y, (-1.4, -0.4, -0.1, bulge, low + 0.2, 1.4), (8.0, 9.0, 9.0, 36 * half, 34 * half, 8.0))
    right_hilum = chord(ellipse(x, y, -0.15, -0.03, 0.09, 0.13, 0.3))
    left_hilum = chord(ellipse(x, y, 0.17, -0.1, 0.08, 0.1, -0.3))
    line = 0.1 - 0.05 * np.clip(y + 0.3, 0, 1)
    aorta = 2.2 * chord(((x - line) / 0.065) ** 2) * ramp(y + 0.3, 0.05)
    return thick * chord(np.abs(u) ** 2.4) + 2.4 * (right_hilum + left_hilum) + aorta


def airways(x: Field, y: Field) -> Field:
    """Thickness of air in the trachea and the main bronchi, cm."""
    top, fork, right, left = (0.005, -1.3), (-0.012, -0.28), (-0.13, -0.13), (0.14, -0.15)
    tubes = []
    for start, end, radius in ((top, fork, 0.055), (fork, right, 0.041), (fork, left, 0.036)):
        tubes.append(2 * CM_PER_UNIT * radius * chord((capsule(x, y, start, end) / radius) ** 2))
    return np.max(tubes, axis=0)


def stomach_gas(x: Field, y: Field, anatomy: Anatomy, view: View) -> Field:
    """Thickness of the air in the stomach, cm: a bubble under the left dome over a level of fluid."""
    if not view.stomach_gas:
        return np.zeros_like(x)
    top = anatomy.dome + view.breath + anatomy.dome_step + 0.035
    height = 0.6 * view.stomach_gas
    bubble = chord(ellipse(x, y, 0.33, top + height, view.stomach_gas, height))
    return 60 * view.stomach_gas * bubble * ramp(top + 1.25 * height - y, 0.012)


def vessel_tree(anatomy: Anatomy) -> list[tuple[np.ndarray, np.ndarray]]:
    """The branching vessels of both lungs, finest first: points (n, steps, 2) and radii (n,) a generation."""
    rng = np.random.default_rng(anatomy.vessel_seed)
    side = np.repeat([-1.0, 1.0], 7)
    start = np.where(side[:, None] < 0, (-0.14, -0.03), (0.15, -0.09)) + rng.normal(0, 0.025, (14, 2))
    angle = np.tile(np.linspace(-1.3, 1.35, 7), 2) + rng.normal(0, 0.15, 14)
    radius = rng.uniform(0.011, 0.02, 14)
    tree = []
    for _ in range(5):
        angles = angle[:, None] + np.cumsum(rng.normal(0, 0.17, (len(angle), 6)), axis=1)
        stride = rng.uniform(0.016, 0.034, (len(angle), 1))
        moves = np.stack([side[:, None] * stride * np.cos(angles), stride * np.sin(angles)], axis=-1)
        walk = np.concatenate([np.zeros_like(moves[:, :1]), np.cumsum(moves, axis=1)], axis=1)
        points = start[:, None] + walk
        tree.append((points, radius))
        fork = rng.uniform(0.2, 0.6, (2, len(angle))) * [[-1], [1]]
        angle = (angles[:, -1] + fork).ravel()
        radius = (radius * rng.uniform(0.6, 0.85, fork.shape)).ravel()
        side, start = np.tile(side, 2), np.tile(points[:, -1], (2, 1))
    return tree[::-1]


def vessels(anatomy: Anatomy, view: View, size: int) -> Field:
    """Thickness of the lung vessels, cm, as if lung were everywhere."""
    from PIL import Image, ImageDraw

    over = 2
    canvas = Image.new("F", (over * size, over * size))
    pen = ImageDraw.Draw(canvas)
    for points, radii in vessel_tree(anatomy):
        pixels = to_pixels(points.reshape(-1, 2), view, over * size).reshape(len(radii), -1)
        for path, radius in zip(pixels.tolist(), radii.tolist(), strict=True):
            width = radius * view.zoom * over * size
            pen.line(path, fill=2 * CM_PER_UNIT * radius * min(1.0, width), width=max(1, round(width)))
    drawn = np.asarray(canvas.reduce(over), dtype=np.float32)
    return anatomy.vascularity * blur(drawn, 0.003 * size)


def add_lesion(lung: Field, x: Field, y: Field, anatomy: Anatomy, lesion: Lesion | None) -> Field:
    """The aerated thickness that is left where a lesion fills the lung, cm."""
    if lesion is None:
        return lung
    for spot in lesion.spots:
        q = ellipse(x, y, spot.x, spot.y, spot.rx, spot.ry)
        if lesion.kind == "nodules":
            lung = np.maximum(lung - spot.cm * chord(q), 0)
        elif lesion.kind == "consolidation":
            rng = np.random.default_rng(lesion.seed)
            grain = 1 + 0.18 * clouds(rng, len(x), 7) + 0.15 * clouds(rng, len(x), 24)
            lung = np.maximum(lung - spot.cm * np.maximum(1 - q, 0) ** 1.2 * np.maximum(grain, 0), 0)
        elif lesion.kind == "effusion":
            lung = lung * (1 - fluid(x, y, anatomy, spot))
    return lung


def fluid(x: Field, y: Field, anatomy: Anatomy, spot: Spot) -> Field:
    """Share of the lung replaced by free fluid: a level that climbs at the chest wall (the meniscus)."""
    top, side = spot.y - spot.ry, math.copysign(1, spot.x)
    climb = np.clip(np.abs(x) / anatomy.width, 0, 1)
    surface = top + 0.04 + 0.24 * (1 - climb**2)
    return ramp(y - surface, 0.04) * (x * side > 0.03)
