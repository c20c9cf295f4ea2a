"""Response times at a rate: requests arrive at random, whatever the responses do (open loop, Poisson arrivals)."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Open


class WsgiArrivals(Open):
    """Requests for the WSGI service's /json, as from many clients."""

    path = "/wsgi/json"


class AsgiArrivals(Open):
    """Requests for the ASGI service's /json, as from many clients."""

    path = "/asgi/json"


SCENARIO = Scenario(
    place=2,
    question="How long does a response take, at a rate of requests?",
    axis="requests a second",
    points=(100, 400, 1000),
    all_points=(100, 200, 400, 700, 1000),
    variants={
        "WSGI": Variant((Users(WsgiArrivals, rate=POINT),), "wsgi"),
        "ASGI": Variant((Users(AsgiArrivals, rate=POINT),), "asgi"),
    },
    thresholds=(
        # No thresholds at higher rates, which saturate a slow machine: the report shows it.
        Threshold("failed", at_most=0, point=100),
        Threshold("failed", at_most=0, point=400),
        Threshold("p50", at_most=3, variant="ASGI", point=400, times=("ASGI", 100)),
        Threshold("p50", at_most=3, variant="WSGI", point=400, times=("WSGI", 100)),
    ),
    seconds=(2, 6),
    drawn="times",
)
