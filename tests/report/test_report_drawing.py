"""Axes, thinned lines, charts and written numbers, for any numbers that a log may hold."""

import math
import re

import pytest
from helpers.run_files import metric
from hypothesis import given
from hypothesis import strategies as st

from chexdist.metrics.value import Metric
from chexdist.report.axis import Axis
from chexdist.report.lettering import apart, shortened, text_width
from chexdist.report.numbers import moment, number, short_count, with_interval
from chexdist.report.plots import MOST_POINTS, Bar, Level, Line, bars, curves, thinned

ANY = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(ANY, min_size=1, max_size=6), st.integers(2, 8))
def test_an_axis_holds_its_values_and_has_few_round_ticks(values: list[float], about: int) -> None:
    axis = Axis.over(values, 10, 110)
    assert all(10 <= axis(value) <= 110 for value in values)
    lengths = [axis(value) for value in sorted(values)]
    assert lengths == sorted(lengths)
    ticks = axis.ticks(about)
    slack = 1e-6 * (axis.high - axis.low)
    assert len(ticks) <= about + 2 and all(math.isfinite(tick) for tick in ticks)
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 130_000.0], [0, 20_000, 40_000, 60_000, 80_000, 100_000, 120_000]),
        ([-10.3, 2300.0], [0, 500, 1000, 1500, 2000]),
        ([0.55, 0.7], [0.55, 0.6, 0.65, 0.7]),
    ],
)
def test_ticks_that_a_person_would_choose(values: list[float], ticks: list[float]) -> None:
    assert Axis.over(values, 0, 1).ticks(7 if values[1] > 1e4 else 5) in (ticks, pytest.approx(ticks))


@given(st.lists(st.tuples(ANY, st.integers(1, 1000)), min_size=1, max_size=2000))
def test_thinning_keeps_the_mean(pairs: list[tuple[float, int]]) -> None:
    pairs = [(max(-1e9, min(1e9, value)), n) for value, n in pairs]
    metrics = [Metric.from_dict(metric("loss/critic", v, k, None, n=n)) for k, (v, n) in enumerate(pairs)]
    points = thinned(metrics)
    assert len(points) <= MOST_POINTS and points[-1][0] == len(metrics) - 1
    if len(metrics) <= MOST_POINTS:
        assert [value for _, value in points] == pytest.approx([value for value, _ in pairs])
    if len({n for _, n in pairs}) == 1 and len(metrics) % len(points) == 0:
        mean = sum(value for value, _ in pairs) / len(pairs)
        assert sum(value for _, value in points) / len(points) == pytest.approx(mean, abs=1e-3)


@given(st.lists(ANY, min_size=1, max_size=12), ANY)
def test_no_number_leaves_a_chart(values: list[float], level: float) -> None:
    values = [max(-1e300, min(1e300, value)) for value in values]
    level = max(-1e300, min(1e300, level))
    metrics = [
        Metric.from_dict(metric("kid_x1000", value, images=index * 10, half=abs(value) / 10))
        for index, value in enumerate(values)
    ]
    width, height = 400, 300
    lines = [Line(0, metrics, marked=True), Line(1, metrics)]
    drawn = [curves(lines, [Level("a", level)], width, height, "", robust) for robust in (True, False)]
    rows = [Bar(0, "a", each, level) for each in metrics]
    for svg, high in [*((svg, height) for svg in drawn), (bars(rows, width, ""), 40 + 30 * len(rows))]:
        assert "nan" not in svg and "inf" not in svg
        for points in re.findall(r'points="([^"]*)"', svg):
            for point in points.split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= width and 0 <= y <= high
        for x in re.findall(r' x="([^"]*)"', svg):
            assert -1 <= float(x) <= width


@given(st.text(max_size=60), st.floats(20, 200))
def test_a_long_name_loses_its_middle(text: str, most: float) -> None:
    cut = shortened(text, 13, most)
    assert cut in (text, "…") or (text_width(cut, 13) <= most and len(cut) < len(text))
    if cut not in (text, "…"):
        head, tail = cut.split("…", 1) if text.count("…") == 0 else ("", "")
        assert text.startswith(head) and text.endswith(tail)


def test_names_that_differ_at_their_ends_still_do() -> None:
    names = [f"residual-at-128-pixels-seed-{number}" for number in range(12)]
    assert len({shortened(name, 13, 120) for name in names}) == 12


def test_labels_that_have_no_room_are_left_out() -> None:
    assert apart([0, 100, 200], ["0", "100", "200"], 12) == [True, True, True]
    assert apart([0, 20, 40, 60], ["0.0001"] * 4, 12) == [True, False, False, True]


def test_levels_are_written_apart_and_where_fewest_lines_pass() -> None:
    """Two of nearly one value, at the start, since the line passes them at its end."""
    metrics = [
        Metric.from_dict(metric("recall_k5", value, index * 100, 0.01))
        for index, value in enumerate((0.0, 0.6, 1.2))
    ]
    levels = [Level("mean image 0.9", 0.9), Level("real X-rays 0.901", 0.901), Level("low", 0.05)]
    svg = curves([Line(0, metrics, marked=True)], levels, 500, 250, "", robust=False)
    found = re.findall(r'<text class="level-label (start|end)" x="[^"]*" y="([^"]*)">([^<]*)', svg)
    assert [(side, label) for side, _, label in found] == [
        ("start", "real X-rays 0.901"),
        ("start", "mean image 0.9"),
        ("end", "low"),
    ]
    heights = [float(height) for _, height, _ in found]
    assert heights[1] - heights[0] >= 14 and heights[0] >= 10


def test_one_spike_does_not_flatten_a_loss() -> None:
    values = [1 + (index % 9) / 10 for index in range(200)]
    values[100] = 1e6
    metrics = [
        Metric.from_dict(metric("loss/critic", value, 10 * index, None)) for index, value in enumerate(values)
    ]
    svg = curves([Line(0, metrics)], [], 400, 200, "", robust=True)
    heights = [float(point.split(",")[1]) for point in re.findall(r'points="([^"]*)"', svg)[0].split()]
    assert all(0 <= height <= 200 for height in heights)
    del heights[100]
    assert max(heights) - min(heights) > 100


@given(st.floats(-1e8, 1e8), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_written_numbers_keep_two_digits_of_their_interval(value: float, below: float, above: float) -> None:
    text = with_interval(value, value - below, value + above).replace(",", "").replace("−", "-")
    written = [float(part) for part in re.findall(r"-?[0-9.]+", text)]
    tolerance = max(0.5, 0.0) if below + above > 20 else max(0.06 * (below + above) / 2, 1e-6)
    wanted = [value, value - below, value + above]
    assert all(abs(a - b) <= tolerance for a, b in zip(written, wanted, strict=True))


def test_how_numbers_are_written() -> None:
    assert with_interval(616.09, 475.5, 776.5) == "616 [476, 776]"
    assert with_interval(0.6206, 0.6017, 0.6395) == "0.621 [0.602, 0.639]"
    assert with_interval(-0.2, -38.1, 20.7) == "0 [−38, 21]"
    assert with_interval(12.3456, None, None) == "12.35"
    assert number(3e30, 2) == "3e+30" and number(1234567.8, 0) == "1,234,568"
    assert short_count(120_000) == "120k" and short_count(2_500_000) == "2.5M" and short_count(0) == "0"
    assert moment(1.8e9) == "2027-01-15 08:00 UTC"
    assert [moment(each) for each in (None, "x", 1e300, float("nan"), True)] == ["–"] * 5
