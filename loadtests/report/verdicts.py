"""Judges thresholds."""

from dataclasses import dataclass

from report.figures import Summary
from runner.scenario import Threshold


@dataclass
class Verdict:
    """A threshold, what was measured, and whether that meets it: None if it cannot be judged."""

    scenario: str
    threshold: str
    measured: str
    met: bool | None


def concerns(threshold: Threshold, where: tuple[str, float]) -> bool:
    """Tell whether the threshold is about this variant at this point."""
    variant, point = where
    return threshold.variant in ("", variant) and threshold.point in (None, point)


def judge(scenario: str, threshold: Threshold, summary: Summary) -> Verdict:
    """Compare the worst figure that the threshold is about with its limit; if any of them is unknown, do not judge."""
    concerned = {where: found for where, found in summary.items() if concerns(threshold, where)}
    if threshold.times is None:
        judged = {where: found.judged(threshold.figure) for where, found in concerned.items()}
    else:
        variant, point = threshold.times  # a list if read from JSON
        base = summary.get((variant, point))
        judged = {where: found.ratio(threshold.figure, base) for where, found in concerned.items()}
    known = {where: value for where, value in judged.items() if value is not None}
    if not known or len(known) < len(judged):
        return Verdict(scenario, str(threshold), f"{len(known)} of {len(judged)} valid", None)
    pick = max if threshold.at_least is None else min
    (variant, point), worst = pick(known.items(), key=lambda item: item[1])
    met = worst <= threshold.at_most if threshold.at_most is not None else worst >= (threshold.at_least or 0)
    where = "" if threshold.variant and threshold.point is not None else f" ({variant} at {point:g})"
    return Verdict(scenario, str(threshold), f"{worst:.3g}{where}", met)
