"""What is drawn: a patient's anatomy, one view of it (pose and exposure) and at most one lesion.

Coordinates: x runs from -1 at the image's left edge (the patient's right side) to 1, y from -1 at the top to
1 at the bottom, before a view moves the patient; one unit is about 18 cm. Thicknesses are in cm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

CM_PER_UNIT = 18.0

LesionKind = Literal["nodules", "consolidation", "effusion", "enlarged-heart"]
LESION_KINDS: tuple[LesionKind, ...] = ("nodules", "consolidation", "effusion", "enlarged-heart")


@dataclass(frozen=True)
class Anatomy:
    """One patient; the same in all of this patient's images."""

    depth: float  # chest from front to back, cm
    width: float  # half-width of the rib cage
    fat: float  # subcutaneous layer at the side
    breast: float  # cm of breast tissue, 0 for none
    apex: float  # y of the lungs' tops
    dome: float  # y of the right diaphragm at mid inspiration
    dome_step: float  # how much lower the left one is
    rib_drop: float  # vertical extent of a middle rib's loop
    rib_pitch: float  # distance between ribs at the spine
    rib_size: float  # half-height of a rib
    bone: float  # mineral content relative to normal
    heart: float  # half-width of the heart
    heart_lift: float  # height of the apex above the diaphragm, relative
    knob: float  # radius of the aortic knob
    spine_bend: float  # sideways bow of the spine
    shoulder: float  # y of the shoulder joints
    vascularity: float  # strength of the lung vessels
    vessel_seed: int


@dataclass(frozen=True)
class View:
    """One exposure of a patient: pose, breath, technique and what surrounds the picture."""

    shift: tuple[float, float]
    zoom: float
    tilt: float  # radians
    turn: float  # how far the front of the chest is turned to the image's right
    lean: float  # slope of the shoulders
    breath: float  # how far the diaphragm has come down
    exposure: float  # offset of the film's response, in units of attenuation
    contrast: float  # slope of the film's response
    scatter: float  # scattered light relative to the primary beam
    dose: float  # quanta per pixel in the open beam
    sharpen: float  # strength of the edge enhancement
    stomach_gas: float  # width of the stomach bubble, 0 for none
    borders: tuple[float, float, float, float]  # collimated share at left, top, right, bottom
    marker: str  # "", "L" or "R"
    marker_at: tuple[float, float]  # in the picture, 0 to 1
    noise_seed: int


@dataclass(frozen=True)
class Spot:
    """Where a lesion lies: an ellipsoid of soft tissue, or the box that fluid or a large heart can fill."""

    x: float
    y: float
    rx: float
    ry: float
    cm: float  # thickness at the middle, of an ellipsoid


@dataclass(frozen=True)
class Lesion:
    """A finding. It changes the attenuation within the boxes (x +- rx, y +- ry) of its spots only."""

    kind: LesionKind
    spots: tuple[Spot, ...]
    seed: int  # of a consolidation's grain
    heart_scale: float = 1.0


