"""Ribs, clavicles, spine, shoulder blades and upper arms, as attenuation beyond that of soft tissue."""

from __future__ import annotations

import numpy as np

from shards.phantom.anatomy import CM_PER_UNIT, Anatomy, View
from shards.phantom.shapes import Field, capsule, chord, curve, ellipse, ramp, tube
from shards.phantom.soft import chest_wall

CORTICAL, SPONGY = 0.85, 0.2  # attenuation in excess of soft tissue, per cm


def _bone(distance: Field, radius: float | Field, wall: float, flat: float = 1.0) -> Field:
    """Attenuation of a tubular bone, its depth `flat` times its height."""
    shell, inside = tube(distance, radius, wall)
    return (CM_PER_UNIT * flat) * (CORTICAL * shell + SPONGY * inside)


def ribs(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Ten pairs, each a tilted loop: from the spine outwards and down at the back, then inwards in front."""
    total = np.zeros_like(x)
    side_all, lowest, highest = np.abs(x), y.max(axis=1), y.min(axis=1)
    slope = 0.13  # the loops hang outwards
    for k in range(10):
        drop = anatomy.rib_drop * min(1.0, 0.42 + 0.14 * k)
        top = anatomy.apex + anatomy.rib_pitch * (k * 0.96 + 0.012 * k * (k - 3)) - 0.01 * (k == 0)
        widest = np.array([top + drop / 2 + slope * 0.6])
        half = float(chest_wall(widest, anatomy)[0]) + 0.012
        rows = slice(
            np.searchsorted(lowest, top - 0.1), np.searchsorted(highest, top + drop + slope * half + 0.1)
        )
        side = side_all[rows]
        u, v = side / half, (y[rows] - top - slope * side - drop / 2) / (drop / 2)
        form = u * u + v * v
        # First-order distance to the loop: (form - 1) / |gradient|.
        du, dv = 2 * u / half - 2 * v * slope / (drop / 2), 2 * v / (drop / 2)
        distance = (form - 1) / np.sqrt(du * du + dv * dv + 1e-3)
        back = ramp(-v - 0.02, 0.1)
        joined = ramp(side - 0.06, 0.03)  # to the spine; nothing crosses it
        # In front the bone ends at the costal cartilage, which hardly shows.
        front = (1 - back) * ramp(side - 0.42 * half, 0.06)
        size = anatomy.rib_size * (0.85 if k == 0 else 1.0)
        total[rows] += _bone(distance, size * (0.95 + 0.15 * (1 - back)), 0.006, 0.6) * (
            joined * back + 0.75 * front
        )
    return total


def clavicles(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Both collar bones: a flat S from the breast bone to the shoulder."""
    side = np.abs(x)
    t = np.clip((side - 0.07) / 0.67, 0, 1)
    inner_end, outer_end = anatomy.apex + 0.25, anatomy.shoulder - 0.1
    height = inner_end + (outer_end - inner_end) * t + 0.035 * np.sin(2 * np.pi * t)
    radius = 0.026 + 0.014 * (1 - 2 * t) ** 2
    inside = ramp(side - 0.07, 0.02) * ramp(0.78 - side, 0.02)
    return _bone((y - height) * 0.95, radius, 0.007, 0.75) * inside


def spine(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Vertebral bodies with end plates, pedicles and spinous processes."""
    offset = x - anatomy.spine_bend * np.sin(2.2 * y)
    # The bodies grow downwards: position within the stack.
    stack = (y + 1.4) / (0.105 + 0.012 * y)
    level = stack - np.floor(stack)
    half = curve(y, (-1.4, -0.6, 0.4, 1.4), (0.055, 0.07, 0.085, 0.1)) * (1 + 0.14 * (2 * level - 1) ** 2)
    disc = ramp(np.abs(level - 0.5) - 0.42, 0.05)
    plate = np.exp(-(((np.abs(level - 0.5) - 0.38) / 0.04) ** 2))
    block = ramp(half - np.abs(offset), 0.022)
    rim = np.exp(-(((half - np.abs(offset) - 0.008) / 0.009) ** 2))
    pedicle = chord(((np.abs(offset) - 0.6 * half) / 0.014) ** 2 + ((level - 0.32) / 0.17) ** 2)
    process = chord((offset / 0.014) ** 2 + ((level - 0.75) / 0.22) ** 2)
    return block * (0.12 * (1 - 0.7 * disc) + 0.12 * plate + 0.06 * rim) + 0.14 * pedicle + 0.1 * process


def shoulders(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Shoulder blades, heads and shafts of the upper arms."""
    side, joint = np.abs(x), anatomy.shoulder
    head = _bone(np.sqrt(ellipse(side, y, 0.9, joint + 0.02, 1, 1)), 0.095, 0.007, 0.45)
    shaft = _bone(capsule(side, y, (0.94, joint + 0.08), (1.12, 0.9)), 0.05, 0.016, 0.8)
    spur = _bone(capsule(side, y, (0.62, joint - 0.03), (0.86, joint - 0.1)), 0.028, 0.007, 0.6)
    border = _bone(capsule(side, y, (0.8, joint + 0.06), (0.64, joint + 0.55)), 0.022, 0.008, 0.8)
    # The blade is a thin triangle between its lateral border, its inner border and the spur.
    outer = 0.8 - 0.16 * (y - joint - 0.06) / 0.49 - side
    inner = side - 0.55 - 0.07 * (y - joint) / 0.5
    blade = np.minimum(np.minimum(outer, inner), np.minimum(y - joint + 0.08, joint + 0.57 - y))
    plate = 0.16 * ramp(blade, 0.01) + 0.08 * np.exp(-((blade / 0.01) ** 2))
    return np.maximum(head, shaft) + 0.8 * np.maximum(spur, border) + plate


def skeleton(x: Field, y: Field, anatomy: Anatomy, view: View) -> Field:
    """Attenuation of all bones beyond that of the soft tissue that they replace."""
    leaning = y + view.lean * x
    girdle = clavicles(x - view.turn, leaning, anatomy) + shoulders(x, leaning, anatomy)
    return anatomy.bone * (ribs(x, y, anatomy) + spine(x, y, anatomy) + girdle)
