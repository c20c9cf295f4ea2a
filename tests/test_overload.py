"""More than the stack can handle: too many requests, too many connections at once, far too slow clients."""

import base64
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

import pytest

from crowd import Crowd, storm
from handle import SERVICES, run
from journaled import Journaled
from ledger import Ledger, send
from stack import Stack

pytestmark = pytest.mark.compose

CAPACITY = {"wsgi": "/wsgi/wait?seconds=0.12", "asgi": "/asgi/wait?seconds=3"}  # 12 and 300 slots: 100 a second
QUEUE_LIMIT = {"wsgi": 256, "asgi": 1024}  # haproxy.cfg
SOCKETS = 8800  # of the 9,000 clients that haproxy.cfg admits


@pytest.fixture
def edge(journaled: Journaled) -> str:
    """HAProxy's own address, to bypass Docker's port publishing."""
    haproxy = run("docker", "compose", "ps", "--quiet", "haproxy").stdout.strip()
    networks = "{{range $name, $net := .NetworkSettings.Networks}}{{$name}} {{$net.IPAddress}}\n{{end}}"
    for line in run("docker", "inspect", "--format", networks, haproxy).stdout.splitlines():
        name, _, address = line.partition(" ")
        if name.endswith("_edge"):
            return f"http://{address}:8080"
    raise AssertionError("HAProxy is not on its network")


@contextmanager
def neighbours(stack: Stack, *urls: str) -> Iterator[None]:
    """Send 50 GET a second to each URL. None may fail, and no server may be marked down."""
    down = failed_checks(stack)
    quiet = [Ledger(url, 50) for url in urls]
    beside = [Ledger(url, 50) for url in urls]
    with all_of(quiet):
        time.sleep(5)
    with all_of(beside):
        yield
    for url, before, ledger in zip(urls, quiet, beside, strict=True):
        p99, quiet_p99 = (each.percentile(0.99) * 1000 for each in (ledger, before))
        print(f"{url}: {len(ledger.sent)} sent, p99 {p99:.1f} ms, {quiet_p99:.1f} ms without")
        assert not ledger.failures
    assert failed_checks(stack) == down, "a server was marked down"


@contextmanager
def all_of(ledgers: list[Ledger]) -> Iterator[None]:
    """Let all of them send during a `with` block."""
    with ExitStack() as running:
        for ledger in ledgers:
            running.enter_context(ledger)
        yield


def failed_checks(stack: Stack) -> int:
    """Return how often HAProxy has marked a server down."""
    return sum(int(row["chkdown"] or 0) for row in stack.statistics() if row["svname"] != "BACKEND")


