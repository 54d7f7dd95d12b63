"""One phantom image: what is drawn for a patient and image number, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.phantom.anatomy import Anatomy, Lesion, View, draw_anatomy, draw_lesion, draw_view
from shards.phantom.dicom import Encoding, Header, draw_encoding, write_dicom
from shards.phantom.projection import render_chest


@dataclass(frozen=True)
class Drawn:
    """Everything about an image but its pixels."""

    anatomy: Anatomy
    view: View
    lesion: Lesion | None
    encoding: Encoding
    header: Header


def draw_image(patient: int, image: int, seed: int, finding: bool) -> Drawn:
    """Draws an image of a patient: the patient's own seed gives the anatomy, the image's all else."""
    own = np.random.default_rng([seed, patient, 0])
    anatomy = draw_anatomy(own)
    birth_year = int(own.integers(1920, 1983))
    rng = np.random.default_rng([seed, patient, image])
    view, encoding = draw_view(rng), draw_encoding(rng)
    header = Header(
        patient,
        image,
        anatomy.breast > 0,
        birth_year,
        int(rng.integers(6000)),
        f"phantom {seed} {patient} {image}",
    )
    lesion = draw_lesion(rng, anatomy, view) if finding else None
    return Drawn(anatomy, view, lesion, encoding, header)


def write_image(path: Path, drawn: Drawn, size: int, compressed: bool = False) -> None:
    """Writes it as a DICOM file of size x size pixels; `compressed` by JPEG 2000, without loss."""
    film = render_chest(drawn.anatomy, drawn.view, drawn.lesion, size)
    write_dicom(path, film, drawn.encoding, drawn.header, compressed)
