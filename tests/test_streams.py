"""Server-Sent Events on both services and WebSocket on ASGI, through HAProxy."""

import json
import logging
import re
import statistics
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from socket import SHUT_WR, SO_LINGER, SOL_SOCKET, create_connection

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from handle import wait_until
from sse import Event, stream
from stack import Stack
from test_contract import assert_problem

WSGI_PLACES = 3 * 2  # replicas x WSGI_STREAMS


def test_events_come_at_their_time_and_not_200_ms_later(stack: Stack, service: str) -> None:
    late = []
    with stream(f"{stack.url}/{service}/events?interval_ms=100") as events:
        first = next(events)
        assert first.id is not None
        for n, event in zip(range(first.id + 1, first.id + 21), events, strict=False):
            assert event.id == event.data["n"] == n
            late.append(event.received - n * 0.1)
    # Half of the cost of a delayed acknowledgement. The median, because the test is not about noise.
    assert statistics.median(late) < 0.1


def test_a_stream_resumes_on_another_replica_with_no_event_lost_or_repeated(stack: Stack, service: str) -> None:
    ids: list[int] = []
    instances = set()
    last = None
    for _ in range(30):
        with stream(f"{stack.url}/{service}/events?interval_ms=100", last) as events:
            for _ in range(3):
                event = next(events)
                assert event.id is not None
                ids.append(event.id)
                instances.add(event.data["instance"])
        last = ids[-1]
        if len(instances) == 3:
            break
    assert len(instances) > 1
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_what_was_missed_is_replayed_up_to_a_thousand_events(stack: Stack, service: str) -> None:
    now = int(time.time() * 10)
    with stream(f"{stack.url}/{service}/events?interval_ms=100", now - 900) as events:
        assert [next(events).id for _ in range(900)] == list(range(now - 899, now + 1))


def test_what_is_older_gets_a_gap_that_says_from_where(stack: Stack, service: str) -> None:
    now = int(time.time() * 10)
    with stream(f"{stack.url}/{service}/events?interval_ms=100", now - 5000) as events:
        gap = next(events)
        assert gap.name == "gap"
        assert gap.data["from"] == now - 4999
        assert abs(gap.data["to"] - (now - 1000)) < 20
        assert next(events).id == gap.data["to"] + 1


@pytest.mark.parametrize("last", ["abc", "-1", "1.5", "+5", "1_0", "9" * 30, str(int(time.time()) * 2), "٣"])
def test_a_last_event_id_that_is_none_gets_422(client: httpx.Client, service: str, last: str) -> None:
    answer = client.get(f"/{service}/events", headers={b"Last-Event-ID": last.encode()})
    assert assert_problem(answer, 422)["field"] == "Last-Event-ID"


def test_one_wsgi_stream_more_than_its_limit_gets_503_and_the_rest_goes_on(client: httpx.Client, stack: Stack) -> None:
    url = f"{stack.url}/wsgi/events?interval_ms=60000"
    quiet = [median_seconds(client)]
    with ExitStack() as held:
        for n in range(WSGI_PLACES):
            wait_until(lambda: client.head("/wsgi/events").status_code == 200, "a slot is free")
            accept = "text/event-stream" if n % 2 else "*/*"
            assert next(held.enter_context(stream(url, accept=accept))).id is not None
        beside = median_seconds(client)
        for path in ("events", "%65vents", "events?x=/", "events;x"):
            answer = client.get(f"/wsgi/{path}")
            if path == "events;x":
                assert_problem(answer, 404)
            else:
                assert_problem(answer, 503)
                assert int(answer.headers["retry-after"]) > 0
        for _ in range(100):
            assert client.get("/wsgi/json").status_code == 200
        assert stack.up_servers("wsgi") == 3
    quiet.append(median_seconds(client))
    assert beside < 3 * max(quiet) + 0.05, "short requests wait behind streams"
    # Each slot is free again after its client disconnects.
    wait_until(lambda: client.head("/wsgi/events").status_code == 200, "a slot is free")


def median_seconds(client: httpx.Client) -> float:
    """Return the time that a short request takes."""
    return statistics.median(client.get("/wsgi/json").elapsed.total_seconds() for _ in range(50))


@pytest.mark.parametrize("service", ["wsgi", pytest.param("asgi", marks=pytest.mark.full)])  # every second; every 15 s
def test_a_stream_without_events_sends_comments(stack: Stack, service: str) -> None:
    with ExitStack() as held:
        url = f"{stack.url}/{service}/events?interval_ms=60000"
        events = wait_until(lambda: opened(held, url), "a slot is free")
        seen = list(islice(events, 3))  # the first event, and the next if a new minute begins meanwhile
        assert any(event.comment and event.id is None for event in seen)


@pytest.mark.full
def test_streams_that_are_opened_and_left_at_once_take_no_place_for_long(client: httpx.Client, stack: Stack) -> None:
    with ThreadPoolExecutor(8) as pool:  # more than there are slots for: some disconnect while they queue
        for left in [pool.submit(open_and_leave, httpx.URL(stack.url).port or 0, n) for n in range(400)]:
            left.result()
    for _ in range(50):
        assert client.get("/wsgi/json").status_code == 200
    assert stack.up_servers("wsgi") == 3
    with ExitStack() as held:
        for _ in range(WSGI_PLACES):
            wait_until(lambda: opened(held, f"{stack.url}/wsgi/events"), "every slot is free again")