def in_another_process() -> ProcessPoolExecutor:
    """Return another process, so that load and measurement do not slow each other down."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


@pytest.mark.full
@pytest.mark.parametrize(("service", "other"), [SERVICES, SERVICES[::-1]])
def test_overload_is_refused_with_503_and_costs_no_goodput_and_no_neighbour(
    journaled: Journaled, edge: str, service: str, other: str
) -> None:
    url, beside_url = edge + CAPACITY[service], f"{edge}/{other}/json"
    goodput = {}
    logged = len(journaled.stack.access_log())
    with in_another_process() as neighbour:
        quiet = neighbour.submit(send, beside_url, 50, 5).result()
        for times in (1, 2, 5, 10):
            beside = neighbour.submit(send, beside_url, 50, 9.5)
            with Crowd(url, 100 * times) as crowd:
                time.sleep(10)
                now = time.monotonic()
            goodput[times] = best(crowd, now)
            print(
                f"{times} x: {len(crowd.sent)} sent, {goodput[times]:.0f} answered a second, refused {crowd.failures}"
            )
            seen = beside.result()
            tails = f"p99 {seen.p99_ms:.1f} ms, {quiet.p99_ms:.1f} ms without"
            print(f"  {other}: {seen.acknowledged} of {seen.count} answered, {tails}")
            assert set(crowd.failures) <= {"503"}
            assert seen.acknowledged >= 0.9 * seen.count
        # Read the log now, before later lines rotate it away.
        lines = journaled.stack.access_log()[logged:]
        beside = neighbour.submit(send, beside_url, 50, 9.5)
        with Crowd(f"{edge}/nowhere", 1000) as control:
            time.sleep(10)
        print(f"beside as many requests that no replica sees: p99 {beside.result().p99_ms:.1f} ms")
        assert set(control.failures) == {"404"}
    assert crowd.failures, "ten times as much as it can do was not refused"
    assert min(goodput.values()) >= 0.9 * max(goodput.values())
    rows, backend = journaled.stack.statistics(), f"{service}_retriable"
    queued = max(int(row["qmax"]) for row in rows if (row["pxname"], row["svname"]) == (backend, "BACKEND"))
    assert 0 < queued <= QUEUE_LIMIT[service] + 1
    waited = max(line["ms"]["queue"] for line in lines if line["backend"] == backend)
    print(f"the longest wait for a slot: {waited} ms")
    assert waited < 6000, "the queue is not bounded by its time, which is 3 s"  # ten if only the length bounded it
    time.sleep(5)
    with Crowd(url, 100) as after:
        time.sleep(10)
        now = time.monotonic()
    back = best(after, now)
    print(f"afterwards: {back:.0f} answered a second")
    assert back >= 0.9 * max(goodput.values()), "it does not recover"


def best(crowd: Crowd, now: float) -> float:
    """Return the goodput of the best 6 s, twice the longer wait: responses come in waves, and drift may split one."""
    return max(crowd.goodput(now - 6 - early / 2, now - early / 2) for early in range(5))


@pytest.mark.full
def test_a_post_that_is_refused_has_not_run(journaled: Journaled, edge: str, service: str) -> None:
    """12 slots for half a second or 300 for three seconds, and far more requests."""
    seconds, rate = {"wsgi": (0.5, 200), "asgi": (3, 500)}[service]
    with Crowd(f"{edge}/{service}/entry/{{id}}?seconds={seconds}", rate, "POST") as crowd:
        time.sleep(5)
    found = journaled.account(crowd)
    print(f"{len(crowd.sent)} sent, {len(crowd.acknowledged)} answered, refused {crowd.failures}")
    assert set(crowd.failures) == {"503"}
    assert not found.unknown
    assert not found.lost
    assert not found.doubled


def test_a_storm_of_websockets_is_opened_whole_and_marks_no_server_down(journaled: Journaled, edge: str) -> None:
    handshake = (
        b"GET /asgi/ws?interval_ms=60000 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % base64.b64encode(bytes(16))
    )
    urls = (f"{edge}/wsgi/json", f"{edge}/asgi/json")
    with in_another_process() as crowd:
        with neighbours(journaled.stack, *urls):
            sockets = crowd.submit(storm, edge, [handshake], SOCKETS, 17)
            time.sleep(13)
        print("and while they are closed:")
        with neighbours(journaled.stack, *urls):
            answered, last = sockets.result()
            time.sleep(2)
    print(f"{SOCKETS} WebSockets at once: {dict(answered)}, the last after {last:.1f} s")
    assert answered == {"101": SOCKETS}


SLOW = {
    "headers": (b"GET /%b/json HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"x" * 20, "408"),
    "bodies": (b"POST /%b/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"x" * 20, "408"),
    "bodies of GET": (b"GET /%b/json HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"x" * 20, "408"),
    "readers": (b"GET /%b/entry/x?size=300000 HTTP/1.1\r\nHost: a\r\n\r\n", b"", "200"),
}


@pytest.mark.full
@pytest.mark.parametrize("slow", SLOW)
def test_a_thousand_slow_clients_cost_their_neighbours_no_request(journaled: Journaled, edge: str, slow: str) -> None:
    opening, slowly, status = SLOW[slow]
    with in_another_process() as crowd, neighbours(journaled.stack, f"{edge}/wsgi/json", f"{edge}/asgi/json"):
        with all_of(posts := [Ledger(f"{edge}/{service}/echo", 20, "POST") for service in SERVICES]):
            openings = [opening % service.encode() for service in SERVICES]
            answered, last = crowd.submit(storm, edge, openings, 1000, 17, 5, slowly).result()
        print(f"{slow}: {dict(answered)}, the last after {last:.1f} s")
    for ledger in posts:
        assert not ledger.failures
    assert answered == {status: 1000}
    assert last < 30, "the slow ones are not bounded by their time, which is 10 s"
