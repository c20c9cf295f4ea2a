"""Event streams held, each event due on all at once: thousands on ASGI; on WSGI, one for each spare thread."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.event_streams import EventStream


class WsgiEvents(EventStream):
    """Holds an event stream on the WSGI service, which refuses more than it has spare threads."""

    path = "/wsgi/events"


class AsgiEvents(EventStream):
    """Holds an event stream on the ASGI service."""

    path = "/asgi/events"


SCENARIO = Scenario(
    place=9,
    question="How many event streams can be held, and how late do events come?",
    axis="event streams",
    points=(100, 300, 600),
    all_points=(100, 1000, 2000, 4000, 8000),
    variants={
        "WSGI": Variant((Users(WsgiEvents, POINT),), "wsgi", points=(6,)),  # three replicas with WSGI_STREAMS=2
        "ASGI": Variant((Users(AsgiEvents, POINT, interval_ms=5000),), "asgi"),
    },
    thresholds=(Threshold("failed", at_most=0), Threshold("lost", at_most=0)),
    seconds=(6, 10),
    series="SSE delivery",
    drawn="streams",
)
