"""Where an axis begins and ends, and its round ticks."""

import math
from dataclasses import dataclass

LARGEST = 1e100
"""Beyond it a difference of two values could overflow."""


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` onto lengths from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: list[float], start: float, end: float) -> "Axis":
        """An axis that holds all the values, and a little more where they are all equal."""
        bounded = [max(-LARGEST, min(LARGEST, value)) for value in values] or [0.0]
        low, high = min(bounded), max(bounded)
        if high - low <= 1e-9 * max(abs(low), abs(high)) or high - low < 1e-200:
            margin = max(abs(low) / 2, 0.5)
            low, high = low - margin, high + margin
        return cls(low, high, start, end)

    def __call__(self, value: float) -> float:
        """Where a value is on it, rounded to a tenth; what lies beyond an end is drawn at that end."""
        share = (max(-LARGEST, min(LARGEST, value)) - self.low) / (self.high - self.low)
        return round(self.start + max(0.0, min(1.0, share)) * (self.end - self.start), 1) + 0.0

    def ticks(self, about: int) -> list[float]:
        """Up to about + 2 multiples of 1, 2 or 5 times a power of ten, on the axis."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        # Very far from zero, neighbouring multiples round to one number.
        return sorted(
            {float(f"{multiple * step:.12g}") for multiple in range(first, min(last, first + 99) + 1)}
        )

    def widened(self, below: float, above: float) -> "Axis":
        """The same with these shares of its length added at its ends."""
        length = self.high - self.low
        return Axis(self.low - below * length, self.high + above * length, self.start, self.end)
