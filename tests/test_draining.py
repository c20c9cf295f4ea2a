"""A draining replica loses nothing: no requests, event streams or WebSockets."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from handle import SERVICES, wait_until
from ledger import Ledger
from load import Load
from sse import Event, stream
from stack import Stack
from test_streams import closed_with

EITHER = {"Accept": "application/json, text/event-stream"}


@dataclass
class Drained:
    """What clients saw while one replica of each service drained."""

    loads: dict[str, list[Load]]
    ended: dict[str, list[Event]]  # the events of the replica's stream, until its end
    resumed: dict[str, list[Event]]  # the events after it resumed
    closed: list[int]  # the close codes of the replica's WebSockets
    closed_at: list[float]  # and the times, in seconds
    again: set[str]  # the replicas that served them after they reconnected
    others_echo: bool  # whether the WebSockets of other replicas stayed open
    victims: dict[str, str]
    left: dict[str, set[str]]
    logs: dict[str, str]


@pytest.fixture(scope="module")
def drained(stack: Stack) -> Drained:
    """Drain one replica of each service under load, with streams and WebSockets, and start it again."""
    sockets_url = f"{stack.url.replace('http', 'ws')}/asgi/ws"
    with ExitStack() as opened, ThreadPoolExecutor(40) as background:
        streams = {
            service: opened.enter_context(stream(f"{stack.url}/{service}/events?interval_ms=100"))
            for service in SERVICES
        }
        victims = {service: str(next(events).data["instance"]) for service, events in streams.items()}
        sockets = [opened.enter_context(connect(sockets_url)) for _ in range(30)]
        serving = {socket: json.loads(socket.recv(timeout=15))["instance"] for socket in sockets}
        loads = {service: [*loads_of(f"{stack.url}/{service}")] for service in SERVICES}
        every = [load for of_service in loads.values() for load in of_service]
        with ExitStack() as running:
            for load in every:
                running.enter_context(load)
            wait_until(lambda: all(load.outcomes.total() > 4 for load in every), "the load runs")
            stops = [background.submit(stack.stop, victim) for victim in victims.values()]

            def go_on(service: str) -> tuple[list[Event], list[Event]]:
                ended = list(streams[service])
                return ended, following(stack, service, ended)

            def come_back(socket: ClientConnection) -> tuple[int, float, str]:
                code, when = closed_with(socket), time.monotonic()
                with connect(sockets_url) as again:
                    return code, when, json.loads(again.recv(timeout=15))["instance"]

            gone_on = {service: background.submit(go_on, service) for service in SERVICES}
            hit = [
                background.submit(come_back, socket)
                for socket, instance in serving.items()
                if instance == victims["asgi"]
            ]
            ended, resumed = ({name: gone.result()[part] for name, gone in gone_on.items()} for part in (0, 1))
            back = [socket.result() for socket in hit]
            for stop in stops:
                stop.result()
        # After the load, which may keep one replica so busy that the other gets all requests.
        left = {service: stack.instances(service) for service in SERVICES}
        rest = [socket for socket, instance in serving.items() if instance != victims["asgi"]]
        others_echo = all(echoes(socket) for socket in rest)
        logs = {service: stack.log(service) for service in SERVICES}
        list(background.map(stack.start, victims.values()))
    stack.wait_whole()
    closed, closed_at, again = map(list, zip(*back, strict=True))
    return Drained(loads, ended, resumed, closed, closed_at, set(again), others_echo, victims, left, logs)


def echoes(socket: ClientConnection) -> bool:
    """Return whether the WebSocket still echoes, after the unread ticks."""
    socket.send("still there")
    return any(json.loads(message).get("data") == "still there" for message in socket)


def loads_of(base: str) -> tuple[Load, Load, Load]:
    """Return loads of quick GET, slow GET and POST."""
    return (
        Load(f"{base}/json", clients=2),
        Load(f"{base}/wait?seconds=0.5"),
        Load(f"{base}/echo", clients=2, method="POST", content=b"x" * 1000),
    )


def following(stack: Stack, service: str, ended: list[Event]) -> list[Event]:
    """Resume after the stream's last event and return the next twenty."""
    last = [event.id for event in ended if event.id is not None][-1]
    with stream(f"{stack.url}/{service}/events?interval_ms=100", last) as events:
        return [next(events) for _ in range(20)]


def test_stopping_a_replica_under_load_loses_nothing(drained: Drained, service: str) -> None:
    for load in drained.loads[service]:
        assert not load.failures
    assert drained.victims[service] not in drained.left[service]
    assert len(drained.left[service]) == 2
    assert '"message": "Draining for' in drained.logs[service]


def test_at_a_drain_an_event_stream_ends_cleanly_and_resumes_elsewhere(drained: Drained, service: str) -> None:
    """Cleanly: iterating raised no exception, so the body was terminated, not cut."""
    assert drained.ended[service][-1].retry is not None
    events = drained.ended[service] + drained.resumed[service]
    ids = [event.id for event in events if event.id is not None]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert {event.data["instance"] for event in drained.resumed[service]} <= drained.left[service]


def test_at_a_drain_websockets_are_closed_with_1012_and_come_back_elsewhere(drained: Drained) -> None:
    assert drained.closed
    assert set(drained.closed) == {1012}
    # The closes are spread over the second half of the drain, so that clients do not all reconnect at once. By chance,
    # ten would be this close together once in 20,000 times.
    assert max(drained.closed_at) - min(drained.closed_at) > 0.3
    assert drained.again <= drained.left["asgi"]
    assert drained.others_echo
    assert "Traceback" not in drained.logs["asgi"]


def test_a_slow_answer_that_might_have_been_a_stream_outlives_the_drain(stack: Stack) -> None:
    """Like MCP's, whose clients accept both. It goes to the streams' backend, which cuts a replica that is down."""
    wait_until(lambda: in_flight(stack) == {0}, "the streams of other tests are gone")
    with ThreadPoolExecutor(8) as background:
        answers = [
            background.submit(httpx.get, f"{stack.url}/{service}/wait?seconds=12", headers=EITHER, timeout=30)
            for service in SERVICES
            for _ in range(3)
        ]
        wait_until(lambda: in_flight(stack) == {1}, "each replica has one")
        victims = [next(iter(stack.instances(service))) for service in SERVICES]
        for stopped in [background.submit(stack.stop, victim) for victim in victims]:
            stopped.result()
        assert [answer.result().status_code for answer in answers] == [200] * 6
        list(background.map(stack.start, victims))
    stack.wait_whole()


@pytest.mark.full
def test_while_all_replicas_drain_they_still_serve(stack: Stack, service: str) -> None:
    """As with `docker compose restart`: none of them is ready, and there is no other."""
    with Ledger(f"{stack.url}/{service}/json", 20) as ledger, ThreadPoolExecutor() as background:
        stopped = background.submit(stack.stop_service, service)
        wait_until(lambda: stack.up_servers(service) == 0, "all of them drain")
        time.sleep(1)
        failures = dict(ledger.failures)
        stopped.result()
    stack.start_service(service)
    stack.wait_whole()
    assert not failures
    assert ledger.failures, "they ended at last"


def in_flight(stack: Stack) -> set[int]:
    """Return the replicas' numbers of requests in flight in the streams' backends."""
    rows = (row for row in stack.statistics() if row["pxname"].endswith("_streams") and row["status"].startswith("UP"))
    return {int(row["scur"]) for row in rows if row["svname"] != "BACKEND"}
