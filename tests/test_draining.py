"""A replica that is told to stop loses nothing: requests, event streams, WebSockets."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from websockets.sync.client import connect

from load import Load
from sse import stream
from stack import Stack, wait_until
from test_streams import closed_with


def test_stopping_a_replica_under_load_loses_nothing(stack: Stack, service: str) -> None:
    victim = min(stack.instances(service))
    base = f"{stack.url}/{service}"
    gets, waits = Load(f"{base}/json"), Load(f"{base}/wait?seconds=0.5")
    posts = Load(f"{base}/echo", method="POST", content=b"x" * 1000)
    with gets, waits, posts:
        wait_until(lambda: all(load.outcomes.total() > 20 for load in (gets, waits, posts)), "the load runs")
        stack.stop(victim)
        assert victim not in stack.instances(service)
    for load in (gets, waits, posts):
        assert not load.failures
    assert '"message": "Draining for' in stack.log(service)
    stack.start(victim)
    stack.wait_whole()


def test_at_a_drain_an_event_stream_ends_cleanly_and_resumes_elsewhere(stack: Stack, service: str) -> None:
    ids: list[int] = []
    with stream(f"{stack.url}/{service}/events?interval_ms=100") as events, ThreadPoolExecutor() as background:
        victim = next(events).data["instance"]
        stopped = background.submit(stack.stop, victim)
        # The iteration ends without an exception: the body was terminated, not cut.
        rest = list(events)
        ids += [event.id for event in rest if event.id is not None]
        assert rest[-1].retry is not None
        with stream(f"{stack.url}/{service}/events?interval_ms=100", ids[-1]) as resumed:
            for event in (next(resumed) for _ in range(20)):
                assert event.data["instance"] != victim
                assert event.id is not None
                ids.append(event.id)
        stopped.result()
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    stack.start(victim)
    stack.wait_whole()


def test_at_a_drain_websockets_are_closed_with_1012_and_come_back_elsewhere(stack: Stack) -> None:
    url = f"{stack.url.replace('http', 'ws')}/asgi/ws"
    with ExitStack() as opened, ThreadPoolExecutor() as background:
        sockets = [opened.enter_context(connect(url)) for _ in range(9)]
        serving = {socket: json.loads(socket.recv(timeout=15))["instance"] for socket in sockets}
        victim = min(serving.values())
        stopped = background.submit(stack.stop, victim)
        for socket in (socket for socket, instance in serving.items() if instance == victim):
            assert closed_with(socket) == 1012
            again = opened.enter_context(connect(url))
            assert json.loads(again.recv(timeout=15))["instance"] != victim
        stopped.result()
        for socket in (socket for socket, instance in serving.items() if instance != victim):
            assert json.loads(socket.recv(timeout=15))["type"] == "tick"
    assert "Traceback" not in stack.log("asgi")
    stack.start(victim)
    stack.wait_whole()
