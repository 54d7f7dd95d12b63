"""Rasters deeper than 8 bits: 16-bit colour, and 16-bit files that hold fewer bits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.scan import Scanned, ScanOptions, scan_one, warnings_of
from shards.sources import Source


def folder_warnings(tmp_path: Path, peaks: dict[str, list[int]]) -> list[str]:
    """The warnings for classes of 16-bit PNGs whose largest values are `peaks`."""
    sources, results = [], []
    for label, values in peaks.items():
        for number, peak in enumerate(values):
            path = tmp_path / f"{label}{number}.png"
            Image.fromarray(
                (np.linspace(0, 1, 32 * 32) * peak).round().astype(np.uint16).reshape(32, 32)
            ).save(path)
            sources.append(Source(0, path.name, str(path), label))
            results.append(scan_one(sources[-1], tmp_path, ScanOptions(32, 16)))
    assert all(isinstance(result, Scanned) for result in results)
    return warnings_of(sources, results)


@pytest.mark.parametrize("bits", [8, 9, 10, 11, 12, 13, 14, 15])
def test_a_class_of_fewer_bits_is_named(tmp_path: Path, bits: int) -> None:
    (line,) = folder_warnings(tmp_path, {"dark": [2**bits - 1, 200], "full": [65535, 900], "most": [50000]})
    assert line.startswith(f"class dark: no value of its 2 16-bit PNGs is above {2**bits - 1}: ")
    assert f"{bits}-bit data" in line


@pytest.mark.parametrize("peak", [1000, 3900, 4000, 16000])
def test_also_where_the_last_value_is_not_used(tmp_path: Path, peak: int) -> None:
    assert len(folder_warnings(tmp_path, {"dark": [peak]})) == 1


def test_classes_at_full_scale_are_not(tmp_path: Path) -> None:
    assert folder_warnings(tmp_path, {"a": [4095, 40000], "b": [65535], "c": [30000]}) == []
