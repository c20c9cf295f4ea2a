"""What makes a measurement void: signs that the generator, and not what it loads, was the limit.

The limits are those at which a generator was seen to distort what it measures. Arrivals that were sent and not
answered are no sign of it: they count as failures of what is loaded.
"""

from typing import TypedDict


class Generator(TypedDict):
    """How the generator fared while it measured."""

    cpu: float  # share of one core
    lag_p99_ms: float  # how late its loop woke up
    waited: float  # share of the time that it was ready to run and did not (/proc/self/schedstat); 0 where unknown
    offered: int  # arrivals that were due
    started: int  # arrivals that were sent
    late_p99_ms: float  # how much later than due
    wanted: int  # connections to be open before measuring
    open: int  # connections that were


CPU = 0.70
LAG_P99_MS = 20.0
WAITED = 0.05
DROPPED = 0.001
OPEN = 0.995


def broken(seen: Generator) -> list[str]:
    """Return a sentence for each gate that does not hold; an empty list where the measurement is valid."""
    dropped = 1 - seen["started"] / seen["offered"] if seen["offered"] else 0.0
    gates = (
        (seen["cpu"] < CPU, f"the generator used {seen['cpu']:.0%} of its core, {CPU:.0%} is the limit"),
        (
            seen["lag_p99_ms"] < LAG_P99_MS,
            f"its loop lagged by {seen['lag_p99_ms']:.0f} ms, {LAG_P99_MS:.0f} is the limit",
        ),
        (
            seen["waited"] < WAITED,
            f"it waited for its core {seen['waited']:.0%} of the time, {WAITED:.0%} is the limit",
        ),
        (dropped < DROPPED, f"it dropped {dropped:.1%} of the arrivals, {DROPPED:.1%} is the limit"),
        (
            seen["late_p99_ms"] < LAG_P99_MS,
            f"arrivals were {seen['late_p99_ms']:.0f} ms late, {LAG_P99_MS:.0f} is the limit",
        ),
        (seen["open"] >= OPEN * seen["wanted"], f"{seen['open']} of {seen['wanted']} connections were open"),
    )
    return [reason for holds, reason in gates if not holds]
