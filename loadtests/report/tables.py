"""The tables of the report."""

import html
from collections.abc import Iterator
from typing import Any

from report.figures import Figures, Summary, number

COLUMNS = {  # figures and their headings
    "rate": "a second",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "p99": "p99 ms",
    "failed": "failed %",
    "delivery": "events late p99 ms",
    "lost": "events lost",
    "disconnects": "disconnects",
    "reconnects": "reconnects",
    "outage": "outage p99 ms",
    "haproxy_us": "HAProxy us",
    "wsgi_us": "WSGI us",
    "asgi_us": "ASGI us",
    "generator_us": "generator us",
    "haproxy_kib": "HAProxy KiB",
    "wsgi_kib": "WSGI KiB",
    "asgi_kib": "ASGI KiB",
    "generator_kib": "generator KiB",
    "share": "slowed replica's share %",
}
PERCENT = ("failed", "share")


def escape(text: object) -> str:
    """Escape text for HTML."""
    return html.escape(str(text))


def rows(prefix: str, values: dict[str, Any]) -> Iterator[str]:
    """Yield a row for each value, nested ones included."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from rows(f"{prefix}{key} ", value)
        else:
            yield f"<tr><td>{escape(prefix + key)}<td>{escape('all' if value is None else value)}"


def table(declared: dict[str, Any], summary: Summary) -> Iterator[str]:
    """Yield the table of a scenario: medians, and below each its range."""
    shown = [name for name in COLUMNS if any(found.median(name) is not None for found in summary.values())]
    yield f"<div class=wide><table><tr><th>variant<th>{escape(declared['axis'])}" + "".join(
        f"<th>{COLUMNS[name]}" for name in shown
    )
    for (variant, point), found in summary.items():
        yield f"<tr><td>{escape(variant)}<td>{number(point)}" + "".join(f"<td>{value(found, name)}" for name in shown)
    yield "</table></div>"


def value(found: Figures, name: str) -> str:
    """Return the median of a figure with its range, or a dash."""
    median, spread = found.median(name), found.range(name)
    if median is None or spread is None:
        return "-"
    factor = 100 if name in PERCENT else 1
    low, high = (number(end * factor) for end in spread)
    return f"{number(median * factor)}<br><span class=quiet>{low} to {high}</span>"
