"""Windows and tables against DCMTK; what headers get wrong is compared with it in test_pixels_*.py."""

from pathlib import Path

import numpy as np
import pytest
from helpers.dcmtk import LEVELS, differ, needs_dcmtk
from helpers.xray_files import dicom, smooth, write_dicom
from pydicom.dataset import Dataset

pytestmark = [needs_dcmtk, pytest.mark.filterwarnings("ignore")]  # as in the workers


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
                file = write_dicom(tmp_path / "image.dcm", dataset)
                assert differ(file, "+Wi", "1") <= LEVELS, (middle, width, function, slope)


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
        assert differ(write_dicom(tmp_path / "image.dcm", dataset), "+Wl", "1") <= LEVELS, table_bits
