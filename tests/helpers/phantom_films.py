"""Phantom chest films in memory, without DICOM files: fast enough for a test to train on."""

import numpy as np
import torch
from torch import Tensor

from shards.phantom.image import draw_image
from shards.phantom.projection import render_chest

SIDE = 32


def films(patients: range) -> tuple[Tensor, Tensor]:
    """Two images [2 * patients, 1, SIDE, SIDE] in [-1, 1] of each patient, and labels: 1 with a finding."""
    drawn = [draw_image(patient, 1 + image, 3, bool(image)) for patient in patients for image in (0, 1)]
    pixels = [render_chest(each.anatomy, each.view, each.lesion, SIDE) for each in drawn]
    return torch.from_numpy(np.stack(pixels))[:, None] * 2 - 1, torch.arange(2).repeat(len(patients))
