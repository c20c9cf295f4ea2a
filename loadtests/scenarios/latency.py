"""Answer times at a rate: requests arrive at random, whatever the answers do (open loop, Poisson arrivals)."""

from clients import Open
from scenario import POINT, Scenario, Threshold, Users, Variant


class WsgiArrivals(Open):
    """Requests for the WSGI service's /json, as from a crowd."""

    path = "/wsgi/json"


class AsgiArrivals(Open):
    """Requests for the ASGI service's /json, as from a crowd."""

    path = "/asgi/json"


SCENARIO = Scenario(
    place=2,
    question="How long does an answer take, at so many requests a second?",
    axis="requests a second",
    points=(100, 400, 1000),
    all_points=(100, 200, 400, 700, 1000),
    variants={
        "WSGI": Variant((Users(WsgiArrivals, rate=POINT),), "wsgi"),
        "ASGI": Variant((Users(AsgiArrivals, rate=POINT),), "asgi"),
    },
    thresholds=(
        # Nothing is asked of the higher rates: where a slow machine is full, the figure tells.
        Threshold("failed", at_most=0, point=100),
        Threshold("failed", at_most=0, point=400),
        Threshold("p50", at_most=3, variant="ASGI", point=400, times=("ASGI", 100)),
        Threshold("p50", at_most=3, variant="WSGI", point=400, times=("WSGI", 100)),
    ),
    seconds=(2, 6),
    drawn="times",
)
