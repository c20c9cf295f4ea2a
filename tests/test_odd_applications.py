"""What applications do that a server or a balancer may not expect: each passes as the plain server would pass it."""

import http.client
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import httpx
import pytest

from handle import ROOT, SERVICES, run, wait_until
from load import Load
from stack import Stack
from test_any_application import FOREIGN
from test_contract import assert_problem
from test_replacement import changed
from ways import LocalStack

ODD = FOREIGN | {"WSGI_APP": "foreign.odd:wsgi", "ASGI_APP": "foreign.odd:asgi"}


@pytest.fixture(scope="module")
def odd(any_stack: Stack) -> Stack:
    """The stack with the odd applications."""
    any_stack.up(**ODD)
    any_stack.wait_whole()
    return any_stack


def gaps(url: str, method: str, headers: dict[str, str]) -> list[float]:
    """Return the seconds between the chunks of a response."""
    with httpx.stream(method, url, headers=headers, timeout=90) as answer:
        assert answer.status_code == 200
        arrived = [time.monotonic() for _ in answer.iter_raw()]
    return [later - earlier for earlier, later in itertools.pairwise(arrived)]


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson", "text/plain"])
@pytest.mark.parametrize(("method", "accept"), [("POST", "*/*"), ("GET", "*/*"), ("POST", "text/event-stream")])
def test_each_chunk_of_a_response_passes_at_once(odd: Stack, service: str, kind: str, method: str, accept: str) -> None:
    """Held for a delayed acknowledgement, chunks that are written 100 ms apart arrive in pairs, 0 and 200 ms apart."""
    seen = gaps(f"{odd.url}/{service}/chunks?type={kind}&count=16", method, {"Accept": accept})
    assert len(seen) >= 12, "chunks arrived together"
    assert 0.08 < statistics.median(seen) < 0.15


@pytest.mark.full
def test_a_response_that_has_begun_may_be_silent_for_45_s(odd: Stack, service: str) -> None:
    if odd.haproxy_is_old():
        pytest.skip("HAProxy 2 has one timeout for the begin of a response and its pauses")
    with ThreadPoolExecutor() as background:
        url = f"{odd.url}/{service}/chunks?count=2&gap=45"
        silent = [background.submit(gaps, url, method, {}) for method in ("GET", "POST")]
        assert all(max(one.result()) > 40 for one in silent)


@contextmanager
def listed(name: str, *paths: str) -> Iterator[None]:
    """Have HAProxy read a list of routes with these paths for the time of a `with`."""
    try:
        with changed(ROOT / "haproxy" / name, by=lambda text: text + "\n".join(paths) + "\n"):
            run("./scripts/reload")
            yield
    finally:
        run("./scripts/reload")


@pytest.mark.full
def test_a_slow_route_may_take_longer_than_30_s(odd: Stack) -> None:
    def late(service: str, method: str, accept: str = "*/*", gap: int = 40) -> int:
        url = f"{odd.url}/{service}/late/7?gap={gap}"
        return httpx.request(method, url, headers={"Accept": accept}, timeout=120).status_code

    with listed("slow-routes.lst", "/wsgi/late/", "/asgi/late/"), ThreadPoolExecutor(8) as background:
        asked = [background.submit(late, service, method) for service in SERVICES for method in ("GET", "POST")]
        asked += [background.submit(late, service, "POST", "text/event-stream", 65) for service in SERVICES]
        assert [one.result() for one in asked] == [200] * 6


def test_a_large_route_takes_larger_bodies(odd: Stack, service: str) -> None:
    body, url = b"x" * (40 << 20), f"{odd.url}/{service}/upload/7"
    assert_problem(httpx.post(url, content=body, timeout=90), 413)
    with listed("large-routes.lst", f"/{service}/upload/"):
        assert httpx.post(url, content=body, timeout=90).json()["size"] == len(body)
        assert_problem(httpx.post(f"{odd.url}/{service}/uploads", content=body, timeout=90), 413)
        with closing(http.client.HTTPConnection("127.0.0.1", httpx.URL(url).port, timeout=15)) as connection:
            connection.putrequest("POST", f"/{service}/upload/7")
            connection.putheader("Content-Length", str((1 << 30) + 1))
            connection.endheaders()
            assert connection.getresponse().status == 413


