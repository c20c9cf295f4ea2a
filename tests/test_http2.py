"""HTTP/2: many streams on one connection, slow readers among them, WebSockets, and clients that abuse it."""

import os
import ssl
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from hpack import Encoder

from handle import SERVICES, run, wait_until
from http2 import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    HTTP2,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WebSocket,
    connected,
    frame,
)
from journaled import Journaled
from ledger import Ledger
from load import Load
from secure import HTTPS, PORT
from stack import Stack


@pytest.fixture(scope="module")
def stack(secure: Stack) -> Stack:
    """The stack with HTTPS: its tests are no others."""
    return secure


@pytest.fixture
def connection(stack: Stack) -> Iterator[HTTP2]:
    """A connection of HTTP/2."""
    with HTTP2(PORT) as connection:
        yield connection


def test_two_hundred_streams_on_a_connection_starve_nobody(stack: Stack, connection: HTTP2) -> None:
    if stack.haproxy_is_old():
        pytest.skip("HAProxy 2 allows 100 streams on a connection")
    streams = [connection.ask("/asgi/events?interval_ms=1000") for _ in range(200)]
    connection.receive(lambda: all(b"data:" in connection.data[stream] for stream in streams))
    for path in ("/asgi/json", "/wsgi/json", "/status"):
        assert connection.get(path)[":status"] == "200"
    connection.receive(lambda: all(connection.data[stream].count(b"data:") > 4 for stream in streams))
    assert httpx.get(f"{stack.url}/asgi/json").status_code == 200


def test_slow_readers_hold_up_no_other_stream_of_their_connection(connection: HTTP2) -> None:
    """The client leaves their windows shut after the first 64 KB of a large body."""
    slow = [connection.ask("/asgi/openapi.json", slow=True) for _ in range(20)]
    slow += [connection.ask("/page/page.css", slow=True) for _ in range(20)]
    events = [connection.ask("/asgi/events?interval_ms=100") for _ in range(20)]
    connection.receive(lambda: all(connection.data[stream].count(b"data:") > 10 for stream in events), 5)
    for path in ("/asgi/json", "/wsgi/json"):
        assert connection.get(path)[":status"] == "200"


def test_headers_that_fit_the_buffer_are_served_and_larger_ones_end_the_connection(connection: HTTP2) -> None:
    stream = connection.ask("/asgi/json", ("x-large", "x" * 14_000))
    connection.receive(lambda: stream in connection.ended)
    assert connection.heads[stream][":status"] == "200"
    connection.ask("/asgi/json", ("x-large", "x" * 20_000))
    with pytest.raises(AssertionError, match="closed the connection"):
        connection.receive(lambda: False)


def test_a_websocket_works_over_http_2_beside_requests(connection: HTTP2) -> None:
    sockets = [WebSocket(connection, "/asgi/ws?interval_ms=60000") for _ in range(3)]
    for socket_ in sockets:
        assert connection.heads[socket_.stream][":status"] == "200"
        socket_.send(f"hello {socket_.stream}")
    for socket_ in sockets:
        assert any(f"hello {socket_.stream}" in socket_.message() for _ in range(3))
    assert connection.get("/wsgi/json")[":status"] == "200"


@contextmanager
def curl(url: str) -> Iterator[list[str]]:
    """GET the URL again and again on a connection by HTTP/2 (httpx takes every GOAWAY for an error); yield outcomes."""
    command = ("curl", "--silent", "--http2", "--cacert", os.environ["SSL_CERT_FILE"], "--output", os.devnull)
    said = ("--write-out", "%{http_version} %{http_code} %{errormsg}\\n")
    outcomes: list[str] = []
    with subprocess.Popen([*command, *said, f"{url}&n=[1-100000]"], stdout=subprocess.PIPE, text=True) as running:
        yield outcomes
        running.terminate()
        assert running.stdout
        outcomes += running.stdout.read().splitlines()[:-1]  # the last was ended here


def test_a_drain_a_kill_and_a_reload_cost_no_get_over_http_2(stack: Stack) -> None:
    with ExitStack() as running:
        urls = [f"{stack.url}/{service}/wait?seconds=0.01" for service in SERVICES for _ in range(3)]
        clients = [running.enter_context(curl(url)) for url in urls]
        drained, killed = zip(*(sorted(stack.instances(service))[:2] for service in SERVICES), strict=True)
        for replica in drained:
            stack.stop(replica)
            stack.start(replica)
        for replica in killed:
            stack.kill(stack.pids(replica)[0])
        stack.wait_whole()
        run("./scripts/reload")
        time.sleep(2)
    for outcomes in clients:
        assert len(outcomes) > 100
        assert set(outcomes) == {"2 200 "}, Counter(outcomes)


def test_a_frozen_replica_costs_no_get_on_a_quick_route_over_http_2(stack: Stack) -> None:
    with ExitStack() as running:
        clients = [
            running.enter_context(curl(f"{stack.url}/{service}/json?")) for service in SERVICES for _ in range(2)
        ]
        for service in SERVICES:
            running.enter_context(stack.frozen(min(stack.instances(service))))
        time.sleep(6)
    stack.wait_whole()
    for outcomes in clients:
        assert len(outcomes) > 100
        assert set(outcomes) == {"2 200 "}, Counter(outcomes)


