"""Short requests beside held streams: how much they slow each other down."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Open
from users.event_streams import EventStream
from users.websockets import WebSocket


class WsgiShort(Open):
    """Requests for the WSGI service's /json, 100 a second."""

    path = "/wsgi/json"
    rate = 100


class AsgiShort(Open):
    """Requests for the ASGI service's /json, 100 a second."""

    path = "/asgi/json"
    rate = 100


class WsgiHeld(EventStream):
    """An event stream that holds a thread meanwhile."""

    path = "/wsgi/events"


class AsgiHeld(WebSocket):
    """A WebSocket that is held meanwhile."""

    path = "/asgi/ws"
    interval_ms = 5000
    echo_seconds = 10.0


SCENARIO = Scenario(
    place=8,
    question="How long does a short request take, beside held streams?",
    axis="streams held",
    points=(0, 500),
    all_points=(0, 500, 4000),
    variants={
        "WSGI, event streams": Variant((Users(WsgiShort), Users(WsgiHeld, POINT)), "wsgi", points=(0, 6)),
        "ASGI, WebSockets": Variant((Users(AsgiShort), Users(AsgiHeld, POINT)), "asgi"),
    },
    thresholds=(
        Threshold("failed", at_most=0),
        Threshold("p50", at_most=2, variant="WSGI, event streams", point=6, times=("WSGI, event streams", 0)),
        Threshold("p50", at_most=2, variant="ASGI, WebSockets", point=500, times=("ASGI, WebSockets", 0)),
    ),
    seconds=(3, 10),
)
