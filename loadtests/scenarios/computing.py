"""Requests that compute: neither interface makes a CPU faster."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Closed


class WsgiWork(Closed):
    """20,000 rounds of SHA-256 on the WSGI service."""

    path = "/wsgi/work?rounds=20000"


class AsgiWork(Closed):
    """20,000 rounds of SHA-256 on the ASGI service."""

    path = "/asgi/work?rounds=20000"


SCENARIO = Scenario(
    place=4,
    question="How many computing requests a second are answered, as concurrency grows?",
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
