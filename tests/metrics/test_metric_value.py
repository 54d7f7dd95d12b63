"""A metric's record becomes one line of strict JSON and back, and refuses what is not a number."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexdist.errors import UserError
from chexdist.metrics.value import Metric
from chexdist.run.log import read_log

finite = st.floats(allow_nan=False, allow_infinity=False)


def metric(**changes: Any) -> Metric:
    record = {
        "images": 64,
        "step": 1,
        "name": "kid_x1000",
        "unit": "1e-3",
        "value": 3.0,
        "n": 50,
        "low": 1.0,
        "high": 5.0,
    }
    return Metric(**{**record, "real_baseline": 0.1, "protocol": "0123456789ab", "time": 1.0, **changes})


@given(finite, st.none() | finite, st.integers(0, 2**60))
def test_line_of_json_and_back(value: float, real: float | None, images: int) -> None:
    record = metric(value=value, real_baseline=real, images=images)
    line = json.dumps(record.to_dict(), allow_nan=False)
    assert Metric.from_dict(json.loads(line)) == record


def test_fields_are_those_of_the_log() -> None:
    expected = ["images", "step", "name", "unit", "value", "n", "low", "high", "floor", "protocol", "time"]
    assert list(metric().to_dict()) == expected


@pytest.mark.parametrize("field", ["value", "low", "high", "floor", "time"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_refuses_numbers_that_are_not_finite(field: str, number: float) -> None:
    line = {**metric().to_dict(), field: number}
    with pytest.raises(ValueError, match=f"kid_x1000: {field} is"):
        Metric.from_dict(line)


@pytest.mark.parametrize(
    "changes", [{"low": 6.0}, {"low": None}, {"high": None}, {"n": 0}, {"step": -1}, {"images": -1}]
)
def test_refuses_records_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="kid_x1000"):
        metric(**changes)


def test_a_line_has_exactly_its_fields() -> None:
    line = metric().to_dict()
    without = {key: value for key, value in line.items() if key != "floor"}
    for other in (
        without,
        {**line, "real_baseline": 1.0},
        {**line, "more": 1},
        {**without, "real_baseline": 1.0},
    ):
        with pytest.raises(TypeError):
            Metric.from_dict(other)


@pytest.mark.parametrize("line", [b"[1]", b"5", b"null", b"\xff", b"{}", b"[" * 100_000, b"not json"])
def test_a_log_of_something_else_is_a_line(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(line + b"\n")
    with pytest.raises(UserError, match=r"metrics.jsonl holds a line that is no metric"):
        read_log(tmp_path)