def head() -> bytes:
    """Return the fields of a GET, compressed without a table, so that each may be sent again."""
    fields = {":method": "GET", ":scheme": "https", ":authority": f"localhost:{PORT}", ":path": "/asgi/json"}
    return bytes(Encoder().encode(list(fields.items())))


def reset(n: int) -> bytes:
    """Rapid reset (CVE-2023-44487): requests, each of which is taken back at once."""
    stream, fields = 2 * n + 1, END_STREAM | END_HEADERS
    return frame(HEADERS, fields, stream, head()) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


def continued(n: int, field: bytes = b"\x00\x01x\x01y") -> bytes:
    """Fields of a header that does not end (CVE-2024-27316 and others)."""
    return frame(CONTINUATION, 0, 1, field) if n else frame(HEADERS, END_STREAM, 1, head())


def continued_by_nothing(n: int) -> bytes:
    """Frames of a header that are empty, so that it grows no larger."""
    return continued(n, b"")


def windows(n: int) -> bytes:
    """Settings that shrink the streams' windows again and again."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535 - n % 100))


def settings(_n: int) -> bytes:
    """Settings without contents, each of which is to be acknowledged (CVE-2019-9515)."""
    return frame(SETTINGS, 0, 0)


def flood(frames: Callable[[int], bytes], seconds: float = 20) -> tuple[int, float]:
    """Send frames until the connection is cut off; return how many went out, and after how many seconds that was."""
    begin, sent, unsent = time.monotonic(), 0, PREFACE + frame(SETTINGS, 0, 0)
    with connected(PORT) as connection:
        connection.settimeout(0)
        while time.monotonic() < begin + seconds:
            try:
                unsent = unsent[connection.send(unsent) :]
                if not unsent:
                    unsent = b"".join(frames(sent + n) for n in range(50))
                    sent += 50
                while connection.recv(65536):
                    pass
                break
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError:
                break
        else:
            pytest.fail(f"still open after {seconds} s and {sent} frames")
    return sent, time.monotonic() - begin


@pytest.mark.parametrize("frames", [reset, continued, windows])
def test_a_flood_is_cut_off_and_logged_and_costs_nobody_else_a_request(
    stack: Stack, frames: Callable[[int], bytes]
) -> None:
    if stack.haproxy_is_old():
        pytest.skip("HAProxy 2 does not count what only attackers do")
    logged = len(stack.access_log())
    with Load(f"{stack.url}/asgi/json", clients=2) as asgi, Load(f"{stack.url}/wsgi/json", clients=2) as wsgi:
        floods = [flood(frames) for _ in range(10)]
    print(frames.__name__, floods)
    assert max(sent for sent, _ in floods) < 100_000
    for load in (asgi, wsgi):
        assert not load.failures
    wait_until(lambda: [line for line in stack.access_log()[logged:] if line["status"] in (-1, 0)], "it is logged")


@pytest.mark.parametrize("frames", [settings, continued_by_nothing])
def test_a_connection_that_never_gets_to_a_request_is_closed_and_costs_nobody_else_a_request(
    stack: Stack, frames: Callable[[int], bytes]
) -> None:
    with Load(f"{stack.url}/asgi/json", clients=2) as asgi, Load(f"{stack.url}/wsgi/json", clients=2) as wsgi:
        sent, after = flood(frames)
    print(f"{sent} frames in {after:.1f} s; beside them {asgi.outcomes['200']} and {wsgi.outcomes['200']} requests")
    for load in (asgi, wsgi):
        assert not load.failures


class Posts(Ledger):
    """POSTs on one connection of HTTP/2."""

    def __init__(self, url: str, rate: float) -> None:
        self._url = url
        super().__init__(url, rate, "POST")

    async def _run(self) -> None:
        async with httpx.AsyncClient(http2=True, timeout=40) as self._client:
            await super()._run()

    async def _ask(self, entry: str) -> str:
        try:
            answer = await self._client.post(self._url.replace("{id}", entry))
        except httpx.HTTPError as error:
            raise OSError from error
        assert answer.http_version == "HTTP/2"
        return str(answer.status_code)


def test_a_killed_replica_costs_only_its_posts_over_http_2_and_none_runs_twice(
    stack: Stack, any_journaled: Journaled
) -> None:
    with_https = HTTPS["COMPOSE_FILE"].replace("compose.yaml", "compose.yaml:tests/journal/compose.yaml", 1)
    any_journaled.start(**HTTPS | {"COMPOSE_FILE": with_https})
    for service in SERVICES:
        with Posts(f"{stack.url}/{service}/entry/{{id}}?seconds=0.02", 60) as posts:
            time.sleep(1)
            stack.kill(stack.pids(min(stack.instances(service)))[-1])
            time.sleep(2)
        stack.wait_whole()
        assert len(posts.acknowledged) > 100
        found = any_journaled.account(posts)
        assert not found.lost
        assert not found.doubled
        assert set(posts.failures) <= {"502", "OSError"}  # or nothing: HAProxy resets the stream
        assert sum(posts.failures.values()) <= 12
