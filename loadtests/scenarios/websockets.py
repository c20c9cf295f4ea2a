"""WebSockets held: how late ticks come, what is cut off, how long a round trip takes, what one costs in memory."""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.websockets import WebSocket


class AsgiWebSocket(WebSocket):
    """Holds a WebSocket on the ASGI service: a tick every 5 s, an echo every 10 s."""

    path = "/asgi/ws"
    interval_ms = 5000
    echo_seconds = 10.0


SCENARIO = Scenario(
    place=10,
    question="How many WebSockets can be held, and how long does a round trip take meanwhile?",
    axis="WebSockets",
    points=(100, 500, 1000),
    all_points=(100, 1000, 2000, 4000, 8000),
    variants={"ASGI": Variant((Users(AsgiWebSocket, POINT),), "asgi")},
    thresholds=(Threshold("failed", at_most=0), Threshold("lost", at_most=0)),
    seconds=(6, 10),
    series="WS echo",
    drawn="streams",
)