@pytest.mark.parametrize("status", [204, 304])
def test_a_body_that_no_response_of_this_status_has_is_left_out(odd: Stack, service: str, status: int) -> None:
    with httpx.Client(timeout=10) as client:
        for _ in range(3):  # on one connection: nothing is left on it
            answer = client.get(f"{odd.url}/{service}/status?status={status}")
            assert (answer.status_code, answer.content) == (status, b"")


def test_a_body_longer_than_announced_harms_no_neighbour(odd: Stack, service: str) -> None:
    with Load(f"{odd.url}/{service}/json", clients=4) as neighbours:
        for _ in range(30):
            answer = httpx.get(f"{odd.url}/{service}/longer")
            assert answer.content in (b"hello", b"Internal Server Error")
    assert not neighbours.failures


def test_response_headers_over_the_limit_are_named_in_the_log(odd: Stack, service: str) -> None:
    assert httpx.get(f"{odd.url}/{service}/head?bytes=14000").status_code == 200
    assert httpx.get(f"{odd.url}/{service}/head?bytes=15100").status_code == 500
    assert httpx.get(f"{odd.url}/{service}/head?bytes=20000").status_code == 500
    wait_until(lambda: "HAProxy accepts 15000" in odd.log(service), "the log says so")


@pytest.mark.parametrize("method", ["QUERY", "PROPFIND", "MKCALENDAR", "BREW", "X-OWN"])
def test_any_method_reaches_the_application_and_runs_once(odd: Stack, service: str, method: str) -> None:
    answer = httpx.request(method, f"{odd.url}/{service}/x", content=b"body")
    assert answer.json()["method"] == method
    assert answer.json()["start"] == "body"


@pytest.mark.parametrize("size", [0, 5, 200_000, 3_000_000])
def test_a_body_of_unknown_length_reaches_the_application(odd: Stack, service: str, size: int) -> None:
    """As with Django on WSGI, the application reads as many bytes as CONTENT_LENGTH says."""
    pieces = iter([b"x" * size]) if size else iter([])
    told = httpx.post(f"{odd.url}/{service}/x", content=pieces).json()
    assert told["size"] == size
    if service == "wsgi":
        assert told["length"] == str(size)


def test_a_body_of_unknown_length_over_the_limit_gets_413_on_wsgi(odd: Stack) -> None:
    answer = httpx.post(f"{odd.url}/wsgi/x", content=(b"x" * 1_000_000 for _ in range(18)), timeout=30)
    assert_problem(answer, 413)


@pytest.mark.compose
def test_a_full_disk_is_named_in_the_log(odd: Stack, service: str) -> None:
    """FastAPI answers 400 if an upload does not fit. On WSGI, a body of unknown length is stored by serving.py."""
    filled = containers(service)
    for name in filled:
        run("docker", "exec", name, "dd", "if=/dev/zero", "of=/tmp/filler", "bs=1M", check=False)
    try:
        body = (b"x" * 65536 for _ in range(64))
        answer = httpx.post(f"{odd.url}/{service}/cannot-write", content=body)
    finally:
        for name in filled:
            run("docker", "exec", name, "rm", "/tmp/filler")
    assert answer.status_code == (500 if service == "wsgi" else 400)
    wait_until(
        lambda: {"wsgi": "No space left", "asgi": "/tmp is full"}[service] in odd.log(service), "the log says so"
    )


@pytest.mark.compose
@pytest.mark.full
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_large_bodies_fit_memory_and_disk(odd: Stack, service: str, chunked: bool) -> None:
    """As many as fit into what HAProxy admits, and more: each is held in memory and in /tmp at once."""
    before = {name: odd.pids(name) for name in containers(service)}

    def upload(_: int) -> int:
        body = b"x" * (16 * 1024 * 1024)
        content = (body[n : n + 65536] for n in range(0, len(body), 65536)) if chunked else body
        return httpx.post(f"{odd.url}/{service}/spool", content=content, timeout=90).status_code

    with ThreadPoolExecutor(60) as clients:
        seen = Counter(clients.map(upload, range(90)))
    print(seen)
    assert set(seen) <= {200, 503}
    assert seen[200] >= 12
    assert {name: odd.pids(name) for name in before} == before, "a process was ended"
    for name in before:
        used = run("docker", "exec", name, "df", "--output=used", "/tmp").stdout.split()[1]
        assert int(used) < 1024, "/tmp is not empty"


