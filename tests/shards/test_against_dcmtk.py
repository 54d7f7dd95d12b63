"""Pictures against those of DCMTK's dcmj2pnm, where it is installed (Debian's package dcmtk)."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom
from PIL import Image
from pydicom.dataset import Dataset

from shards.pixels.render import render_file

PROGRAM = shutil.which("dcmj2pnm")
pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="dcmj2pnm of DCMTK is not on PATH"),
    pytest.mark.filterwarnings("ignore"),  # as in the workers
]
LEVELS = 1.1  # of 255: both round, to 8 bits and before the window


def differ(tmp_path: Path, dataset: Dataset, *flags: str) -> float:
    """The largest difference of the two pictures, in grey levels of 255."""
    file, picture = write_dicom(tmp_path / "image.dcm", dataset), tmp_path / "image.pgm"
    command = [str(PROGRAM), "+op", *flags, str(file), str(picture)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    theirs = np.asarray(Image.open(picture)).astype(float)
    return float(np.abs(np.asarray(render_file(str(file)).field) * 255 - theirs).max())


def stored(bits: int, signed: bool) -> tuple[np.ndarray, int]:
    """Values of all `bits`, and the least that there can be."""
    least = -(2 ** (bits - 1)) if signed else 0
    values = (smooth(bits, 64, 56) * (2**bits - 1)).astype(np.int64) + least
    return values.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"), least


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_windows(tmp_path: Path, bits: int, signed: bool, photometric: str) -> None:
    values, least = stored(bits, signed)
    for middle, width in ((0.5, 1.0), (0.4, 0.5), (0.7, 0.1)):
        for function in ("LINEAR", "SIGMOID"):
            for slope, intercept in ((1, 0), (1, -1024), (2, 10)):
                dataset = dicom(
                    values,
                    bits,
                    PhotometricInterpretation=photometric,
                    RescaleSlope=slope,
                    RescaleIntercept=intercept,
                    WindowCenter=round(slope * (least + middle * 2**bits) + intercept, 1),
                    WindowWidth=round(slope * width * 2**bits, 1),
                    VOILUTFunction=function,
                )
                assert differ(tmp_path, dataset, "+Wi", "1") <= LEVELS, (middle, width, function, slope)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_lookup_tables(tmp_path: Path, bits: int, signed: bool, photometric: str) -> None:
    values, least = stored(bits, signed)
    for table_bits in (8, 12, 16):
        table = (np.linspace(0, 1, 2**bits) ** 1.7 * (2**table_bits - 1)).round().astype(int)
        lut = Dataset()
        lut.add_new("LUTDescriptor", "SS" if signed else "US", [len(table), least, table_bits])
        lut.add_new("LUTData", "US", table.tolist())
        dataset = dicom(values, bits, PhotometricInterpretation=photometric, VOILUTSequence=[lut])
        assert differ(tmp_path, dataset, "+Wl", "1") <= LEVELS, table_bits
