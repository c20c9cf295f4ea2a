"""A replica is killed, another drained, under requests and streams: what clients notice."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Open
from users.event_streams import EventStream
from users.websockets import WebSocket


class WsgiRequests(Open):
    """Requests for the WSGI service's /json."""

    path = "/wsgi/json"
    rate = 100


class AsgiRequests(Open):
    """Requests for the ASGI service's /json."""

    path = "/asgi/json"
    rate = 100


class WsgiStream(EventStream):
    """An event stream on the WSGI service."""

    path = "/wsgi/events"


class AsgiStream(EventStream):
    """An event stream on the ASGI service."""

    path = "/asgi/events"


class AsgiSocket(WebSocket):
    """A WebSocket on the ASGI service."""

    path = "/asgi/ws"


SCENARIO = Scenario(
    place=11,
    question="What do clients notice when one replica is killed and another drained?",
    axis="requests a second",
    points=(100,),
    all_points=(100,),
    variants={
        "WSGI": Variant((Users(WsgiRequests, rate=POINT), Users(WsgiStream, 3)), "wsgi"),
        "ASGI": Variant((Users(AsgiRequests, rate=POINT), Users(AsgiStream, 50), Users(AsgiSocket, 150)), "asgi"),
    },
    thresholds=(Threshold("failed", at_most=0), Threshold("lost", at_most=0)),
    seconds=(12, 24),
    drawn="timeline",
    needs="stack",
    faults={"kill": 1.5, "drain": 5},
)
