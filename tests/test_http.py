"""What HTTP forbids is refused, and what it allows passes: the demonstrations, through HAProxy."""

import re
import socket
import time

import httpx
import pytest

from handle import wait_until
from stack import Stack
from test_contract import assert_problem


def exchange(stack: Stack, request: str, *, half_closed: bool = False, seconds: float = 5) -> tuple[str, bytes]:
    """Send a request that asks for the connection to be closed; return the head of the response and its body."""
    received, end = b"", time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", httpx.URL(stack.url).port or 0), timeout=seconds) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode("latin-1"))
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        while time.monotonic() < end and (piece := connection.recv(65536)):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def assert_refused(answer: tuple[str, bytes], status: int) -> None:
    """Check that HAProxy answered with problem details of this status."""
    head, body = answer
    assert re.match(rf"HTTP/1\.[01] {status} ", head), head
    assert "\r\ncontent-type: application/problem+json\r\n" in head.lower()
    assert f'"status":{status}'.encode() in body


@pytest.mark.parametrize("host", ["", "Host:\n", "Host: a b\n", "Host: a/b\n", "Host: me@a\n", "Host: a:b\n"])
def test_a_request_without_a_valid_host_gets_400(stack: Stack, service: str, host: str) -> None:
    answer = exchange(stack, f"GET /{service}/whoami HTTP/1.1\n{host}Connection: close\n\n")
    if stack.haproxy_is_old() and not host.strip("Host:\n "):
        assert answer[0].split()[1] == "400"
    else:
        assert_refused(answer, 400)


@pytest.mark.parametrize("host", ["a", "a.example:80", "127.0.0.1", "[::1]:8080", "xn--bcher-kva.example"])
def test_a_valid_host_is_the_one_in_the_applications_urls(stack: Stack, service: str, host: str) -> None:
    _, body = exchange(stack, f"GET /{service}/whoami HTTP/1.1\nHost: {host}\nConnection: close\n\n")
    assert f"http://{host.removesuffix(':80')}/{service}/whoami".encode() in body.replace(b":80/", b"/")


def test_http_1_0_needs_no_host_and_sees_no_replicas_address(stack: Stack, service: str) -> None:
    head, body = exchange(stack, f"GET /{service}/whoami HTTP/1.0\n\n")
    assert head.split()[1] == "200"
    assert re.search(rb'"url":"http://[0-9.]+:\d+/' + service.encode(), body.replace(b": ", b":"))
    assert not re.search(
        rb'"url":"http://[^/]*:80[01][0-9]?[0-9]?/', body.replace(b":8080/", b"/").replace(b": ", b":")
    )


def test_head_is_answered_wherever_get_is(client: httpx.Client, service: str) -> None:
    for path in ("whoami", "plaintext", "json", "wait?seconds=0", "work", "events"):
        got = client.head(f"/{service}/{path}")
        assert got.status_code == 200, path
        assert got.content == b""
    assert client.head("/asgi/json").headers["content-length"] == "27"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_trace_and_connect_are_refused(stack: Stack, service: str, method: str) -> None:
    head, body = exchange(stack, f"{method} /{service}/json HTTP/1.1\nHost: a\nConnection: close\n\n")
    assert head.split()[1] in ("400", "501")
    assert body.startswith(b"{") or stack.haproxy_is_old()


def test_options_of_everything_is_answered(stack: Stack) -> None:
    head, _ = exchange(stack, "OPTIONS * HTTP/1.1\nHost: a\nConnection: close\n\n")
    assert head.split()[1] == "200"
    assert "\r\nallow: GET, HEAD," in head


@pytest.mark.parametrize("kind", ["short", "slow", "posted"])
def test_a_client_that_has_ended_its_sending_gets_its_response(stack: Stack, service: str, kind: str) -> None:
    lines = {
        "short": f"GET /{service}/json HTTP/1.1\nHost: a\nConnection: close\n\n",
        "slow": f"GET /{service}/wait?seconds=1 HTTP/1.1\nHost: a\nConnection: close\n\n",
        "posted": f"POST /{service}/echo HTTP/1.1\nHost: a\nContent-Length: 2\nConnection: close\n\nhi",
    }
    head, body = exchange(stack, lines[kind], half_closed=True)
    assert head.startswith("HTTP/1.1 200 "), head
    assert body


