"""Who a client is, behind proxies that are trusted, and how often it may ask."""

import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from handle import SERVICES, run, wait_until
from stack import Stack, status
from test_contract import assert_problem

HERE = "127.0.0.1 172.16.0.0/12"  # where this machine's connections come from: itself, or Docker's gateway
VISITOR = "127.0.0.9"  # a client that is no trusted proxy
TRUSTING = {"TRUSTED_PROXIES": f"{HERE} 10.0.0.0/8 fd00::/8"}
LIMITED = TRUSTING | {"CLIENT_REQUESTS": "20", "CLIENT_STREAMS": "2"}
PORT = 18081  # of the proxies in front


@pytest.fixture(scope="module")
def trusting(any_stack: Stack) -> Stack:
    """The stack, which trusts what is in front of it."""
    any_stack.ensure(**TRUSTING)
    return any_stack


@pytest.fixture(scope="module")
def limited(any_stack: Stack) -> Stack:
    """The stack with limits for each client."""
    any_stack.ensure(**LIMITED)
    return any_stack


def seen(url: str, service: str = "wsgi", **headers: str) -> dict[str, Any]:
    """Return what the application learns of a client that sends these headers (a `_` is a `-`)."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    said: dict[str, Any] = httpx.get(f"{url}/{service}/whoami", headers=fields).json()
    return said


def test_the_client_is_the_last_address_that_is_no_trusted_proxys(trusting: Stack, service: str) -> None:
    clients = {
        "9.9.9.9": "9.9.9.9",
        "1.1.1.1, 9.9.9.9": "9.9.9.9",  # the client itself has sent the first
        "9.9.9.9:1234": "9.9.9.9",
        "1.1.1.1, 9.9.9.9, 10.0.0.7": "9.9.9.9",
        "1.1.1.1, 9.9.9.9, 10.0.0.7, 10.0.0.8": "9.9.9.9",
        "2001:db8::1, fd00::5": "2001:db8::1",
        "1.1.1.1, unknown, 10.0.0.7": "10.0.0.7",  # what stands before that is nobody's word
        "10.0.0.7": "10.0.0.7",
    }
    for header, client in clients.items():
        assert seen(trusting.url, service, X_Forwarded_For=header)["client"] == client, header
    answer = httpx.get(
        f"{trusting.url}/{service}/whoami", headers=[("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "9.9.9.9")]
    )
    assert answer.json()["client"] == "9.9.9.9"
    for rubbish in ("unknown", "1.1.1.1, unknown", "", "1.1.1.1,"):
        assert seen(trusting.url, service, X_Forwarded_For=rubbish)["client"] not in ("1.1.1.1", "unknown"), rubbish
    for quoted in ('", 9.9.9.9', '"1.1.1.1", "9.9.9.9'):  # a quote hides what a proxy adds behind it
        assert httpx.get(f"{trusting.url}/{service}/json", headers={"X-Forwarded-For": quoted}).status_code == 400


def test_the_scheme_is_what_a_trusted_proxy_says(trusting: Stack, service: str) -> None:
    said = seen(trusting.url, service, X_Forwarded_For="9.9.9.9", X_Forwarded_Proto="https", Host="shop.test")
    assert said["url"] == f"https://shop.test/{service}/whoami"
    for rubbish in ("http", "gopher", "https, http"):
        assert seen(trusting.url, service, X_Forwarded_Proto=rubbish)["url"].startswith("http:")


def test_each_request_of_a_connection_has_its_own_client(trusting: Stack) -> None:
    with httpx.Client(base_url=trusting.url) as client:
        for address in ("9.9.9.9", "8.8.8.8"):
            assert client.get("/wsgi/whoami", headers={"X-Forwarded-For": address}).json()["client"] == address
        assert client.get("/wsgi/whoami").json()["client"] not in ("9.9.9.9", "8.8.8.8")
    assert {"9.9.9.9", "8.8.8.8"} <= {line["client"] for line in trusting.access_log()}


CADDY = """
{
  admin off
  auto_https off
}
http://:%d {
  reverse_proxy %s
}
"""
NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/errors;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {url};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"""


@contextmanager
def in_front(stack: Stack, program: str, folder: Path) -> Iterator[str]:
    """Run Caddy or nginx in front of the stack for the time of a `with`; yield its URL."""
    config = folder / program
    if program == "caddy":
        config.write_text(CADDY % (PORT, stack.url.removeprefix("http://")))
        command = [".venv/dev/bin/caddy", "run", "--adapter", "caddyfile", "--config", str(config)]
    else:
        config.write_text(NGINX.format(folder=folder, port=PORT, url=stack.url))
        command = ["nginx", "-c", str(config)]
    url = f"http://127.0.0.1:{PORT}"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: status(f"{url}/wsgi/whoami") == 200, f"{program} answers")
            yield url
        finally:
            process.terminate()