def containers(service: str) -> list[str]:
    """Return the names of the service's containers."""
    return run("docker", "compose", "ps", "--quiet", service).stdout.split()


def test_a_warning_about_a_bad_request_is_not_logged_under_another_requests_id(odd: Stack) -> None:
    """The thread that finds the bad request has served good ones, and failed in others."""
    for path in ("x", "fails", "longer"):
        for _ in range(20):
            httpx.get(f"{odd.url}/wsgi/{path}")
    for _ in range(3):
        broken = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        replica_says(odd, broken)
    warned = [line for line in odd.log_lines("wsgi") if "nvalid" in line["message"]]
    assert warned
    assert not [line for line in warned if "request_id" in line]


def replica_says(odd: Stack, request: bytes) -> None:
    """Send bytes to a WSGI replica itself, which HAProxy would refuse."""
    code = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "s.sendall(bytes.fromhex(sys.argv[2])); s.settimeout(5); s.recv(9999)"
    )
    here, port = ([], "8011") if isinstance(odd, LocalStack) else (["docker", "exec", containers("wsgi")[0]], "8001")
    run(*here, "python3", "-c", code, port, request.hex())


@contextmanager
def sick(stack: Stack, service: str) -> Iterator[str]:
    """Let one replica of the service fail at once, for the time of a `with`; yield its name."""
    name = f"{service}-2"
    inside: tuple[str, ...] = ()
    if not isinstance(stack, LocalStack):
        name = containers(service)[0][:12]
        inside = ("docker", "exec", name)
    run(*inside, "touch", f"/tmp/sick-{name}")
    try:
        yield name
    finally:
        run(*inside, "rm", f"/tmp/sick-{name}")


@pytest.mark.parametrize("kind", ["retriable", "sent_once", "streams"])
def test_a_replica_that_fails_at_once_is_ejected_and_comes_back(odd: Stack, service: str, kind: str) -> None:
    headers = {"Accept": "text/event-stream"} if kind == "streams" else {}
    method = "POST" if kind == "sent_once" else "GET"
    counted: list[Counter[str]] = []
    with sick(odd, service), ThreadPoolExecutor(12) as clients:
        for _ in range(4):
            end = time.monotonic() + 1

            def ask(_: int, end: float = end) -> Counter[str]:
                seen: Counter[str] = Counter()
                with httpx.Client(headers=headers, timeout=10) as client:
                    while time.monotonic() < end:
                        seen[str(client.request(method, f"{odd.url}/{service}/slow").status_code)] += 1
                return seen

            counted.append(sum(clients.map(ask, range(12)), Counter()))
    print([dict(second) for second in counted])
    assert set(counted[0]) <= {"200", "500"}
    assert counted[0]["500"] < 0.4 * counted[0].total() + 10  # a busy machine may answer few at first
    later = counted[2] + counted[3]
    assert later["500"] < 0.05 * later.total() + 10
    assert f"Server {service}_{kind}/" in odd.log("haproxy")
    wait_until(lambda: odd.up_servers(service, kind) == 3, "it is back", 30)


def test_a_route_that_fails_everywhere_ejects_no_replica(odd: Stack, service: str) -> None:
    before = odd.log("haproxy").count("is ejected")
    fails = Load(f"{odd.url}/{service}/fails", clients=6)
    with fails, Load(f"{odd.url}/{service}/slow", clients=4) as works:
        for _ in range(20):
            time.sleep(0.2)
            assert odd.up_servers(service) == 3
    assert set(fails.outcomes) == {"500"}
    assert not works.failures
    assert odd.log("haproxy").count("is ejected") == before