def spread(rng: np.random.Generator, deviation: float) -> float:
    """A normal draw around 0, cut at 2.4 deviations so that no combination of draws is an impossible body."""
    return float(np.clip(rng.normal(0, deviation), -2.4 * deviation, 2.4 * deviation))


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draws a patient."""
    habitus = float(np.clip(rng.normal(), -1.8, 1.8))
    female = rng.random() < 0.45
    return Anatomy(
        depth=21.5 + 2.3 * habitus + spread(rng, 0.6),
        width=0.71 + 0.02 * habitus + spread(rng, 0.02),
        fat=0.07 + 0.03 * max(habitus, -1.0),
        breast=float(rng.uniform(0.8, 2.2)) if female else 0.0,
        apex=rng.uniform(-0.78, -0.68),
        dome=0.41 - 0.035 * habitus + spread(rng, 0.04),
        dome_step=rng.uniform(0.02, 0.07),
        rib_drop=rng.uniform(0.42, 0.56),
        rib_pitch=rng.uniform(0.115, 0.132),
        rib_size=rng.uniform(0.027, 0.034),
        bone=rng.uniform(0.8, 1.25),
        heart=rng.uniform(0.28, 0.325),
        heart_lift=rng.uniform(0.45, 0.85) - 0.05 * habitus,
        knob=rng.uniform(0.07, 0.1),
        spine_bend=spread(rng, 0.02),
        shoulder=rng.uniform(-0.66, -0.54),
        vascularity=rng.uniform(2.4, 3.6),
        vessel_seed=int(rng.integers(2**31)),
    )


def draw_view(rng: np.random.Generator) -> View:
    """Draws how one image of a patient is taken."""
    borders = [float(rng.uniform(0.01, 0.06)) if rng.random() < 0.2 else 0.0 for _ in range(4)]
    marker = str(rng.choice(["", "L", "R"], p=[0.4, 0.4, 0.2]))
    column = rng.uniform(0.86, 0.91) if marker == "L" else rng.uniform(0.08, 0.13)
    return View(
        shift=(spread(rng, 0.03), spread(rng, 0.03)),
        zoom=rng.uniform(0.95, 1.2),
        tilt=spread(rng, 0.025),
        turn=spread(rng, 0.02),
        lean=spread(rng, 0.025),
        breath=0.02 + spread(rng, 0.05),
        exposure=spread(rng, 0.22),
        contrast=rng.uniform(0.9, 1.6),
        scatter=rng.uniform(0.03, 0.12),
        dose=float(10 ** rng.uniform(4.3, 5.3)),
        sharpen=rng.uniform(0.0, 0.9),
        stomach_gas=float(rng.uniform(0.08, 0.18)) if rng.random() < 0.45 else 0.0,
        borders=(borders[0], borders[1], borders[2], borders[3]),
        marker=marker,
        marker_at=(column, rng.uniform(0.06, 0.2)),
        noise_seed=int(rng.integers(2**31)),
    )


def draw_lesion(rng: np.random.Generator, anatomy: Anatomy, view: View) -> Lesion:
    """Draws one finding that fits into this patient's lungs as they stand in this view."""
    kind = LESION_KINDS[int(rng.integers(len(LESION_KINDS)))]
    seed = int(rng.integers(2**31))
    bottom = anatomy.dome + view.breath
    if kind == "enlarged-heart":
        upper, lower = -0.43, bottom + 0.35  # from below the aortic arch to the lung behind the dome
        spot = Spot(0.2 + view.turn, (upper + lower) / 2, 0.53, (lower - upper) / 2, 0.0)
        return Lesion(kind, (spot,), seed, heart_scale=rng.uniform(1.25, 1.45))
    if kind == "effusion":
        side, top = float(rng.choice([-1, 1])), bottom - rng.uniform(0.0, 0.4)
        half = (1.0 - top) / 2
        return Lesion(kind, (Spot(side * 0.47, top + half, 0.45, half, 0.0),), seed)
    spots = []
    for _ in range(int(rng.integers(1, 4)) if kind == "nodules" else 1):
        side, y = float(rng.choice([-1, 1])), rng.uniform(-0.35, bottom - 0.12)
        x = side * rng.uniform(0.5 if side > 0 and y > -0.05 else 0.32, 0.57)  # not hidden by the heart
        if kind == "nodules":
            radius = rng.uniform(0.035, 0.08)
            spots.append(Spot(x, y, radius, radius * rng.uniform(0.85, 1.15), 2.6 * radius * CM_PER_UNIT))
        else:
            spots.append(Spot(x, y, rng.uniform(0.2, 0.32), rng.uniform(0.2, 0.35), rng.uniform(6.0, 10.0)))
    return Lesion(kind, tuple(spots), seed)


def with_lesion(anatomy: Anatomy, lesion: Lesion | None) -> Anatomy:
    """The anatomy in this image: an enlarged heart alters it, other findings lie in the lungs."""
    return replace(anatomy, heart=anatomy.heart * lesion.heart_scale) if lesion else anatomy