@pytest.mark.parametrize("program", ["caddy", "nginx"])
def test_nobody_is_believed_but_the_proxy_in_front(trusting: Stack, program: str, tmp_path: Path) -> None:
    with in_front(trusting, program, tmp_path) as url:
        forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "Forwarded": "for=6.6.6.6;proto=https"}
        with httpx.Client(transport=httpx.HTTPTransport(local_address=VISITOR), headers=forged) as visitor:
            for service in SERVICES:
                said = visitor.get(f"{url}/{service}/whoami").json()
                assert said["client"] == VISITOR
                assert said["url"] == f"{url}/{service}/whoami"


def test_without_trusted_proxies_nobody_is_believed(stack: Stack, service: str) -> None:
    said = seen(
        stack.url, service, X_Forwarded_For="9.9.9.9", X_Forwarded_Proto="https", Forwarded="for=9.9.9.9;proto=https"
    )
    assert said["client"] != "9.9.9.9"
    assert said["url"].startswith("http:")


def test_forwarded_is_believed_if_that_is_what_the_proxies_set(any_stack: Stack, service: str) -> None:
    if any_stack.haproxy_is_old():
        pytest.skip("HAProxy 2 cannot read Forwarded")
    any_stack.ensure(**TRUSTING, TRUSTED_HEADER="forwarded")
    clients = {
        'for=1.1.1.1, for="[2001:db8::7]:99";proto=https': "2001:db8::7",
        "for=9.9.9.9;proto=https": "9.9.9.9",
        "for=1.1.1.1, for=9.9.9.9, for=10.0.0.7;proto=https": "9.9.9.9",
    }
    for header, client in clients.items():
        said = seen(any_stack.url, service, Forwarded=header, X_Forwarded_For="6.6.6.6", X_Forwarded_Proto="http")
        assert said["client"] == client
        assert said["url"].startswith("https:")
    for rubbish in ("for=1.1.1.1, for=_hidden", "for=1.1.1.1, for=unknown", "by=1.1.1.1"):
        assert seen(any_stack.url, service, Forwarded=rubbish)["client"] != "1.1.1.1", rubbish
    for quoted in ('for=", for=9.9.9.9', 'for="\\", for=9.9.9.9'):
        assert httpx.get(f"{any_stack.url}/{service}/json", headers={"Forwarded": quoted}).status_code == 400


