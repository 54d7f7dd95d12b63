"""Charts as inline SVG: lines over images seen, and bars.

Colours and type come from the page, so they follow its scheme. Run number r has the class `run-r` (colour,
and the dashes of its line) and its own marker, so that no chart depends on colour alone.
"""

from dataclasses import dataclass

from markupsafe import Markup

from chexdist.metrics.value import Metric
from chexdist.report.axis import Axis
from chexdist.report.lettering import apart, shortened, text_width
from chexdist.report.numbers import decimals_for, number, short_count

MOST_POINTS = 240
"""Points of a line; a longer log is averaged over neighbours."""
SMALL, LARGE = 12, 13
"""Sizes of type in the style sheet: of ticks, and of names and values."""
NAME_WIDTH, LEADING = 128, 15
Point = tuple[float, float]
MARKERS = (
    Markup('<circle cx="{x}" cy="{y}" r="3.4"/>'),
    Markup('<path d="M{x} {y}m-3.4-3.4h6.8v6.8h-6.8z"/>'),
    Markup('<path d="M{x} {y}m0-4.4l4.2 7.4h-8.4z"/>'),
    Markup('<path d="M{x} {y}m0-4.6l4.6 4.6l-4.6 4.6l-4.6-4.6z"/>'),
    Markup('<path d="M{x} {y}m0 4.4l4.2-7.4h-8.4z"/>'),
    Markup('<path d="M{x} {y}m-4-1.4h2.6v-2.6h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6z"/>'),
    Markup('<circle cx="{x}" cy="{y}" r="3.2" class="hollow"/>'),
    Markup('<path d="M{x} {y}m-3.2-3.2h6.4v6.4h-6.4z" class="hollow"/>'),
    Markup('<path d="M{x} {y}m0-4.6l4.4 7.6h-8.8z" class="hollow"/>'),
    Markup('<path d="M{x} {y}m0-4.8l4.8 4.8l-4.8 4.8l-4.8-4.8z" class="hollow"/>'),
    Markup('<path d="M{x} {y}m0 4.6l4.4-7.6h-8.8z" class="hollow"/>'),
    Markup('<path d="M{x} {y}m-3.6-3.6l7.2 7.2m0-7.2l-7.2 7.2" class="hollow"/>'),
)


@dataclass(frozen=True)
class Line:
    """One run's metric over images. `style`: a class of the page's style sheet; `marked`: with the run's
    marker at each point; `banded`: with its intervals.
    """

    run: int
    metrics: list[Metric]
    style: str = ""
    marked: bool = False
    banded: bool = True


@dataclass(frozen=True)
class Level:
    """A horizontal line for comparison."""

    label: str
    value: float


@dataclass(frozen=True)
class Bar:
    """A bar of the run's colour, its interval as a whisker, and the value of real X-rays as a line across."""

    run: int
    label: str
    metric: Metric
    real: float | None


def curves(
    lines: list[Line], levels: list[Level], width: int, height: int, text: str, robust: bool
) -> Markup:
    """Lines over images seen. `text` says in words what is drawn.

    robust: the middle 98 % of the values decide the axis, so that one spike does not flatten the rest.
    """
    top, bottom = 12, height - 40
    values = sorted(m.value for line in lines for m in line.metrics)
    spare = len(values) // 100 if robust else 0
    values = values[spare : len(values) - spare]
    ends = [
        end
        for line in lines
        if line.marked and line.banded
        for m in line.metrics
        for end in (m.low, m.high)
        if end is not None
    ]
    at_levels = [level.value for level in levels]
    y = Axis.over([*values, *ends, *at_levels], bottom, top).widened(0.04, 0.06)
    left = max(48.0, 14 + max((text_width(each, SMALL) for each in _tick_labels(y.ticks(5))), default=0.0))
    x = Axis.over([0.0, *(float(m.images) for line in lines for m in line.metrics)], left, width - 14)
    parts = [_grid(x, y, width, "real images shown to the critic")]
    for level in levels:
        parts.append(Markup('<path class="level" d="M{} {}H{}"/>').format(x.start, y(level.value), x.end))
    parts += [_band(line, x, y) for line in lines if line.marked and line.banded]
    paths = [[(x(images), y(value)) for images, value in thinned(line.metrics)] for line in lines]
    for line, points in zip(lines, paths, strict=True):
        path = " ".join(f"{px:g},{py:g}" for px, py in points)
        parts.append(
            Markup('<polyline class="line run-{} {}" points="{}"/>').format(
                line.run, line.style or "course", path
            )
        )
        if line.marked:
            parts.append(Markup('<g class="mark run-{}">{}</g>').format(line.run, _marks(line.run, points)))
    parts += _level_labels(levels, x, y, paths)
    return _svg(width, height, text, parts)


