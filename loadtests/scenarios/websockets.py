"""WebSockets held: who is served late, who is cut off, what a round trip takes, and what one costs in memory."""

from scenario import POINT, Scenario, Threshold, Users, Variant
from streams import WebSocket


class AsgiWebSocket(WebSocket):
    """Holds a WebSocket on the ASGI service: a tick every 5 s, an echo every 10 s."""

    path = "/asgi/ws"
    interval_ms = 5000
    echo_seconds = 10.0


SCENARIO = Scenario(
    place=10,
    question="How many WebSockets are held, and how long does a round trip take meanwhile?",
    axis="WebSockets",
    points=(100, 500, 1000),
    all_points=(100, 1000, 2000, 4000, 8000),
    variants={"ASGI": Variant((Users(AsgiWebSocket, POINT),), "asgi")},
    thresholds=(Threshold("failed", at_most=0), Threshold("lost", at_most=0)),
    seconds=(6, 10),
    series="WS echo",
    drawn="streams",
)
