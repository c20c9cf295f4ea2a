"""What HAProxy admits and what it answers itself. Nothing malformed reaches or ends a replica."""

import re
import socket
from urllib.parse import quote

import httpx
import pytest

from handle import SERVICES, wait_until
from load import Load
from stack import Stack
from test_contract import assert_problem


@pytest.fixture(scope="module", autouse=True)
def started(stack: Stack) -> dict[str, list[int]]:
    """Return the processes of every replica before these tests."""
    return {name: stack.pids(name) for service in SERVICES for name in stack.instances(service)}


def raw(stack: Stack, request: bytes) -> bytes:
    """Send raw bytes and return everything received until the connection closes or pauses."""
    with socket.create_connection(("127.0.0.1", httpx.URL(stack.url).port or 0), timeout=15) as connection:
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        return received


def test_the_front_page_says_what_is_where(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'href="(/[^"]*)"', page.text)
    assert len(links) > 10
    for link in links:
        if not link.endswith("/events"):
            assert client.get(link).status_code in (200, 501), link


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/status"])
def test_the_front_page_is_only_to_be_read(client: httpx.Client, path: str) -> None:
    assert client.head(path).status_code == 200
    for method in ("PUT", "POST", "DELETE"):
        answer = client.request(method, path)
        assert_problem(answer, 405)
        assert answer.headers["allow"] == "GET, HEAD"


def test_a_service_without_slash_is_redirected_to_it(client: httpx.Client, service: str) -> None:
    answer = client.get(f"/{service}")
    assert (answer.status_code, answer.headers["location"]) == (308, f"/{service}/")
    assert client.get(f"/{service}?a=1&b=%26").headers["location"] == f"/{service}/?a=1&b=%26"


@pytest.mark.parametrize("path", ["/nothing", "/wsgix", "/WSGI/json", "/%77sgi/json", "//wsgi/json", "/favicon.ico"])
def test_a_path_of_no_service_gets_404(client: httpx.Client, path: str) -> None:
    assert_problem(client.get(client.base_url.copy_with(raw_path=path.encode())), 404)


@pytest.mark.parametrize("path", ["livez", "readyz", "metrics"])
def test_health_paths_are_not_reached_from_outside(client: httpx.Client, stack: Stack, service: str, path: str) -> None:
    first = f"%{ord(path[0]):x}{path[1:]}"
    for spelling in (
        path,
        f"{path}/",
        f"{path}/x",
        f"/{path}",
        f"{path}?x=1",
        first,
        quote(first),
        f"./{path}",
        f"x/../{path}",
    ):
        url = client.base_url.copy_with(raw_path=f"/{service}/{spelling}".encode())
        answer = client.get(url, headers={"Accept": "text/event-stream"} if path == "livez" else {})
        assert_problem(answer, 404)
        if spelling in (path, f"{path}/", f"{path}/x", f"{path}?x=1", first):
            assert find_line(stack, answer.headers["x-request-id"])["server"] == "<NOSRV>", "an application was asked"


def test_what_a_client_says_of_itself_is_ignored(client: httpx.Client, stack: Stack, service: str) -> None:
    honest = client.get(f"/{service}/whoami").json()
    lies = {
        "Forwarded": "for=6.6.6.6;proto=https;host=evil.example",
        "X-Forwarded-For": "6.6.6.6",
        "X_Forwarded_For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X_Forwarded_Proto": "https",
        "X-Forwarded-Prefix": "/evil",
        "X_Forwarded_Prefix": "/evil",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "666",
        "X-Real-IP": "6.6.6.6",
        "Script-Name": "/evil",
        "SCRIPT_NAME": "/evil",
        "Path-Info": "/evil",
        "X-Request-ID": "evil",
        "X_Request_ID": "evil",
    }
    lied = client.get(f"/{service}/whoami", headers=lies).json()
    for field in ("client", "url"):
        assert lied[field] == honest[field]
    assert "evil" not in str(lied)
    assert "6.6.6.6" not in str(lied)


def test_the_client_address_is_the_one_that_haproxy_saw(client: httpx.Client, stack: Stack, service: str) -> None:
    answer = client.get(f"/{service}/whoami").json()
    line = find_line(stack, answer["request_id"])
    assert answer["client"] == line["client"]


def find_line(stack: Stack, request_id: str) -> dict[str, object]:
    """Return the access log's line with this request id."""
    found: list[dict[str, object]] = wait_until(
        lambda: [line for line in stack.access_log() if line["request_id"] == request_id], f"{request_id} is logged"
    )
    assert len(found) == 1
    return found[0]


