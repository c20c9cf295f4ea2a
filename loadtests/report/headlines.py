"""Sentences that say what a chart shows."""

import math
from typing import Any

from report.figures import Summary, middle, number


def headline(declared: dict[str, Any], summary: Summary) -> str:
    """Say in a sentence what a scenario's chart shows."""
    last = {variant: max(point for name, point in summary if name == variant) for variant, _ in summary}
    if declared["drawn"] == "price":
        last = {variant: point for variant, point in summary if point == middle(summary)}
    parts = []
    for variant, point in last.items():
        found = summary[variant, point]
        rate, p50, p99 = (number(found.judged(figure) or math.nan) for figure in ("rate", "p50", "p99"))
        failed = found.judged("failed") or 0.0
        lost = f"up to {number(100 * failed)} %" if failed else "0 %"  # in the worst repetition
        trouble = f", {lost} failed" if failed else ""
        if declared["drawn"] == "shares":
            parts.append(f"{variant}: {100 * (found.median('share') or 0):.0f} % to the slow replica, p99 {p99} ms")
        elif declared["drawn"] == "streams":
            parts.append(f"{variant}: {number(point)} held, p99 {p99} ms{trouble}")
        elif declared["drawn"] == "timeline":
            back = f", streams back in {number(outage)} ms (p99)" if (outage := found.median("outage")) else ""
            parts.append(f"{variant}: {lost} of the requests failed, p99 {p99} ms{back}")
        elif declared["drawn"] == "price":
            parts.append(f"{variant}: {number(found.median('cpu_us') or 0)} us, p50 {p50} ms")
        else:
            parts.append(f"{variant}: {rate} a second, p99 {p99} ms{trouble}")
    where = (
        ""
        if declared["drawn"] in ("timeline", "streams")
        else f" (at {', '.join(sorted({number(point) for point in last.values()}))} {declared['axis']})"
    )
    return "; ".join(parts) + where


def cost_headline(declared: dict[str, Any], summary: Summary) -> str:
    """Say what the chart of the tiers' CPU time shows."""
    return f"Where the CPU time of a request goes (at {number(middle(summary))} {declared['axis']})"
