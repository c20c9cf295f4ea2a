"""What a scenario declares: who sends what, at which points, and which thresholds hold.

./scripts/load reads a scenario's `SCENARIO` and measures each variant at each point in a process of its own. Locust's
own page offers those of its user classes that locustfile.py lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

POINT: Any = object()  # in a declaration: the point at which the variant is measured

Figure = Literal["rate", "failed", "p50", "p95", "p99", "cpu_us", "share", "lost"]
WORST = ("failed", "lost")  # figures judged by their worst repetition; the others by their median


class Users:
    """Users of a class: how many, and their attributes. `POINT` stands for the point."""

    def __init__(self, user: type, count: Any = 1, **attributes: Any) -> None:
        self.user, self.count, self.attributes = user, count, attributes

    def at(self, point: float) -> tuple[type, int, dict[str, Any]]:
        """Return the class, the number of users and their attributes at this point."""
        attributes = {name: point if value is POINT else value for name, value in self.attributes.items()}
        return self.user, int(point if self.count is POINT else self.count), attributes

    def described(self) -> dict[str, Any]:
        """Return what run.json keeps about them."""
        names = ("path", "rate", "interval_ms", "echo_seconds")
        own = {name: getattr(self.user, name) for name in names if hasattr(self.user, name)}
        described = {"user": self.user.__name__, "count": self.count} | own | self.attributes
        return {name: "the point" if value is POINT else value for name, value in described.items()}


@dataclass(frozen=True)
class Variant:
    """One line of a chart: these users, all at once."""

    users: tuple[Users, ...]
    service: Literal["wsgi", "asgi"]
    points: tuple[float, ...] = ()  # instead of the scenario's
    only_full: bool = False
    direct: bool = False  # past HAProxy
    balance: str = ""  # through an extra HAProxy with this algorithm


@dataclass(frozen=True)
class Threshold:
    """A limit for a figure: of one variant or of all, at one point or at all.

    The figures: `rate` (responses with 200 a second), `failed` (the share of failures, 0 to 1: of requests, or of
    what streams report), `p50`, `p95`, `p99` (ms), `cpu_us` (CPU time of the stack per request, us), `share` (the
    slowed replica's share of all requests, 0 to 1), `lost` (events that a stream skipped, except during a WebSocket's
    outage: ticks are not sent again).
    With `times` the limit is for the ratio to the figure of that variant at that point, in the same repetition.

    Raises ValueError unless exactly one of `at_most` and `at_least` is given.
    """

    figure: Figure
    at_most: float | None = None
    at_least: float | None = None
    variant: str = ""
    point: float | None = None
    times: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"a threshold of {self.figure} needs either at_most or at_least")

    def __str__(self) -> str:
        where = f" of {self.variant or 'every variant'}" + (f" at {self.point:g}" if self.point is not None else "")
        limit = f"at least {self.at_least:g}" if self.at_most is None else f"at most {self.at_most:g}"
        times = f" times that of {self.times[0]} at {self.times[1]:g}" if self.times else ""
        worst = ", in any repetition" if self.figure in WORST else ""
        return f"{self.figure}{where}: {limit}{times}{worst}"


@dataclass(frozen=True)
class Scenario:
    """A question, and how it is measured."""

    place: int  # in the order of a run and its report
    question: str
    axis: str  # what a point is, with its unit
    points: tuple[float, ...]
    all_points: tuple[float, ...]  # with --full
    variants: Mapping[str, Variant]
    thresholds: tuple[Threshold, ...] = ()
    seconds: tuple[float, float] = (1.5, 4)  # of measuring, without and with --full
    series: str = "GET"  # whose times are drawn: a prefix of request type and name
    drawn: Literal["sweep", "times", "streams", "timeline", "shares", "price"] = "sweep"
    needs: Literal["nothing", "stack", "containers"] = "nothing"  # what must be at hand: see targets/
    faults: Mapping[str, float] = field(default_factory=dict)  # `kill` and `drain`, and at which second
    slowed: bool = False  # one replica of the service gets a tenth of a CPU; needs containers
    cross_check: tuple[str, float] | None = None  # the variant and point that wrk measures too

    def __post_init__(self) -> None:
        """Raise ValueError if a threshold is about something that is never measured: it could never be missed."""
        for threshold in self.thresholds:
            for variant, point in ((threshold.variant, threshold.point), threshold.times or ("", None)):
                if variant and variant not in self.variants:
                    raise ValueError(f"{threshold}: there is no variant {variant}")
                of = [self.variants[variant]] if variant else self.variants.values()
                if point is not None and not any(point in (one.points or self.points + self.all_points) for one in of):
                    raise ValueError(f"{threshold}: {variant or 'nothing'} is not measured at {point:g}")
