"""How numbers are written: as many digits as their interval allows, a true minus, thousands apart."""

import math
from datetime import UTC, datetime

NONE = "–"


def number(value: float, decimals: int) -> str:
    """`1,225` or `−0.066`; very large ones as `1.2e+30`."""
    if abs(value) >= 1e9:
        return f"{value:.2g}".replace("-", "−")
    text = f"{value:,.{decimals}f}"
    if not text.strip("-0.,"):
        text = text.removeprefix("-")  # no minus zero
    return text.replace("-", "−")


def decimals_for(value: float, low: float | None, high: float | None) -> int:
    """Digits after the point: two significant ones of half the interval, or four of a value without one."""
    scale = abs(value) / 100 if low is None or high is None else high / 2 - low / 2
    if scale <= 0:
        return 3
    return max(0, min(6, 1 - math.floor(math.log10(scale))))


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """`616 [476, 776]`."""
    decimals = decimals_for(value, low, high)
    if low is None or high is None:
        return number(value, decimals)
    return f"{number(value, decimals)} [{number(low, decimals)}, {number(high, decimals)}]"


def count(value: int) -> str:
    """`120,000`"""
    return f"{value:,}"


def short_count(value: float) -> str:
    """`120k`, for axes."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def moment(seconds: object) -> str:
    """`2026-11-22 17:52 UTC` of seconds since the epoch; a dash when they are none."""
    if isinstance(seconds, str):
        try:
            seconds = float(seconds)
        except ValueError:
            return NONE
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return NONE
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return NONE


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def in_words(value: int) -> str:
    """`four`, as far as runs can be counted."""
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    words += ["ten", "eleven", "twelve"]
    return words[value] if value < len(words) else str(value)
