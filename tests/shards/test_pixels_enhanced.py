"""Enhanced DICOM of one frame: window, rescale and spacing of its functional groups, by PS3.3."""

from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom
from pydicom.dataset import Dataset

from shards.pixels.render import render_file

VALUES = (smooth(4, 64, 64) * 4095).astype(np.uint16)
PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


def item(**elements: object) -> Dataset:
    result = Dataset()
    for name, value in elements.items():
        setattr(result, name, value)
    return result


def groups(center: float, width: float, slope: float = 1, intercept: float = 0) -> Dataset:
    return item(
        FrameVOILUTSequence=[item(WindowCenter=center, WindowWidth=width)],
        PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=intercept)],
    )


def expected(center: float, width: float, slope: float = 1, intercept: float = 0) -> np.ndarray:
    values = VALUES.astype(float) * slope + intercept
    return ((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)


def field(tmp_path: Path, **elements: object) -> np.ndarray:
    dataset = dicom(VALUES, 12, NumberOfFrames=1, **elements)
    return np.asarray(render_file(str(write_dicom(tmp_path / "image.dcm", dataset))).field)


@pytest.mark.parametrize("where", [PER_FRAME, SHARED])
@pytest.mark.parametrize(
    "numbers", [(2000, 4000), (1000, 500), (1000, 3000, 2, -10), (100, 900, 0.25, 3), (3000, 300, 1, 0)]
)
def test_the_groups_make_the_picture(tmp_path: Path, numbers: tuple[float, ...], where: str) -> None:
    found = field(tmp_path, **{where: [groups(*numbers)]})
    np.testing.assert_allclose(found, expected(*numbers), atol=1e-5)


def test_the_frame_comes_before_what_is_shared_and_the_top_before_both(tmp_path: Path) -> None:
    both = {PER_FRAME: [groups(1000, 500)], SHARED: [groups(3000, 700)]}
    np.testing.assert_allclose(field(tmp_path, **both), expected(1000, 500), atol=1e-5)
    top = field(tmp_path, **both, WindowCenter=2000, WindowWidth=900)
    np.testing.assert_allclose(top, expected(2000, 900), atol=1e-5)


def test_half_from_each(tmp_path: Path) -> None:
    halves = {
        PER_FRAME: [item(FrameVOILUTSequence=[item(WindowCenter=900, WindowWidth=800)])],
        SHARED: [item(PixelValueTransformationSequence=[item(RescaleSlope=0.5, RescaleIntercept=7)])],
    }
    np.testing.assert_allclose(field(tmp_path, **halves), expected(900, 800, 0.5, 7), atol=1e-5)


@pytest.mark.parametrize("where", [PER_FRAME, SHARED])
def test_the_shape_of_a_pixel(tmp_path: Path, where: str) -> None:
    group = item(PixelMeasuresSequence=[item(PixelSpacing=[2, 1])])
    dataset = dicom(VALUES[::2], 12, NumberOfFrames=1, **{where: [group]})
    assert render_file(str(write_dicom(tmp_path / "image.dcm", dataset))).aspect == 2


@pytest.mark.parametrize("value", [[], [Dataset()], [item(FrameVOILUTSequence=[])]])
def test_empty_groups_change_nothing(tmp_path: Path, value: list[Dataset]) -> None:
    np.testing.assert_array_equal(field(tmp_path, **{SHARED: value}), field(tmp_path))
