"""HTTP/3: many streams on one connection, and clients that abuse it or QUIC."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from aioquic.quic.connection import QuicConnection

from handle import wait_until
from http3 import Headers, configuration, connected
from load import Load
from secure import PORT
from stack import Stack


@pytest.fixture(scope="module")
def stack(secure: Stack) -> Stack:
    """The stack with HTTPS: its tests are no others."""
    if secure.haproxy_is_old():
        pytest.skip("HAProxy 2 has no QUIC")
    return secure


def head(path: str, method: str = "GET", **fields: str) -> Headers:
    """Return the fields of a request (a `_` is a `-`)."""
    pseudo = {":method": method, ":scheme": "https", ":authority": f"localhost:{PORT}", ":path": path}
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in (pseudo | fields).items()]


def test_two_hundred_streams_on_a_connection_starve_nobody(stack: Stack) -> None:
    async def held() -> None:
        async with connected("localhost", PORT) as protocol:
            streams = [protocol.begin(head("/asgi/events?interval_ms=1000")) for _ in range(200)]
            await protocol.until(lambda: all(b"data:" in protocol.bodies[stream] for stream in streams))
            for path in ("/asgi/json", "/wsgi/json", "/status"):
                fields, _ = await protocol.ask(head(path))
                assert dict(fields)[b":status"] == b"200"
            await protocol.until(lambda: all(protocol.bodies[stream].count(b"data:") > 4 for stream in streams))
            assert not protocol.closed

    asyncio.run(held())


def test_a_body_that_is_announced_too_large_gets_413(stack: Stack, service: str) -> None:
    async def asked() -> tuple[Headers, bytes]:
        async with connected("localhost", PORT) as protocol:
            fields = head(f"/{service}/echo", "POST", content_length="17000000")
            return await protocol.ask(fields, b"x", more=True)  # type: ignore[no-any-return]

    fields, body = asyncio.run(asked())
    assert dict(fields)[b":status"] == b"413"
    assert b"16 MiB" in body


def test_headers_that_fit_the_buffer_are_served_and_larger_ones_end_the_connection(stack: Stack, service: str) -> None:
    async def asked() -> None:
        async with connected("localhost", PORT) as protocol:
            fields, _ = await protocol.ask(head(f"/{service}/json", x_large="x" * 14_000))
            assert dict(fields)[b":status"] == b"200"
            protocol.begin(head(f"/{service}/json", x_large="x" * 20_000))
            await protocol.until(lambda: protocol.closed)

    asyncio.run(asked())


@pytest.mark.full
def test_a_stream_may_be_silent_for_longer_than_quic_allows_by_default(stack: Stack) -> None:
    async def silent() -> None:
        async with connected("localhost", PORT) as protocol:
            stream = protocol.begin(head("/asgi/events?interval_ms=40000"))
            await protocol.until(lambda: protocol.bodies[stream].count(b"data:") > 1)
            assert not protocol.closed

    asyncio.run(silent())


async def reset(most: int, *, heed: bool) -> int:
    """Take requests back at once, as many as are allowed or more; return how many before the connection was cut off."""
    async with connected("localhost", PORT) as protocol:
        for sent in range(most):
            if heed:
                await protocol.until(protocol.may_begin)
            if protocol.closed:
                return sent
            protocol.cancel(protocol.begin(head("/asgi/json")))
            await asyncio.sleep(0)
    return most


def test_rapid_reset_is_logged_and_costs_nobody_else_a_request(stack: Stack) -> None:
    """HAProxy 3.2 counts no resets here. But there is room for another request only once one has ended."""
    logged = len(stack.access_log())
    with Load(f"{stack.url}/asgi/json", clients=2) as asgi, Load(f"{stack.url}/wsgi/json", clients=2) as wsgi:
        assert asyncio.run(reset(5000, heed=True)) == 5000
    for load in (asgi, wsgi):
        assert not load.failures
    wait_until(lambda: sum(line["status"] == -1 for line in stack.access_log()[logged:]) > 1000, "it is logged")


def test_more_requests_than_are_allowed_cut_the_connection_off(stack: Stack) -> None:
    with Load(f"{stack.url}/asgi/json", clients=2) as asgi:
        assert asyncio.run(reset(1_000_000, heed=False)) < 1_000_000
    assert not asgi.failures


async def answered() -> bool:
    """Send a request; tell whether the client's address had to be proven first."""
    async with connected("localhost", PORT) as protocol:
        fields, _ = await protocol.ask(head("/asgi/json"))
        assert dict(fields)[b":status"] == b"200"
        return bool(protocol.proved_its_address)


@pytest.fixture
def unfinished() -> Iterator[list[socket.socket]]:
    """Sockets, closed at the end."""
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


def test_handshakes_that_are_not_finished_keep_nobody_out(stack: Stack, unfinished: list[socket.socket]) -> None:
    """Beyond tune.quic.frontend.retry-threshold HAProxy keeps no state of a client before its address is proven."""
    assert not asyncio.run(answered())
    with Load(f"{stack.url}/asgi/json", clients=2) as asgi:
        for _ in range(2000):
            quic = QuicConnection(configuration=configuration())
            quic.connect(("127.0.0.1", PORT), now=0)
            unfinished.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for datagram, address in quic.datagrams_to_send(now=0):
                unfinished[-1].sendto(datagram, address)
        assert asyncio.run(answered())
    assert not asgi.failures
