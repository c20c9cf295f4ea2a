"""Each promise that the stock servers weaken, on a server of ours and on a stock one: the table of docs/servers.md."""

import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection, socket
from typing import NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from handle import wait_until
from stack import status
from test_servers import start_server

OURS = {"WSGI_WORKER": "leader", "ASGI_PROTOCOL": "hardened"}
STOCK = {"WSGI_WORKER": "gthread", "ASGI_PROTOCOL": "httptools"}
HANDSHAKE = (
    b"GET /asgi/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Server(NamedTuple):
    """A server by itself, and whether it is the stock one."""

    port: int
    pid: int
    stock: bool


@contextmanager
def serving(service: str, *, stock: bool, **env: str) -> Iterator[Server]:
    """Run a server with the tests' foreign application for the time of a `with`."""
    settings = (STOCK if stock else OURS) | {f"{service.upper()}_APP": f"foreign.{service}:application"}
    process, url = start_server(service, **settings, DRAIN_SECONDS="0", **env)
    try:
        wait_until(lambda: status(f"{url}/livez") == 200, "it is up")
        yield Server(int(url.rpartition(":")[2]), process.pid, stock)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module", params=[False, True], ids=["ours", "stock"])
def wsgi(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving("wsgi", stock=request.param) as server:
        yield server


@pytest.fixture(scope="module", params=[False, True], ids=["ours", "stock"])
def asgi(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving("asgi", stock=request.param) as server:
        yield server


class Answer(NamedTuple):
    """What came back, and whether the server then closed the connection."""

    received: bytes
    closed: bool


def ask(port: int, path: str, headers: bytes = b"", seconds: float = 1, version: bytes = b"1.1") -> Answer:
    """Send a GET as it is and return what comes back until the end, or for so many seconds without any."""
    with create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(b"GET %b HTTP/%b\r\nHost: x\r\n%b\r\n" % (path.encode(), version, headers))
        return read(connection)


def read(connection: socket) -> Answer:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except TimeoutError:
        return Answer(received, closed=False)
    except ConnectionError:
        pass
    return Answer(received, closed=True)


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_a_process_that_dies_behind_the_head_has_sent_nothing(service: str, stock: bool) -> None:
    """An answer of which nothing was sent is what HAProxy asks another replica for."""
    with serving(service, stock=stock) as server:
        answer = ask(server.port, f"/{service}/dies" if service == "asgi" else "/dies", seconds=5)
    assert answer.closed
    assert answer.received.startswith(b"HTTP/1.1 200 ") if stock else not answer.received


@pytest.mark.parametrize("path", ["fails-late", "loses-its-database", "hollow"])
def test_a_wsgi_application_that_fails_behind_its_head_gets_500(wsgi: Server, path: str) -> None:
    answer = ask(wsgi.port, f"/{path}")
    assert answer.received.startswith(b"HTTP/1.1 200 " if wsgi.stock else b"HTTP/1.1 500 ")
    assert b"\r\n0\r\n" not in answer.received, "what is cut short is not ended as if it were whole"


@pytest.mark.parametrize("path", ["fails", "hollow"])
def test_an_asgi_application_that_fails_behind_its_head_gets_500(asgi: Server, path: str) -> None:
    answer = ask(asgi.port, f"/asgi/{path}")
    assert answer.received.startswith(b"HTTP/1.1 200 " if asgi.stock else b"HTTP/1.1 500 ")
    assert answer.closed


def test_http_1_0_gets_no_chunks_from_an_asgi_server(asgi: Server) -> None:
    answer = ask(asgi.port, "/asgi/x", version=b"1.0")
    assert answer.received.startswith(b"HTTP/1.1 200 ")
    assert (b"transfer-encoding: chunked" in answer.received) == asgi.stock
    assert answer.received.endswith(b"0\r\n\r\n" if asgi.stock else b"}")
    assert answer.closed


def test_a_204_leaves_an_asgi_connection_usable(asgi: Server) -> None:
    answer = ask(asgi.port, "/asgi/no-content")
    assert answer.received.startswith(b"HTTP/1.1 204 ")
    assert answer.received.endswith(b"\r\n\r\n")
    assert answer.closed == asgi.stock


def test_an_answer_that_begins_anew_has_one_length(wsgi: Server) -> None:
    lengths = re.findall(rb"Content-Length: (\d+)", ask(wsgi.port, "/begins-anew").received)
    assert lengths == ([b"2", b"5"] if wsgi.stock else [b"5"])


@pytest.mark.parametrize("path", ["/short", "/short-file"])
def test_an_answer_shorter_than_announced_ends_with_the_connection(wsgi: Server, path: str) -> None:
    assert ask(wsgi.port, path).closed == (not wsgi.stock)


def test_an_empty_file_of_unknown_length_ends_once(wsgi: Server) -> None:
    _, _, body = ask(wsgi.port, "/empty-file").received.partition(b"\r\n\r\n")
    assert body == b"0\r\n\r\n" * (2 if wsgi.stock else 1)


def test_an_upload_that_is_answered_early_is_read_to_its_end(wsgi: Server) -> None:
    with create_connection(("127.0.0.1", wsgi.port), timeout=5) as connection:
        connection.sendall(b"POST /refuses HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
        broken = False
        try:
            connection.sendall(bytes(8_000_000))
        except ConnectionError:
            broken = True
        assert broken == wsgi.stock
        connection.settimeout(1)
        assert broken or read(connection).received.endswith(b"\r\n\r\ntoo large")


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_a_draining_wsgi_server_answers_checks_while_something_is_in_flight(stock: bool) -> None:
    with serving("wsgi", stock=stock) as server, create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"GET /sleeps/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.5)
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.5)
        check = ask(server.port, "/readyz")
        assert check.received[:13] == (b"" if stock else b"HTTP/1.1 404 ")
        assert read(slow).received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.full
@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_a_wsgi_worker_whose_threads_all_hang_is_replaced(stock: bool) -> None:
    few = {"WSGI_MAXCONN": "1", "WSGI_STREAMS": "0"}  # 6 threads
    with serving("wsgi", stock=stock, GUNICORN_CMD_ARGS="--timeout 2 --graceful-timeout 1", **few) as server:
        url = f"http://127.0.0.1:{server.port}/livez"
        hung = [create_connection(("127.0.0.1", server.port)) for _ in range(6)]
        for connection in hung:
            connection.sendall(b"GET /sleeps/600 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.5)
        if stock:
            assert status(url) == 0
        else:
            wait_until(lambda: status(url) == 200, "it answers again", 15)
        for connection in hung:
            connection.close()


def test_a_trailer_of_an_asgi_request_is_no_header(asgi: Server) -> None:
    claims = b"2\r\nhi\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n"
    answer = ask(asgi.port, "/asgi/x", b"Transfer-Encoding: chunked\r\n\r\n" + claims)
    assert (b'"client": "6.6.6.6"' in answer.received) == asgi.stock


def test_a_websocket_message_in_too_many_fragments_is_refused(asgi: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "websockets.client")  # it tells of a reset that is expected
    refused = False
    with connect(f"ws://127.0.0.1:{asgi.port}/asgi/ws") as websocket:
        try:
            websocket.send("x" for _ in range(2000))
            assert websocket.recv(timeout=10) == "foreign"
        except ConnectionClosed:
            refused = True
    assert refused == (not asgi.stock)


def test_a_websocket_that_sends_pings_and_never_reads_is_read_no_further(asgi: Server) -> None:
    before = memory(asgi.pid)
    data = memoryview((b"\x89\xfd" + bytes(4) + bytes(125)) * 300_000)  # 39 MB
    with create_connection(("127.0.0.1", asgi.port), timeout=1) as connection:
        connection.sendall(HANDSHAKE)
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        with suppress(TimeoutError):  # nothing was read for a second
            while data:
                data = data[connection.send(data[:65536]) :]
        assert bool(data) == (not asgi.stock)
        assert (memory(asgi.pid) - before > 20_000) == asgi.stock


def memory(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