def proxied(stack: Stack, client: str) -> bytes:
    """Return the response to a request over a connection that begins with PROXY protocol, version 2."""
    addresses = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 1234, 80)
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses)) + addresses
    with socket.create_connection(("127.0.0.1", httpx.URL(stack.url).port or 0), timeout=15) as connection:
        connection.sendall(header + b"GET /wsgi/whoami HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_proxy_protocol_is_spoken_with_those_who_are_named_alone(any_stack: Stack) -> None:
    any_stack.ensure(PROXY_PROTOCOL="192.0.2.0/24")
    assert b" 400 " in proxied(any_stack, "9.9.9.9").splitlines()[0]
    any_stack.ensure(PROXY_PROTOCOL=HERE)
    assert b'"client":"9.9.9.9"' in proxied(any_stack, "9.9.9.9")
    assert status(f"{any_stack.url}/wsgi/whoami") == 0  # one that says nothing of a client is none of theirs


def test_an_idle_connection_stays_open_as_long_as_set(any_stack: Stack) -> None:
    any_stack.ensure(KEEP_ALIVE_SECONDS="3")
    with socket.create_connection(("127.0.0.1", httpx.URL(any_stack.url).port or 0), timeout=15) as connection:
        for pause in (1.5, 0):
            connection.sendall(b"GET /wsgi/plaintext HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(pause)
        began = time.monotonic()
        assert connection.recv(65536) == b""
        assert time.monotonic() - began > 2


def ask(stack: Stack, client: str, times: int = 1) -> list[int]:
    """Return the statuses of this many requests of a client."""
    with httpx.Client(base_url=stack.url, headers={"X-Forwarded-For": client}) as connection:
        return [connection.get("/asgi/plaintext").status_code for _ in range(times)]


def test_a_client_at_its_limit_gets_429_and_its_neighbours_do_not(limited: Stack) -> None:
    assert ask(limited, "9.9.9.1", 30) == [200] * 20 + [429] * 10
    assert ask(limited, "9.9.9.2") == [200]
    answer = httpx.get(f"{limited.url}/asgi/plaintext", headers={"X-Forwarded-For": "9.9.9.1"})
    assert_problem(answer, 429)
    assert answer.headers["retry-after"] == "10"
    assert "CLIENT_REQUESTS" in answer.json()["detail"]
    metrics = httpx.get(f"{limited.admin}/metrics").text
    assert 'haproxy_backend_requests_denied_total{proxy="client_limits"} 11' in metrics
    wait_until(lambda: ask(limited, "9.9.9.1") == [200], "it may ask again", 30)


def test_a_client_of_ipv6_is_its_network(limited: Stack) -> None:
    assert ask(limited, "2001:db8:0:1::1", 20) == [200] * 20
    assert ask(limited, "2001:db8:0:1:ffff::2") == [429]
    assert ask(limited, "2001:db8:0:2::1") == [200]


def test_a_client_holds_as_many_streams_as_set(limited: Stack) -> None:
    def opened(client: str) -> Any:
        headers = {"X-Forwarded-For": client}
        return httpx.Client().send(httpx.Request("GET", f"{limited.url}/asgi/events", headers=headers), stream=True)

    streams = [opened("9.9.9.3") for _ in range(3)]
    assert [stream.status_code for stream in streams] == [200, 200, 429]
    other = opened("9.9.9.4")
    assert other.status_code == 200
    for stream in [*streams, other]:
        stream.close()

    def again() -> bool:
        stream = opened("9.9.9.3")
        stream.close()
        return bool(stream.status_code == 200)

    wait_until(again, "a stream that has ended makes room")


def test_refused_websockets_take_nobody_elses_turn(limited: Stack) -> None:
    """Handshakes are paced: if 2,000 that are refused waited for their turns, another would come 2.5 s later."""
    if limited.haproxy_is_old():
        pytest.skip("HAProxy 2 does not pace handshakes")
    url = f"{limited.url.replace('http', 'ws', 1)}/asgi/ws?interval_ms=60000"
    client, port = {"X-Forwarded-For": "9.9.9.5"}, httpx.URL(limited.url).port or 0
    refused = (
        b"GET /asgi/ws HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.5\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with ExitStack() as open_ones:
        for _ in range(2):
            open_ones.enter_context(connect(url, additional_headers=client))
        others = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(2000)
        ]
        for other in others:
            other.sendall(refused)
        begin = time.monotonic()
        with connect(url, additional_headers={"X-Forwarded-For": "9.9.9.6"}):
            waited = time.monotonic() - begin
        answers = [other.recv(65536).split(maxsplit=2)[1] for other in others]
    print(f"another's handshake took {waited:.2f} s")
    assert set(answers) == {b"429"}
    assert waited < 1.25


def test_too_many_new_connections_get_429_and_then_nothing(any_stack: Stack) -> None:
    any_stack.ensure(CLIENT_CONNECTIONS="10")
    statuses = [status(f"{any_stack.url}/asgi/plaintext") for _ in range(60)]
    assert {200, 429, 0} == set(statuses)
    assert sorted(statuses, key=[200, 429, 0].index) == statuses


def test_security_headers_are_added_where_the_application_sets_none(any_stack: Stack, service: str) -> None:
    names = ("x-content-type-options", "x-frame-options", "referrer-policy")
    any_stack.ensure()
    assert not set(names) & set(httpx.get(f"{any_stack.url}/{service}/json").headers)
    any_stack.ensure(SECURITY_HEADERS="on")
    headers = httpx.get(f"{any_stack.url}/{service}/json").headers
    assert [headers[name] for name in names] == ["nosniff", "SAMEORIGIN", "strict-origin-when-cross-origin"]
    assert "server" not in headers
    assert "x-frame-options" not in httpx.get(any_stack.url).headers  # the front page has a policy of its own


def test_bad_values_are_named_before_anything_starts(any_stack: Stack) -> None:
    cases = {
        "TRUSTED_PROXIES must be none or networks, not 'all'": {"TRUSTED_PROXIES": "all"},
        "TRUSTED_PROXIES must be none or networks, not 'beef'": {"TRUSTED_PROXIES": "beef"},
        "TRUSTED_PROXIES must be none or networks, not '10.0.0.0/33'": {"TRUSTED_PROXIES": "10.0.0.0/33"},
        "BIND must be IPv4 address, not '127.0.0.256'": {"BIND": "127.0.0.256"},
        "HOSTS must be any or host names, not 'a..test'": {"HOSTS": "a..test"},
        "PROXY_PROTOCOL must be none or networks, not 'on'": {"PROXY_PROTOCOL": "on"},
        "KEEP_ALIVE_SECONDS must be 1 to 3600, not '0'": {"KEEP_ALIVE_SECONDS": "0"},
        "CLIENT_REQUESTS must be 0 to 1000000, not '-1'": {"CLIENT_REQUESTS": "-1"},
    }
    for why, settings in cases.items():
        ended = run(*any_stack.up_command, env=settings, check=False)
        assert ended.returncode == 2
        assert why in ended.stderr.splitlines()[-1]
