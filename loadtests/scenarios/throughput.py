"""Requests a second as concurrency grows: each client sends its next request after a response (closed loop)."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Closed


class WsgiJson(Closed):
    """Requests for the WSGI service's /json."""

    path = "/wsgi/json"


class AsgiJson(Closed):
    """Requests for the ASGI service's /json."""

    path = "/asgi/json"


class WsgiPlaintext(Closed):
    """Requests for the WSGI service's /plaintext."""

    path = "/wsgi/plaintext"


class AsgiPlaintext(Closed):
    """Requests for the ASGI service's /plaintext."""

    path = "/asgi/plaintext"


SCENARIO = Scenario(
    place=1,
    question="How many requests a second are answered, as concurrency grows?",
    axis="clients",
    points=(1, 16, 256),
    all_points=(1, 4, 16, 64, 256),
    variants={
        "WSGI /json": Variant((Users(WsgiJson, POINT),), "wsgi"),
        "ASGI /json": Variant((Users(AsgiJson, POINT),), "asgi"),
        "WSGI /plaintext": Variant((Users(WsgiPlaintext, POINT),), "wsgi", only_full=True),
        "ASGI /plaintext": Variant((Users(AsgiPlaintext, POINT),), "asgi", only_full=True),
    },
    thresholds=(
        Threshold("failed", at_most=0),
        Threshold("rate", at_least=0.8, variant="WSGI /json", point=256, times=("WSGI /json", 16)),
        Threshold("rate", at_least=0.8, variant="ASGI /json", point=256, times=("ASGI /json", 16)),
    ),
    cross_check=("ASGI /json", 16),
)