def test_one_request_id_in_both_logs_and_the_answer(client: httpx.Client, stack: Stack, service: str) -> None:
    answer = client.post(f"/{service}/echo", content=b"four")
    request_id = answer.headers["x-request-id"]
    assert len(answer.headers.get_list("x-request-id")) == 1
    line = find_line(stack, request_id)
    assert (line["method"], line["uri"], line["status"]) == ("POST", f"/{service}/echo", 200)
    echoed = f'"message": "echoed 4 bytes", "request_id": "{request_id}"'
    wait_until(lambda: echoed in stack.log(service), "the application has logged it")


def test_what_haproxy_answers_has_a_request_id_too(client: httpx.Client) -> None:
    assert client.get("/nothing").headers["x-request-id"] != client.get("/nothing").headers["x-request-id"]


def test_20_kb_of_headers_get_431(client: httpx.Client, stack: Stack, service: str) -> None:
    for headers in ({"X-Large": "x" * 20_000}, {f"X-{n}": "x" * 200 for n in range(100)}):
        answer = client.get(f"/{service}/json", headers=headers)
        if stack.haproxy_is_old():
            assert answer.status_code == 400
        else:
            assert_problem(answer, 431)


def test_14_kb_of_headers_are_served(client: httpx.Client, service: str) -> None:
    assert client.get(f"/{service}/json", headers={"Cookie": "x" * 14_000}).status_code == 200
    assert client.get(f"/{service}/json?{'x' * 14_000}").status_code == 200


@pytest.mark.parametrize(("cookie", "body"), [(3_000, 12_000), (8_000, 8_000), (12_000, 4_000), (8_000, 20_000)])
def test_headers_and_a_body_that_fill_a_buffer_together_are_served(
    client: httpx.Client, service: str, cookie: int, body: int
) -> None:
    answer = client.post(f"/{service}/echo", content=b"x" * body, headers={"Cookie": "x" * cookie})
    assert answer.status_code == 200
    assert answer.json()["size"] == body


def test_90_headers_are_served(client: httpx.Client, service: str) -> None:
    assert client.get(f"/{service}/json", headers={f"X-{n}": "x" for n in range(85)}).status_code == 200


def test_a_body_over_the_coarse_limit_is_refused_at_the_edge(client: httpx.Client, stack: Stack, service: str) -> None:
    request = f"POST /{service}/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\n\r\n".encode()
    answer = raw(stack, request)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


MALFORMED = {
    "no HTTP at all": b"hello\r\n\r\n",
    "a length that is no number": b"POST /SERVICE/echo HTTP/1.1\r\nHost: x\r\nContent-Length: four\r\n\r\nabcd",
    "a negative length": b"POST /SERVICE/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a chunk size that is no number": (
        b"POST /SERVICE/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n"
    ),
    "an unknown transfer encoding": b"POST /SERVICE/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: fun\r\n\r\n",
    "a space before the colon": b"GET /SERVICE/json HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n",
    "a NUL in a header": b"GET /SERVICE/json HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "two hosts": b"GET /SERVICE/json HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a path that cannot be decoded": b"GET /SERVICE/x%zz/events HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in the path": b"GET /SERVICE/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a percent sign at the end": b"GET /SERVICE/json% HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    "a space in the path": b"GET /SERVICE/js on HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte over 127 in the path": b"GET /SERVICE/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_gets_a_4xx_in_json_and_ends_no_replica(stack: Stack, service: str, name: str) -> None:
    answer = raw(stack, MALFORMED[name].replace(b"SERVICE", service.encode()))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", head), answer
    if not stack.haproxy_is_old():
        assert b"application/problem+json" in head, answer
        assert body.startswith(b"{")


def test_a_request_with_two_lengths_goes_no_further(stack: Stack, service: str) -> None:
    lengths = b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"
    answer = raw(stack, f"POST /{service}/echo HTTP/1.1\r\nHost: x\r\n".encode() + lengths)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")  # HAProxy 3.2 closes without a response


def test_a_request_for_another_protocol_keeps_its_body(client: httpx.Client, service: str) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "foo"}
    assert client.post(f"/{service}/echo", content=b"hi", headers=headers).json()["size"] == 2


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize(
    ("method", "query", "content", "more"),
    [
        ("GET", "", b"hi", {}),
        ("POST", "", b"", {}),
        ("GET", "", b"", {"Cookie": "x" * 9000}),
        ("GET", "?token=" + "x" * 9000, b"", {}),
    ],
)
def test_a_websocket_handshake_that_is_none_is_refused_at_once(
    client: httpx.Client, method: str, query: str, content: bytes, more: dict[str, str]
) -> None:
    answer = client.request(method, f"/asgi/ws{query}", content=content, headers=HANDSHAKE | more, timeout=10)
    assert answer.status_code in (400, 426)  # HAProxy 2 turns a handshake with a body into a plain GET
    assert_problem(answer, answer.status_code)