def test_an_event_stream_whose_client_has_left_ends_at_once(stack: Stack) -> None:
    """On ASGI, where nothing is written for 15 s. On WSGI the thread is held until the next write."""
    if stack.haproxy_is_old():
        pytest.skip("HAProxy 2 notices it at the replica's next write")
    with ExitStack() as held:
        for _ in range(10):
            assert opened(held, f"{stack.url}/asgi/events?interval_ms=60000")
        assert sessions(stack, "asgi_streams") >= 10
    wait_until(lambda: sessions(stack, "asgi_streams") == 0, "nothing is held for clients that have left", 5)


def sessions(stack: Stack, backend: str) -> int:
    """Return the number of HAProxy's open sessions with a backend."""
    return next(
        int(row["scur"]) for row in stack.statistics() if (row["pxname"], row["svname"]) == (backend, "BACKEND")
    )


def open_and_leave(port: int, n: int) -> None:
    """Open the nth event stream and disconnect, in one of the ways and at one of the times that clients do."""
    with create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET /wsgi/events?interval_ms=%d HTTP/1.1\r\nHost: x\r\n\r\n" % (100, 1000, 60000)[n % 3])
        time.sleep((0, 0.001, 0.005, 0.02, 0.1, 1)[n // 3 % 6])
        if n % 5 == 0:
            client.recv(100)
        elif n % 5 == 1:
            client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # disconnect with a reset
        elif n % 5 == 2:
            client.shutdown(SHUT_WR)
            time.sleep((0, 0.01, 1)[n // 5 % 3])


def opened(held: ExitStack, url: str) -> Iterator[Event] | None:
    """Open one more event stream, and return its events if a slot was free."""
    try:
        return held.enter_context(stream(url))
    except AssertionError:
        return None


def test_streams_that_are_left_while_they_replay_leave_no_traceback(stack: Stack, service: str) -> None:
    for missed in (300, 900) * 10:
        last = int(time.time() * 10) - missed
        try:
            with stream(f"{stack.url}/{service}/events?interval_ms=100", last) as events:
                next(events)
        except AssertionError:
            pass  # no free slot on the WSGI side yet
    time.sleep(1)
    assert "Traceback" not in stack.log(service)


def test_head_of_a_stream_holds_nothing(client: httpx.Client) -> None:
    for _ in range(2 * WSGI_PLACES):
        wait_until(lambda: client.head("/wsgi/events").status_code == 200, "a slot is free")
    assert client.get("/wsgi/json").status_code == 200


def test_websocket_echoes_and_ticks_at_the_clocks_numbers(stack: Stack) -> None:
    with connect(f"{stack.url.replace('http', 'ws')}/asgi/ws?interval_ms=100") as socket:
        socket.send("hello")
        messages = [json.loads(socket.recv(timeout=15)) for _ in range(10)]
    assert {"type": "echo", "data": "hello"} in messages
    ticks = [message["n"] for message in messages if message["type"] == "tick"]
    assert len(ticks) == 9
    assert ticks == list(range(ticks[0], ticks[0] + 9))
    assert abs(ticks[0] - time.time() * 10) < 100


@pytest.mark.parametrize("interval", ["99", "60001", "abc", ""])
def test_a_websocket_with_a_bad_interval_is_refused_with_422(stack: Stack, interval: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{stack.url.replace('http', 'ws')}/asgi/ws?interval_ms={interval}")
    assert refused.value.response.status_code == 422
    assert json.loads(refused.value.response.body or b"")["field"] == "interval_ms"


def test_a_websocket_message_over_1_mib_closes_with_1009(stack: Stack) -> None:
    with connect(f"{stack.url.replace('http', 'ws')}/asgi/ws", max_size=None) as socket:
        with suppress(ConnectionClosed):  # as soon as the length is read
            socket.send("x" * (1024 * 1024 + 1))
        assert closed_with(socket) in (1009, 1006)  # 1006: the reset overtook the close frame


def test_a_websocket_that_sends_bytes_is_closed_with_1003(stack: Stack) -> None:
    with connect(f"{stack.url.replace('http', 'ws')}/asgi/ws") as socket:
        socket.send(b"\xff\xfe")
        assert closed_with(socket) == 1003
    assert "Traceback" not in stack.log("asgi")


def test_a_websocket_message_in_too_many_fragments_closes_with_1009(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "websockets.client")  # it logs an expected reset
    with connect(f"{stack.url.replace('http', 'ws')}/asgi/ws") as socket:
        with suppress(ConnectionClosed):
            socket.send("x" for _ in range(2000))
        with pytest.raises(ConnectionClosed) as closed:
            wait_until(lambda: "echo" in socket.recv(timeout=15), "it is taken")
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009  # None: the reset overtook it


def test_a_websocket_that_sends_pings_and_never_reads_fills_no_memory(stack: Stack) -> None:
    data = memoryview((b"\x89\xfd" + bytes(4) + bytes(125)) * 500_000)  # each needs a pong
    address, before = httpx.URL(stack.url), memory_of_asgi(stack)
    with create_connection((address.host, address.port or 0), timeout=0.5) as connection:
        connection.sendall(
            b"GET /asgi/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        end = time.monotonic() + 5
        with suppress(ConnectionError):
            while data and time.monotonic() < end:
                with suppress(TimeoutError):
                    data = data[connection.send(data[:65536]) :]
        assert memory_of_asgi(stack) - before < 20_000


def memory_of_asgi(stack: Stack) -> int:
    """Return the memory of all ASGI replicas in KiB."""
    return sum(one.memory for name, one in stack.processes().items() if re.search(r"\basgi-\d", name))


def closed_with(socket: ClientConnection) -> int:
    """Read until the other side closes, and return its close code, or 1006 if it sent none."""
    try:
        while True:
            socket.recv(timeout=15)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
