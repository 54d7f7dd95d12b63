"""Pictures as DCMTK's dcmj2pnm shows them, where it is installed (Debian's package dcmtk)."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.pixels.render import render_file

PROGRAM = shutil.which("dcmj2pnm")
needs_dcmtk = pytest.mark.skipif(PROGRAM is None, reason="dcmj2pnm of DCMTK is not on PATH")
LEVELS = 1.1  # of 255: both round, to 8 bits and before the window


def shown(file: Path, *flags: str) -> np.ndarray:
    """The picture of a DICOM file in grey levels of 255, under options of dcmj2pnm."""
    picture = file.with_suffix(".pgm")
    command = [str(PROGRAM), "+op", *flags, str(file), str(picture)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return np.asarray(Image.open(picture)).astype(float)


def differ(file: Path, *flags: str) -> float:
    """The largest difference of its picture and the product's, in grey levels of 255."""
    return float(np.abs(np.asarray(render_file(str(file)).field) * 255 - shown(file, *flags)).max())
