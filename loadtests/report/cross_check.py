"""Compares Locust's rate with that of wrk, an independent generator."""

import statistics
from collections import defaultdict

from report.figures import Cell, number
from report.results import Results


def cross_check(results: Results) -> list[str]:
    """Return a sentence for each point that both have measured, and for each invalid measurement of wrk."""
    found: dict[tuple[str, str, float], list[Cell]] = defaultdict(list)
    for cell in results.cells:
        if cell["tool"] == "wrk":
            found[cell["scenario"], cell["variant"], cell["point"]].append(cell)
    lines = []
    for (scenario, variant, point), cells in found.items():
        for cell in cells:
            lines += [f"cross-check of {variant} at {point:g} is invalid: {reason}" for reason in cell["invalid"]]
        rates = [cell["rate"] for cell in cells if not cell["invalid"]]
        ours = results.summary(scenario).get((variant, point))  # none if the run was interrupted before it
        if rates and ours and (rate := ours.median("rate")):
            theirs = statistics.median(rates)
            lines.append(
                f"cross-check of {variant} at {point:g}: Locust {number(rate)} responses a second, "
                f"wrk {number(theirs)}, a difference of {100 * (theirs - rate) / theirs:+.0f} %"
            )
    return lines
