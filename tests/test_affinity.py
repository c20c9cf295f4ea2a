"""WSGI_AFFINITY and ASGI_AFFINITY: a client stays with its replica, until that leaves."""

import threading
from collections import Counter
from typing import Any

import httpx
import pytest
import socketio

from handle import SERVICES, run, wait_until
from load import Background, Load
from stack import Stack

ON = {"WSGI_AFFINITY": "on", "ASGI_AFFINITY": "on"}


class Clients:
    """Clients with cookies; `asks` tells the replica of each."""

    def __init__(self, stack: Stack, service: str) -> None:
        self._url = f"{stack.url}/{service}/whoami"
        self._clients = [httpx.Client(timeout=30) for _ in range(30)]

    def asks(self) -> list[str]:
        """Return the replica that answers each client."""
        return [str(client.get(self._url).json()["instance"]) for client in self._clients]


@pytest.fixture
def sticky(any_stack: Stack) -> Stack:
    """The stack with affinity on both services."""
    any_stack.ensure(**ON)
    return any_stack


def test_a_client_stays_with_its_replica_by_requests_and_streams(sticky: Stack, service: str) -> None:
    base = f"{sticky.url}/{service}"
    for _ in range(6):
        with httpx.Client(timeout=30) as client:
            first = client.get(f"{base}/whoami").json()["instance"]
            assert {client.get(f"{base}/whoami").json()["instance"] for _ in range(6)} == {first}
            assert client.post(f"{base}/echo", content=b"x").status_code == 200
            assert client.get(f"{base}/whoami", headers={"Accept": "text/event-stream"}).json()["instance"] == first


def test_the_cookie_names_a_replica_to_nobody_and_is_not_for_scripts(sticky: Stack, service: str) -> None:
    name, _, rest = httpx.get(f"{sticky.url}/{service}/json").headers["set-cookie"].partition("=")
    assert name == f"{service.upper()}_REPLICA"
    value, _, attributes = rest.partition("; ")
    assert len(value) == 16
    assert attributes == "path=/; HttpOnly; SameSite=Lax"


def test_the_services_names_are_two(sticky: Stack) -> None:
    with httpx.Client() as client:
        for service in SERVICES:
            client.get(f"{sticky.url}/{service}/json")
        assert set(client.cookies) == {"WSGI_REPLICA", "ASGI_REPLICA"}


def test_by_default_there_is_no_cookie(stack: Stack, service: str) -> None:
    assert "set-cookie" not in httpx.get(f"{stack.url}/{service}/json").headers


def moved(before: list[str], after: list[str], gone: str) -> Counter[str]:
    """Count the clients by what became of them."""
    return Counter(
        "left" if old == gone else "kept" if old == new else "moved" for old, new in zip(before, after, strict=True)
    )


def test_nobody_moves_but_those_whose_replica_leaves(sticky: Stack, service: str) -> None:
    clients = Clients(sticky, service)
    before = clients.asks()
    assert len(set(before)) == 3
    gone = before[0]
    sticky.stop(gone)
    after = clients.asks()
    print("drained:", moved(before, after, gone))
    assert gone not in after
    assert moved(before, after, gone)["moved"] == 0
    sticky.start(gone)
    sticky.wait_whole()
    assert clients.asks() == after, "nobody goes back"
    gone = after[0]
    sticky.kill(*sticky.pids(gone))
    killed = clients.asks()
    print("killed:", moved(after, killed, gone))
    assert moved(after, killed, gone)["moved"] == 0
    sticky.wait_whole()
    assert clients.asks() == killed
    run("./scripts/reload")
    assert clients.asks() == killed, "a reload moves nobody"


def test_a_drain_moves_its_clients_at_once_and_costs_them_nothing(sticky: Stack, service: str) -> None:
    url, told = f"{sticky.url}/{service}", threading.Event()
    with httpx.Client(timeout=30) as client:
        gone = client.get(f"{url}/whoami").json()["instance"]
        answered: Counter[bool] = Counter()

        def ask() -> None:
            while not told.is_set():
                answered[client.get(f"{url}/whoami").json()["instance"] == gone] += 1

        with Load(f"{url}/json", clients=6) as gets, Load(f"{url}/echo", 3, "POST", b"x") as posts, Background(ask):
            sticky.stop(gone)
            told.set()
    sticky.start(gone)
    sticky.wait_whole()
    for load in (gets, posts):
        assert not load.failures
    assert answered[False] > answered[True], "it was asked until it ended"


@pytest.mark.compose
@pytest.mark.full
def test_more_replicas_move_nobody_and_a_roll_moves_everybody(sticky: Stack, service: str) -> None:
    clients = Clients(sticky, service)
    before = clients.asks()
    run("docker", "compose", "up", "--detach", "--no-recreate", "--no-deps", "--scale", f"{service}=5", service)
    wait_until(lambda: sticky.up_servers(service) == 5, "there are five")
    assert clients.asks() == before
    assert len(set(Clients(sticky, service).asks())) == 5, "new clients get the new ones, too"
    run("./scripts/roll", service)
    after = clients.asks()
    assert not set(after) & set(before)
    assert clients.asks() == after
    sticky.down()


@pytest.fixture
def example(any_stack: Stack, request: pytest.FixtureRequest) -> Stack:
    """The stack with an example."""
    any_stack.ensure(COMPOSE_FILE=f"compose.yaml:examples/{request.param}/compose.yaml")
    return any_stack


@pytest.mark.compose
@pytest.mark.full
@pytest.mark.parametrize("example", ["socketio"], indirect=True)
def test_socket_io_by_polling_keeps_its_session(example: Stack) -> None:
    replicas = set()
    for _ in range(8):
        with socketio.SimpleClient() as client:
            client.connect(example.url, socketio_path="/asgi/socket.io", transports=["polling"])
            said = [client.call("message", "hello") for _ in range(3)]
        assert [one["count"] for one in said] == [1, 2, 3]
        replicas |= {one["replica"] for one in said}
    assert len(replicas) == 3


def tell(base: str, session: str, method: str, **params: Any) -> httpx.Response:
    """Send a message of MCP's protocol of 2025, without cookies."""
    kinds = {"Accept": "application/json, text/event-stream"} | ({"Mcp-Session-Id": session} if session else {})
    return httpx.post(base, headers=kinds, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


@pytest.mark.compose
@pytest.mark.full
@pytest.mark.parametrize("example", ["mcp"], indirect=True)
def test_a_session_of_mcp_stays_with_its_replica_without_cookies(example: Stack) -> None:
    base, who = f"{example.url}/asgi/mcp", {"name": "test", "version": "1"}
    began = [
        tell(base, "", "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=who) for _ in range(9)
    ]
    sessions = [answer.headers["mcp-session-id"] for answer in began]
    assert len({session.rpartition("~")[2] for session in sessions}) == 3
    for again in range(2):
        for session in sessions:
            answers = [tell(base, session, "tools/list") for _ in range(4)]
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.headers["mcp-session-id"] for answer in answers} == {session}
        if not again:
            run("./scripts/reload")
    unknown = tell(base, f"{'0' * 32}~{sessions[0].rpartition('~')[2]}", "tools/list")
    assert unknown.status_code == 404, "so that the client begins anew"
