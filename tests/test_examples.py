"""The examples: applications that do not depend on how they are served, in the same images."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from handle import run, wait_until
from load import Load
from sse import Event, stream
from stack import Stack

pytestmark = [pytest.mark.compose, pytest.mark.full]

GUESTBOOKS = {"django": ("wsgi", "asgi"), "starlette": ("asgi",), "quart": ("asgi",)}
PORTS = {"wsgi": 8001, "asgi": 8002}
SECONDS = 9  # longer than a drain


def start(stack: Stack, example: str) -> Stack:
    """Start the stack with an example, as in the comment of its compose.yaml."""
    settings = {"COMPOSE_FILE": f"compose.yaml:examples/{example}/compose.yaml"}
    if stack.settings != settings:
        stack.up(**settings)
        stack.wait_whole()
    return stack


@pytest.fixture(params=[(name, service) for name, services in GUESTBOOKS.items() for service in services])
def guestbook(request: pytest.FixtureRequest, any_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> tuple[Stack, str]:
    """The stack and the service, for each framework on each of its interfaces."""
    example, service = request.param
    start(any_stack, example)
    monkeypatch.setenv("COMPOSE_FILE", f"compose.yaml:examples/{example}/compose.yaml")
    return any_stack, service


def test_it_sees_client_scheme_and_prefix_and_shows_its_own_pages(guestbook: tuple[Stack, str]) -> None:
    stack, service = guestbook
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=f"{stack.url}/{service}/") as client:
        answer = client.post("request", content=b"x" * 1000, headers=lies)
        identity = answer.headers["x-request-id"]
        (logged,) = wait_until(
            lambda: [line for line in stack.access_log() if line["request_id"] == identity], "it is logged"
        )
        assert answer.json() == {
            "client": logged["client"],
            "scheme": "http",
            "url": f"{stack.url}/{service}/",
            "size": 1000,
        }
        home = client.get("")
        assert home.status_code == 200
        links = re.findall(r'href="([^"]*)"', home.text)
        assert links == [f"/{service}/static/guestbook.css", f"/{service}/"]
        style = httpx.get(f"{stack.url}{links[0]}")
        assert style.status_code == 200
        assert style.headers["content-type"].startswith("text/css")
        missing, broken = client.get("nowhere"), client.get("broken")
        assert (missing.status_code, broken.status_code) == (404, 500)
        assert "This guestbook has no such page" in missing.text
        assert "The guestbook failed to handle this request" in broken.text
        assert client.get("readyz").json()["status"] == 404  # HAProxy's own: not reachable from outside
    replica = run("docker", "compose", "ps", "--quiet", service).stdout.split()[0]
    for path in ("livez", "readyz"):
        code = (
            f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{PORTS[service]}/{path}').status)"
        )
        assert run("docker", "exec", replica, "python", "-c", code).stdout == "200\n"


def test_a_drain_loses_nothing_and_ends_its_streams(guestbook: tuple[Stack, str]) -> None:
    stack, service = guestbook
    base = f"{stack.url}/{service}"
    victim = run("docker", "compose", "ps", "--quiet", service).stdout.split()[0]
    # Django has none; the handshakes that it refuses would briefly take the streams' slots.
    has_websockets = "django" not in str(stack.settings)
    with ThreadPoolExecutor(12) as background:
        streams = [background.submit(end_of_stream, f"{base}/events") for _ in range(6)]
        sockets = [background.submit(close_code, f"{base}/echo") for _ in range(6 if has_websockets else 0)]
        loads = [Load(f"{base}/request", clients=2), Load(f"{base}/request", 2, "POST", b"x" * 1000)]
        with loads[0], loads[1]:
            wait_until(lambda: all(load.outcomes.total() > 50 for load in loads), "the load runs")
            stack.stop(victim)
    stack.start(victim)
    for load in loads:
        assert not load.failures
    ends = [end for each in streams if (end := each.result())]
    assert len(ends) in (1, 2, 3), "those of the replica that left end, and no other"
    assert all(end.retry is not None for end in ends)
    assert {code for each in sockets if (code := each.result())} == ({1012} if has_websockets else set())
    stack.wait_whole()


def end_of_stream(url: str) -> Event | None:
    """Hold an event stream, and return the last event if the stream ended early."""
    last = None
    with stream(url) as events:
        for last in events:
            if last.data is not None and last.data > 2 * SECONDS:
                return None
    return last


def close_code(url: str) -> int | None:
    """Hold a WebSocket, and return its close code, or None if it stayed open or was refused."""
    try:
        with connect(url.replace("http", "ws")) as socket:
            socket.send("hello")
            assert socket.recv(timeout=15) == "hello"
            socket.recv(timeout=SECONDS)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
    except (TimeoutError, OSError):
        return None
    return 0


def test_a_wsgi_application_runs_on_both_servers(any_stack: Stack) -> None:
    stack = start(any_stack, "a2wsgi")
    with httpx.Client(base_url=stack.url) as client:
        for service in ("wsgi", "asgi"):
            assert client.get(f"/{service}/json").json() == {"message": "Hello, World!"}
            assert client.get(f"/{service}/wait?seconds=0.1").json() == {"waited": 0.1}
