"""Requests that compute: neither interface makes a processor faster."""

from clients import Closed
from scenario import POINT, Scenario, Threshold, Users, Variant


class WsgiWork(Closed):
    """Has the WSGI service compute 20,000 rounds of SHA-256."""

    path = "/wsgi/work?rounds=20000"


class AsgiWork(Closed):
    """Has the ASGI service compute 20,000 rounds of SHA-256."""

    path = "/asgi/work?rounds=20000"


SCENARIO = Scenario(
    place=4,
    question="How many requests that compute are answered a second, as more clients ask at once?",
    axis="clients",
    points=(1, 4, 16),
    all_points=(1, 2, 4, 8, 16),
    variants={
        "WSGI": Variant((Users(WsgiWork, POINT),), "wsgi"),
        "ASGI": Variant((Users(AsgiWork, POINT),), "asgi"),
    },
    thresholds=(
        Threshold("failed", at_most=0),
        Threshold("cpu_us", at_most=2, variant="WSGI", point=4, times=("ASGI", 4)),
        Threshold("cpu_us", at_least=0.5, variant="WSGI", point=4, times=("ASGI", 4)),
    ),
)
