"""Counts of times, three digits each, that can be added up: percentiles must never be averaged."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Self


class Histogram(Counter[float]):
    """How often each time came, rounded to three significant digits (an error of half a percent at most)."""

    def record(self, value: float) -> None:
        """Count `value`, in whatever unit, once."""
        self[round(value, 2 - math.floor(math.log10(value))) if value > 0 else 0.0] += 1

    def percentile(self, share: float) -> float:
        """Return the smallest value that `share` (0 to 1) of all do not exceed; NaN where there is none.

        The nearest-rank definition: no interpolation, so what is returned was seen.
        """
        rank = max(1, math.ceil(share * self.total()))
        for value in sorted(self):
            rank -= self[value]
            if rank <= 0:
                return value
        return math.nan

    def pairs(self) -> list[tuple[float, int]]:
        """Return values and counts, as they can be kept in JSON."""
        return sorted(self.items())

    @classmethod
    def merged(cls, many: Iterable[Iterable[tuple[float, int]]]) -> Self:
        """Add up what several `pairs()` have kept."""
        whole = cls()
        for pairs in many:
            for value, count in pairs:
                whole[value] += count
        return whole
