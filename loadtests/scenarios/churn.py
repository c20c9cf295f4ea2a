"""Connections opened and closed at a steady rate: each request opens its own."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Open


class WsgiVisits(Open):
    """Requests for the WSGI service's /json, each on a new connection."""

    path = "/wsgi/json"
    keep_alive = False


class AsgiVisits(Open):
    """Requests for the ASGI service's /json, each on a new connection."""

    path = "/asgi/json"
    keep_alive = False


SCENARIO = Scenario(
    place=7,
    question="How long does a response take, at a rate of new connections?",
    axis="connections a second",
    points=(50, 200, 500),
    all_points=(50, 100, 200, 500),
    variants={
        "WSGI": Variant((Users(WsgiVisits, rate=POINT),), "wsgi"),
        "ASGI": Variant((Users(AsgiVisits, rate=POINT),), "asgi"),
    },
    thresholds=(Threshold("failed", at_most=0),),
    seconds=(2, 5),
    drawn="times",
)
