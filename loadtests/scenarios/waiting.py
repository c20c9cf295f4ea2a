"""Requests that wait, as for a database: WSGI runs out of threads, ASGI does not run out of coroutines.

There are three ways to wait on ASGI: in the loop, which holds nothing; in a thread of a pool of 40; and by blocking
the loop, which is the mistake to recognise.
"""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Closed


class WsgiWait(Closed):
    """Waits 0.1 s in a thread of gunicorn."""

    path = "/wsgi/wait?seconds=0.1"


class AsgiWait(Closed):
    """Waits 0.1 s in the event loop."""

    path = "/asgi/wait?seconds=0.1&mode=async"


class AsgiWaitInThread(Closed):
    """Waits 0.1 s in a thread of the ASGI application's pool."""

    path = "/asgi/wait?seconds=0.1&mode=thread"


class AsgiWaitBlocking(Closed):
    """Waits 0.1 s in a coroutine that blocks, so every other request of the replica waits too."""

    path = "/asgi/wait?seconds=0.1&mode=blocking"


SCENARIO = Scenario(
    place=3,
    question="How many requests that wait 0.1 s are answered a second, as concurrency grows?",
    axis="clients",
    points=(1, 64, 1000),
    all_points=(1, 4, 16, 64, 256, 1000),
    variants={
        "WSGI": Variant((Users(WsgiWait, POINT),), "wsgi"),
        "ASGI, async": Variant((Users(AsgiWait, POINT),), "asgi"),
        "ASGI, in threads": Variant((Users(AsgiWaitInThread, POINT),), "asgi"),
        "ASGI, blocking": Variant((Users(AsgiWaitBlocking, POINT),), "asgi", points=(1, 64)),
    },
    thresholds=(
        Threshold("failed", at_most=0, variant="ASGI, async"),
        Threshold("failed", at_most=0, point=64),
        Threshold("rate", at_least=3, variant="ASGI, async", point=64, times=("WSGI", 64)),
        Threshold("rate", at_most=0.5, variant="ASGI, blocking", point=64, times=("WSGI", 64)),
    ),
)