def test_http_1_0_gets_no_chunks(stack: Stack, service: str) -> None:
    head, body = exchange(stack, f"GET /{service}/events?interval_ms=100 HTTP/1.0\nHost: a\n\n", seconds=1.5)
    assert head.split()[1] == "200"
    assert "transfer-encoding" not in head.lower()
    assert body.startswith((b"id: ", b"data: "))
    assert body.count(b"\n\n") >= 5


def test_upgrade_and_expect_mean_nothing_in_http_1_0(stack: Stack, service: str) -> None:
    handshake = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: {}==\n\n"
    head, _ = exchange(stack, f"GET /{service}/ws HTTP/1.0\nHost: a\n" + handshake.format("x" * 22), seconds=2)
    assert head.split()[1] in ("426", "501")
    expecting = f"POST /{service}/echo HTTP/1.0\nHost: a\nContent-Length: 2\nExpect: 100-continue\n\nhi"
    assert exchange(stack, expecting)[0].split()[1] == "200"


@pytest.mark.parametrize("value", ["a\x01b", "a\x7fb", "\x0b"])
def test_a_control_character_in_a_header_gets_400(stack: Stack, service: str, value: str) -> None:
    assert_refused(exchange(stack, f"GET /{service}/json HTTP/1.1\nHost: a\nX: {value}\nConnection: close\n\n"), 400)


@pytest.mark.parametrize("fields", [101, 500])
def test_too_many_header_fields_get_431(stack: Stack, service: str, fields: int) -> None:
    lines = "".join(f"X-{n}: a\n" for n in range(fields - 1))
    assert_refused(exchange(stack, f"GET /{service}/json HTTP/1.1\nHost: a\n{lines}Connection: close\n\n"), 431)


def test_100_header_fields_are_served(stack: Stack, service: str) -> None:
    lines = "".join(f"X-{n}: a\n" for n in range(98))
    head, _ = exchange(stack, f"GET /{service}/json HTTP/1.1\nHost: a\n{lines}Connection: close\n\n")
    assert head.split()[1] == "200"


def test_a_url_that_fits_no_buffer_gets_414(stack: Stack, service: str) -> None:
    answer = exchange(stack, f"GET /{service}/json?{'x' * 17_000} HTTP/1.1\nHost: a\nConnection: close\n\n")
    if stack.haproxy_is_old():
        assert answer[0].split()[1] == "400"
    else:
        assert_refused(answer, 414)


def test_what_haproxy_answers_itself_has_a_date(client: httpx.Client) -> None:
    for path in ("/", "/nothing", "/wsgi/livez", "/status"):
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", client.get(path).headers["date"])
    assert len(client.get("/asgi/json").headers.get_list("date")) == 1


def test_short_responses_to_clients_that_accept_streams_need_no_streams_slot(stack: Stack, service: str) -> None:
    """All slots for streams are in use, and clients such as MCP's accept streams on every route."""
    accept = {"Accept": "application/json, text/event-stream"}
    streams = 6 if service == "wsgi" else 0  # ASGI has 12,000
    with httpx.Client(base_url=f"{stack.url}/{service}", headers=accept, timeout=10) as client:
        opened = [client.stream("GET", "/events") for _ in range(streams)]
        try:
            assert [one.__enter__().status_code for one in opened] == [200] * streams
            for method in ("GET", "POST"):
                path = "/json" if method == "GET" else "/echo"
                assert {client.request(method, path).status_code for _ in range(20)} == {200}
            if streams:
                assert "WSGI_STREAMS" in str(assert_problem(client.get("/events"), 503)["detail"])
        finally:
            for one in opened:
                one.__exit__(None, None, None)


def test_openapi_says_that_errors_are_problem_details(client: httpx.Client) -> None:
    paths = client.get("/asgi/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert list(operation["responses"]["4XX"]["content"]) == ["application/problem+json"], (path, method)
            assert "422" not in operation["responses"]


def test_an_empty_last_event_id_is_none(client: httpx.Client, service: str) -> None:
    url = f"/{service}/events"
    wait_until(lambda: client.head(url, headers={"Last-Event-ID": ""}).status_code == 200, "a slot is free")


def test_both_logs_call_the_request_id_and_the_time_the_same(client: httpx.Client, stack: Stack) -> None:
    asked = client.post("/asgi/echo", content=b"x").headers["x-request-id"]
    told = wait_until(lambda: [one for one in stack.log_lines("asgi") if one.get("request_id") == asked], "it logs")
    (line,) = wait_until(lambda: [line for line in stack.access_log() if line["request_id"] == asked], "HAProxy logs")
    for logged in (line, told[0]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", logged["time"])
