"""Histograms of times, three significant digits each. They can be added up; percentiles must never be averaged."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Self


class Histogram(Counter[float]):
    """How often each time was seen, rounded to three significant digits (an error of half a percent at most)."""

    def record(self, value: float) -> None:
        """Count `value`, in any unit, once."""
        self[round(value, 2 - math.floor(math.log10(value))) if value > 0 else 0.0] += 1

    def percentile(self, share: float) -> float:
        """Return the smallest value that at least `share` (0 to 1) of all values do not exceed; NaN if there is none.

        This is the nearest-rank definition: nothing is interpolated, so the result is a value that was seen.
        """
        rank = max(1, math.ceil(share * self.total()))
        for value in sorted(self):
            rank -= self[value]
            if rank <= 0:
                return value
        return math.nan

    def pairs(self) -> list[tuple[float, int]]:
        """Return values and counts, ready for JSON."""
        return sorted(self.items())

    @classmethod
    def merged(cls, many: Iterable[Iterable[tuple[float, int]]]) -> Self:
        """Add up the `pairs()` of several histograms."""
        whole = cls()
        for pairs in many:
            for value, count in pairs:
                whole[value] += count
        return whole
