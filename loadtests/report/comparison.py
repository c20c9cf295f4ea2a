"""Compares two runs (./scripts/load --compare A B)."""

import math

from report.figures import number
from report.results import Results

COMPARED = ("rate", "failed", "p50", "p99", "lost", "outage", "cpu_us")
ALIKE = ("partial", "size", "seed", "loaded", "generator_core", "machine", "software")  # conditions


def compare(first: Results, second: Results) -> str:
    """Return which conditions differ, and a table of the second run's medians with their ratio to the first's."""
    lines = []
    for name in ALIKE:
        one, other = first.conditions.get(name), second.conditions.get(name)
        if one != other:
            lines.append(f"{name} differs: {one or '-'} and {other or '-'}")
    lines.append(f"{'':58} {'first':>10} {'second':>10} {'ratio':>6}")
    for scenario in dict.fromkeys([*first.conditions["scenarios"], *second.conditions["scenarios"]]):
        before, after = (
            run.summary(scenario) if scenario in run.conditions["scenarios"] else {} for run in (first, second)
        )
        for where in dict.fromkeys([*before, *after]):
            for figure in COMPARED:
                ends = [run[where].range(figure) if where in run else None for run in (before, after)]
                medians = [run[where].median(figure) if where in run else None for run in (before, after)]
                if not any(medians):  # 0 or unknown in both
                    continue
                one, other = (math.nan if median is None else median for median in medians)
                name = f"{scenario}: {where[0]} at {where[1]:g}, {figure}"
                ratio = f"{other / one:6.2f}" if one else f"{'-':>6}"
                lines.append(f"{name:58} {number(one):>10} {number(other):>10} {ratio}{apart(*ends)}")
    return "\n".join(lines)


def apart(first: tuple[float, float] | None, second: tuple[float, float] | None) -> str:
    """Return a note if two ranges of repetitions do not overlap, or one is unknown."""
    if first is None or second is None:
        return f"  nothing valid in the {'first' if first is None else 'second'}"
    return "" if first[0] <= second[1] and second[0] <= first[1] else "  the ranges do not overlap"
