"""What makes a measurement invalid: signs that the generator, not its target, was the limit.

The limits are those at which a generator was seen to distort its measurements. Requests that were sent and not answered
are no such sign: they count as failures of the target.
"""

from typing import TypedDict


class Health(TypedDict):
    """How the generator fared while it measured."""

    cpu: float  # share of one core
    lag_p99_ms: float  # how late its event loop woke up
    waited: float  # share of the time that it was runnable without a core (/proc/self/schedstat); 0 if unknown
    offered: int  # arrivals that were due
    started: int  # arrivals that were sent
    late_p99_ms: float  # how late they were sent
    wanted: int  # connections to be open before measuring
    open: int  # connections that were open


CPU = 0.70
LAG_P99_MS = 20.0
WAITED = 0.05
DROPPED = 0.001
OPEN = 0.995


def broken(health: Health) -> list[str]:
    """Return a sentence for each gate that does not hold; none if the measurement is valid."""
    dropped = 1 - health["started"] / health["offered"] if health["offered"] else 0.0
    gates = (
        (health["cpu"] < CPU, f"the generator used {health['cpu']:.0%} of its core, {CPU:.0%} is the limit"),
        (
            health["lag_p99_ms"] < LAG_P99_MS,
            f"the generator's event loop lagged by {health['lag_p99_ms']:.0f} ms, {LAG_P99_MS:.0f} is the limit",
        ),
        (
            health["waited"] < WAITED,
            f"the generator waited for its core {health['waited']:.0%} of the time, {WAITED:.0%} is the limit",
        ),
        (dropped < DROPPED, f"the generator dropped {dropped:.1%} of the arrivals, {DROPPED:.1%} is the limit"),
        (
            health["late_p99_ms"] < LAG_P99_MS,
            f"the generator sent arrivals {health['late_p99_ms']:.0f} ms late, {LAG_P99_MS:.0f} is the limit",
        ),
        (health["open"] >= OPEN * health["wanted"], f"{health['open']} of {health['wanted']} connections were open"),
    )
    return [reason for holds, reason in gates if not holds]