def thinned(metrics: list[Metric]) -> list[tuple[float, float]]:
    """(images, value), at most MOST_POINTS of them: each the mean of neighbours, weighted by their n."""
    size = -(-len(metrics) // MOST_POINTS)
    points = []
    for start in range(0, len(metrics), max(1, size)):
        part = metrics[start : start + size]
        total = sum(m.n for m in part)
        points.append((float(part[-1].images), sum(m.value * (m.n / total) for m in part)))
    return points


def bars(entries: list[Bar], width: int, text: str) -> Markup:
    """Horizontal bars from zero, a row each."""
    row, top, left = 30, 6, NAME_WIDTH + 34
    shown = [
        number(m.value, decimals_for(m.value, m.low, m.high)) for m in (entry.metric for entry in entries)
    ]
    right = width - max(50.0, 12 + max(text_width(each, LARGE) for each in shown))
    bottom = top + row * len(entries)
    ends = [end for bar in entries for end in (bar.metric.value, bar.metric.low, bar.metric.high, bar.real)]
    x = Axis.over([0.0, *(end for end in ends if end is not None)], left, right)
    parts = [_x_grid(x, x.ticks(3), top, bottom)]
    for index, (bar, value) in enumerate(zip(entries, shown, strict=True)):
        parts.append(_bar(bar, x, top + row * index, row))
        parts.append(
            Markup('<text x="{}" y="{}" class="value">{}</text>').format(
                width - 2, top + row * index + 19, value
            )
        )
    return _svg(width, bottom + 22, text, parts)


def _bar(bar: Bar, x: Axis, y: int, row: int) -> Markup:
    """The run's marker and name, the bar, its interval, and real X-rays."""
    value, low, high = bar.metric.value, bar.metric.low, bar.metric.high
    start, end = sorted((x(0), x(value)))
    middle = y + row / 2
    drawn = Markup('<g class="mark run-{}">{}</g>').format(bar.run, _marks(bar.run, [(8, middle)]))
    drawn += Markup('<text x="{}" y="{}" class="name">{}</text>').format(
        22, y + 19, shortened(bar.label, LARGE, NAME_WIDTH)
    )
    drawn += Markup('<rect class="bar run-{}" x="{}" y="{}" width="{:g}" height="{}"/>').format(
        bar.run, start, y + 6, max(0.8, end - start), row - 12
    )
    if low is not None and high is not None:
        a, b = x(low), x(high)
        drawn += Markup('<path class="whisker" d="M{} {}H{}M{} {}v8M{} {}v8"/>').format(
            a, middle, b, a, middle - 4, b, middle - 4
        )
    if bar.real is not None:
        drawn += Markup('<path class="real" d="M{} {}v{}"/>').format(x(bar.real), y, row)
    return drawn


def key(run: int) -> Markup:
    """The run's colour and marker, for legends and tables."""
    return Markup(
        '<svg class="key" viewBox="0 0 26 12" width="26" height="12" aria-hidden="true">'
        '<path class="line course run-{}" d="M1 6H25"/><g class="mark run-{}">{}</g></svg>'
    ).format(run, run, _marks(run, [(13, 6)]))


def _marks(run: int, points: list[tuple[float, float]]) -> Markup:
    marker = MARKERS[run % len(MARKERS)]
    return Markup("").join(marker.format(x=f"{x:g}", y=f"{y:g}") for x, y in points)


def _band(line: Line, x: Axis, y: Axis) -> Markup:
    """The 95 % interval."""
    upper = [(x(m.images), y(m.high)) for m in line.metrics if m.high is not None]
    lower = [(x(m.images), y(m.low)) for m in line.metrics if m.low is not None]
    path = " ".join(f"{px:g},{py:g}" for px, py in upper + lower[::-1])
    return Markup('<polygon class="band run-{}" points="{}"/>').format(line.run, path)


def _level_labels(levels: list[Level], x: Axis, y: Axis, paths: list[list[Point]]) -> list[Markup]:
    """Each above its line, as far as they don't run into one another, at the end where fewer lines pass; over
    those, with a rim of paper.
    """
    ordered = sorted(levels, key=lambda level: y(level.value))
    baselines = [y(level.value) - 5 for level in ordered]
    for index in reversed(range(len(ordered) - 1)):
        baselines[index] = min(baselines[index], baselines[index + 1] - LEADING)
    for index in range(len(ordered)):
        least = baselines[index - 1] + LEADING if index else LEADING
        baselines[index] = max(baselines[index], least)
    written = []
    for level, baseline in zip(ordered, baselines, strict=True):
        width, height = text_width(level.label, SMALL), (baseline - SMALL, baseline + 3)
        at_start = _passing(paths, (x.start, x.start + 4 + width), height)
        at_end = _passing(paths, (x.end - 4 - width, x.end), height)
        side, position = ("start", x.start + 4) if at_start < at_end else ("end", x.end - 4)
        written.append(
            Markup('<text class="level-label {}" x="{:g}" y="{:g}">{}</text>').format(
                side, position, baseline, level.label
            )
        )
    return written


def _passing(paths: list[list[Point]], across: Point, down: Point) -> int:
    """Lines that pass through a box, from its left to its right and from its top to its bottom."""
    found = 0
    for path in paths:
        for (x0, y0), (x1, y1) in zip(path, path[1:] or path, strict=False):
            left, right = max(x0, across[0]), min(x1, across[1])
            if left > right:
                continue
            slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
            ends = sorted((y0 + slope * (left - x0), y0 + slope * (right - x0)))
            if ends[0] <= down[1] and ends[1] >= down[0]:
                found += 1
                break
    return found


def _grid(x: Axis, y: Axis, width: int, title: str) -> Markup:
    parts = []
    ticks = y.ticks(5)
    for tick, label in zip(ticks, _tick_labels(ticks), strict=True):
        parts.append(
            Markup('<path class="grid" d="M{} {}H{}"/><text class="tick y" x="{}" y="{}">{}</text>').format(
                x.start, y(tick), x.end, x.start - 7, y(tick) + 4, label
            )
        )
    parts += _x_labels(
        x, [(tick, short_count(tick)) for tick in x.ticks(4 if width < 500 else 7)], y.start + 17
    )
    axis = Markup('<path class="axis" d="M{} {}H{}"/>').format(x.start, y.start, x.end)
    name = Markup('<text class="title" x="{}" y="{}">{}</text>').format(x.end, y.start + 35, title)
    return Markup("").join(parts) + axis + name


def _x_grid(x: Axis, ticks: list[float], top: int, bottom: int) -> Markup:
    parts = [Markup('<path class="grid" d="M{} {}V{}"/>').format(x(tick), top, bottom) for tick in ticks]
    parts += _x_labels(x, [*zip(ticks, _tick_labels(ticks), strict=True)], bottom + 16)
    return Markup("").join(parts) + Markup('<path class="axis" d="M{} {}V{}"/>').format(x(0), top, bottom)


def _x_labels(x: Axis, ticks: list[tuple[float, str]], height: float) -> list[Markup]:
    """As many as there is room for."""
    shown = apart([x(tick) for tick, _ in ticks], [label for _, label in ticks], SMALL)
    return [
        Markup('<text class="tick x" x="{}" y="{}">{}</text>').format(x(tick), height, label)
        for (tick, label), fits in zip(ticks, shown, strict=True)
        if fits
    ]


def _tick_labels(ticks: list[float]) -> list[str]:
    if max((abs(tick) for tick in ticks), default=0) >= 10_000:
        return [short_count(tick).replace("-", "−") for tick in ticks]
    return [f"{tick:,g}".replace("-", "−") for tick in ticks]


def _svg(width: int, height: int, text: str, parts: list[Markup]) -> Markup:
    body = Markup("").join(parts)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, text, body
    )
