"""Requests a second as more clients ask at once, each again as soon as it is answered (closed loop)."""

from clients import Closed
from scenario import POINT, Scenario, Threshold, Users, Variant


class WsgiJson(Closed):
    """Asks the WSGI service for /json, again and again."""

    path = "/wsgi/json"


class AsgiJson(Closed):
    """Asks the ASGI service for /json, again and again."""

    path = "/asgi/json"


class WsgiPlaintext(Closed):
    """Asks the WSGI service for /plaintext, again and again."""

    path = "/wsgi/plaintext"


class AsgiPlaintext(Closed):
    """Asks the ASGI service for /plaintext, again and again."""

    path = "/asgi/plaintext"


SCENARIO = Scenario(
    place=1,
    question="How many requests a second are answered, as more clients ask at once?",
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
