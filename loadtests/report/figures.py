"""The figures of a measurement, and of the repetitions of one.

Their names: `rate` (a second), `failed` and `share` (0 to 1), `p50`, `p95`, `p99`, `delivery` and `outage` (ms),
`lost`, `disconnects`, `reconnects`, and for each tier `_us` (CPU time per request) and `_kib` (memory per connection).
"""

import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Self

from runner.scenario import WORST
from users.histogram import Histogram

Cell = dict[str, Any]  # a measurement, as cells.jsonl keeps it
Summary = dict[tuple[str, float], "Figures"]  # of a scenario: its variants at their points


@dataclass
class Figures:
    """The figures of one variant at one point: the value of each in every valid repetition."""

    values: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    invalid: list[str] = field(default_factory=list)  # the reasons, of each invalid repetition
    cells: list[Cell] = field(default_factory=list)

    def median(self, figure: str) -> float | None:
        """Return the median of the repetitions, or None if none is valid."""
        values = self.values.get(figure)
        return statistics.median(values.values()) if values else None

    def judged(self, figure: str) -> float | None:
        """Return what a threshold is compared with: the worst of `failed` and `lost`, the median of all else."""
        spread = self.range(figure)
        return spread[1] if spread and figure in WORST else self.median(figure)

    def range(self, figure: str) -> tuple[float, float] | None:
        """Return the lowest and the highest value."""
        values = self.values.get(figure)
        return (min(values.values()), max(values.values())) if values else None

    def ratio(self, figure: str, base: Self | None) -> float | None:
        """Return the median of the ratios to `base` within each repetition: the machine was equally fast for both."""
        ours, theirs = self.values.get(figure, {}), base.values.get(figure, {}) if base else {}
        ratios = [ours[repetition] / theirs[repetition] for repetition in ours.keys() & theirs if theirs[repetition]]
        return statistics.median(ratios) if ratios else None


def figures(cell: Cell, series: str) -> dict[str, float]:
    """Return the figures of a measurement; `series` is a prefix of those whose times and failures count."""
    times = merged(cell, series)
    kind = series.split()[0]
    failed = failures(cell, kind).total()
    unanswered = cell["generator"]["started"] - count(cell, "GET")
    found = {
        "rate": times.total() / cell["seconds"],
        # If nothing came at all, not even a failure, everything failed.
        "failed": (failed + unanswered) / (unanswered + count(cell, kind)) if times else 1.0,
        **{f"p{share}": times.percentile(share / 100) for share in (50, 95, 99)},
    }
    if outage := merged(cell, "SSE outage", "WS outage"):
        found["outage"] = outage.percentile(0.99)
    if delivery := merged(cell, "SSE delivery", "WS delivery"):
        found["delivery"] = delivery.percentile(0.99)
    if cell["generator"]["wanted"]:
        lost = failures(cell, "SSE lost", "WS lost")
        found["lost"] = sum(int(reason.split()[-1]) * many for reason, many in lost.items()) + cell["overdue"]
        found["disconnects"] = failures(cell, "SSE disconnect", "WS disconnect").total()
        found["reconnects"] = outage.total()
    if requests := count(cell, "GET"):
        for tier, used in cell.get("cpu", {}).items():
            found[f"{tier}_us"] = used / requests * 1e6
        if cell.get("cpu"):
            found["cpu_us"] = sum(cell["cpu"].values()) / requests * 1e6
        found["generator_us"] = cell["generator"]["cpu"] * cell["seconds"] / requests * 1e6
    if held := cell["generator"]["open"]:
        for tier, grown in cell.get("memory", {}).items():
            found[f"{tier}_kib"] = grown / held / 1024
        found["generator_kib"] = cell["generator_bytes"] / held / 1024
    if served := cell.get("served"):
        found["share"] = served.get(cell["slowed"], 0) / max(1, sum(served.values()))
    return found


def merged(cell: Cell, *series: str) -> Histogram:
    """Return the times of all series with one of these prefixes."""
    return Histogram.merged(seen["times"] for name, seen in cell["series"].items() if name.startswith(series))


def failures(cell: Cell, *series: str) -> Counter[str]:
    """Return the failures of all series with one of these prefixes, and how often each was seen."""
    return sum((Counter(seen["failed"]) for name, seen in cell["series"].items() if name.startswith(series)), Counter())


def count(cell: Cell, kind: str) -> int:
    """Return how many requests of this type were answered or failed."""
    return merged(cell, kind).total() + failures(cell, kind).total()


def middle(summary: Summary) -> float:
    """Return the middle point, for charts that show only one."""
    points = sorted({point for _, point in summary})
    return points[len(points) // 2]


def number(value: float) -> str:
    """Format a figure for reading: three digits, thousands separated; `-` for NaN."""
    if math.isnan(value):
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