def test_a_websocket_handshake_of_another_version_gets_426_with_ours(client: httpx.Client) -> None:
    answer = client.get("/asgi/ws", headers=HANDSHAKE | {"Sec-WebSocket-Version": "8"})
    assert_problem(answer, 426)
    assert answer.headers["sec-websocket-version"] == "13"


def raw_echo(stack: Stack, service: str, coding: bytes = b"chunked", trailer: bytes = b"") -> bytes:
    """Post a chunked body of two bytes to /echo and return the response."""
    head = b"POST /%b/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %b\r\n\r\n" % (service.encode(), coding)
    return raw(stack, head + b"2\r\nhi\r\n0\r\n" + trailer + b"\r\n")


WITH_A_BODY = {
    "length": b"Content-Length: 2\r\n\r\nhi",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", WITH_A_BODY)
def test_a_get_with_a_body_is_answered(stack: Stack, service: str, body: str) -> None:
    received = raw(stack, b"GET /%b/json HTTP/1.1\r\nHost: a\r\n%b" % (service.encode(), WITH_A_BODY[body]))
    assert received.startswith(b"HTTP/1.1 200 ")


def test_a_body_in_an_unknown_coding_gets_422(stack: Stack, service: str) -> None:
    if stack.haproxy_is_old():
        pytest.skip("HAProxy 2 returns its own page")
    received = raw_echo(stack, service, coding=b"gzip, chunked")
    assert received.startswith(b"HTTP/1.1 422 ")
    assert b"application/problem+json" in received


def test_a_trailer_claims_nothing(stack: Stack, service: str) -> None:
    """The trailer arrives in one piece with the body, as a proxy may forward it."""
    claims = b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Proto: https\r\n"
    head = b"GET /%b/whoami HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % service.encode()
    received = raw(stack, head + b"2\r\nhi\r\n0\r\n" + claims + b"\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    for claim in (b"6.6.6.6", b"evil", b"https"):
        assert claim not in received


def test_a_bad_trailer_is_no_error_of_the_application(stack: Stack, service: str) -> None:
    if stack.haproxy_is_old():
        pytest.skip("HAProxy 2 forwards trailers")
    received = raw_echo(stack, service, trailer=b"Host: a\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")


def test_after_all_this_every_replica_is_the_one_it_was(
    started: dict[str, list[int]], stack: Stack, service: str
) -> None:
    instances = stack.instances(service)
    assert len(instances) == 3
    for name in instances:
        same = set(started[name]) & set(stack.pids(name))  # a container's health checks come and go
        assert len(same) >= {"wsgi": 2, "asgi": 1}[service], name
    log = stack.log(service)
    assert "Traceback" not in log
    assert '"level": "critical"' not in log


@pytest.mark.full
def test_without_replicas_only_that_service_gets_503(client: httpx.Client, stack: Stack, service: str) -> None:
    other = {"wsgi": "asgi", "asgi": "wsgi"}[service]
    try:
        with Load(f"{stack.url}/{service}/json", clients=6) as load:
            stack.stop_service(service)
            wait_until(lambda: client.get(f"/{service}/json").status_code == 503, "the service is gone")
        # They serve while they drain. As the last of them ends, each client may lose the request in flight.
        assert {"200", "503"} <= set(load.outcomes) <= {"200", "502", "503", "RemoteProtocolError"}, load.outcomes
        assert load.outcomes["502"] + load.outcomes["RemoteProtocolError"] <= 12
        for path in ("json", "events"):
            answer = client.get(f"/{service}/{path}")
            assert_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        assert client.get(f"/{other}/json").status_code == 200
        assert httpx.get(f"{stack.admin}/healthz").status_code == 200
        assert httpx.get(f"{stack.admin}/readyz").status_code == 503
    finally:
        stack.start_service(service)
    stack.wait_whole()
    assert client.get(f"/{service}/json").status_code == 200
