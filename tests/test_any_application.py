"""WSGI_APP and ASGI_APP host any callable; a failed import is reported in one line."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from handle import ROOT, SERVICES, run, wait_until
from load import Load
from stack import Stack, status
from traffic import masked
from ways import LocalStack

FOREIGN = {
    "WSGI_APP": "foreign.wsgi:application",
    "ASGI_APP": "foreign.asgi:application",
    "PYTHONPATH": str(ROOT / "tests"),
    "ACCESS_LOG": "problems",
    "DRAIN_SECONDS": "3",
    "COMPOSE_FILE": "compose.yaml:tests/foreign/compose.yaml",
}


@pytest.fixture(scope="module")
def foreign(any_stack: Stack) -> Stack:
    """The stack with, on each service, an application that was not written for it."""
    any_stack.up(**FOREIGN)
    any_stack.wait_whole()
    return any_stack


def replica(stack: Stack, service: str) -> str:
    """Return the name of a replica, for an application that does not report it."""
    if isinstance(stack, LocalStack):
        return f"{service}-1"
    return run("docker", "compose", "ps", "--quiet", service).stdout.split()[0]


def test_a_foreign_application_sees_client_scheme_and_prefix(foreign: Stack, service: str) -> None:
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Proto": "https"}
    refused = httpx.get(f"{foreign.url}/nothing").headers["x-request-id"]
    (logged,) = wait_until(
        lambda: [line for line in foreign.access_log() if line["request_id"] == refused], "it is logged"
    )
    answer = httpx.post(f"{foreign.url}/{service}/a/b%20c", content=b"x" * 1000, headers=lies)
    assert answer.json() == {
        "client": logged["client"],
        "scheme": "http",
        "prefix": f"/{service}",
        "path": "/a/b c",
        "size": 1000,
    }


EVENTS = {"Accept": "text/event-stream"}


def test_a_head_of_an_event_stream_leaves_its_connection_to_the_next_request(foreign: Stack, service: str) -> None:
    with httpx.Client(base_url=f"{foreign.url}/{service}", headers=EVENTS, timeout=10) as client:
        for _ in range(8):  # more than there are slots for streams
            assert client.head("/feed").status_code == 200
            assert client.get("/x").status_code == 200


def test_a_foreign_application_is_drained_without_loss(foreign: Stack) -> None:
    victims = {service: replica(foreign, service) for service in SERVICES}
    with ThreadPoolExecutor(20) as background, ExitStack() as running:
        feeds, loads, opened = {}, [], list[str]()
        for service in SERVICES:
            base = f"{foreign.url}/{service}"
            paths = ["quiet"] * 5 + ["feed"]  # comments only, as heartbeats; and events
            feeds[service] = [background.submit(feed_lines, f"{base}/{path}", 8, opened) for path in paths]
            loads += [Load(f"{base}/x", clients=2), Load(f"{base}/x", clients=2, method="POST", content=b"y")]
        for load in loads:
            running.enter_context(load)
        wait_until(lambda: len(opened) == 12, "the feeds are open")
        for stopped in [background.submit(foreign.stop, victim) for victim in victims.values()]:
            stopped.result()
        running.close()
        for load in loads:
            assert not load.failures
        for victim in victims.values():
            foreign.start(victim)
        for service in SERVICES:
            ended = [[line for line in lines if line != ":"] for feed in feeds[service] if (lines := feed.result())]
            assert len(ended) in (1, 2, 3), "those of the replica that left end, and no other"
            for *_, data, blank, retry, last in ended:
                assert data.startswith("data:")
                assert retry.startswith("retry: ")
                assert blank == last == ""
            assert "Traceback" not in foreign.log(service)
    foreign.wait_whole()


def test_a_large_answer_to_a_slow_reader_outlives_the_drain(foreign: Stack) -> None:
    """The application sent everything at once, and most of it waits in the server."""
    victim = replica(foreign, "asgi")
    with ExitStack() as opened, ThreadPoolExecutor() as background:
        asked = [httpx.stream("GET", f"{foreign.url}/asgi/large", headers=EVENTS, timeout=30) for _ in range(3)]
        answers = [opened.enter_context(one) for one in asked]  # one on each replica
        stopped = background.submit(foreign.stop, victim)
        time.sleep(8)
        assert [len(answer.read()) for answer in answers] == [30_000_000] * 3
        stopped.result()
    foreign.start(victim)
    foreign.wait_whole()


def test_a_stream_that_fails_at_its_begin_and_at_its_end_holds_no_place(foreign: Stack) -> None:
    for _ in range(8):
        assert httpx.get(f"{foreign.url}/wsgi/breaks", headers=EVENTS).status_code == 500
    with httpx.stream("GET", f"{foreign.url}/wsgi/feed", headers=EVENTS) as feed:
        assert feed.status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("begins-anew", 500, b"sorry"),
        ("fails-late", 500, None),
        ("loses-its-database", 500, None),
        ("exits", 500, None),
        ("empty-file", 200, b""),
        ("file", 200, b"x" * 100_000),
        ("complains", 200, None),
    ],
)
def test_what_pep_3333_allows_is_answered_once_and_whole(
    foreign: Stack, path: str, status: int, body: bytes | None
) -> None:
    before = masked(foreign, "wsgi")
    with httpx.Client(base_url=f"{foreign.url}/wsgi") as client:
        for _ in range(6):
            answer = client.get(f"/{path}")
            assert answer.status_code == status
            assert body is None or answer.content == body
            assert client.get("/x").status_code == 200  # fails if the connection was left in a bad state
    assert masked(foreign, "wsgi") == before, "it was asked again"


def test_an_answer_that_is_shorter_than_announced_ends_at_once(foreign: Stack) -> None:
    for path in ("short", "short-file"):
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{foreign.url}/wsgi/{path}", timeout=5)


def test_complaints_of_a_wsgi_application_are_lines_of_the_log_and_wait_for_nobody(foreign: Stack) -> None:
    with foreign.logs_blocked(), httpx.Client(base_url=f"{foreign.url}/wsgi", timeout=10) as client:
        for _ in range(400):  # of 1,000 bytes each; a pipe holds 64 KiB
            assert client.get("/complains").status_code == 200
    with Load(f"{foreign.url}/wsgi/complains", clients=12):
        time.sleep(2)
    wait_until(
        lambda: '"logger": "wsgi.errors", "message": "something is wrong"' in foreign.log("wsgi"), "it is logged"
    )
    assert "Logging error" not in foreign.log("wsgi")


@pytest.mark.compose
@pytest.mark.parametrize("name", ["serving.py", "serving/__init__.py"])
def test_a_folder_with_the_name_of_one_of_the_servers_files_is_not_built(
    tmp_path: Path, service: str, name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    built = run("docker", "build", "--build-context", f"application={tmp_path}", f"{service}_service", check=False)
    assert built.returncode != 0
    assert f"{name.partition('/')[0]} is the server's own" in built.stderr


def feed_lines(url: str, seconds: float, opened: list[str]) -> list[str]:
    """Open a stream, add it to the open ones, and return its lines if it ended cleanly within `seconds`."""
    lines = []
    with httpx.stream("GET", url, headers={"Accept": "text/event-stream"}, timeout=30) as answer:
        assert answer.status_code == 200
        opened.append(url)
        end = time.monotonic() + seconds
        for line in answer.iter_lines():
            lines.append(line)
            if time.monotonic() > end:
                return []
    return lines


def test_the_websockets_of_a_foreign_application_are_closed_with_1012(foreign: Stack) -> None:
    with connect(f"{foreign.url.replace('http', 'ws')}/asgi/") as socket:
        socket.send("hello")
        assert socket.recv(timeout=15) == "foreign"
        foreign.stop_service("asgi")
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(timeout=15)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    foreign.start_service("asgi")
    foreign.wait_whole()


@pytest.mark.parametrize("path", ["feed", "writes"])  # with PEP 3333's iterable, and with its `write`
def test_streams_at_any_path_take_no_more_threads_than_they_may(foreign: Stack, path: str) -> None:
    time.sleep(3)  # until the replicas notice the disconnects of the previous test
    with ThreadPoolExecutor(40) as background, httpx.Client(base_url=foreign.url) as client:
        enough = threading.Event()
        feeds = [background.submit(feed_status, f"{foreign.url}/wsgi/{path}", enough) for _ in range(40)]
        try:
            for _ in range(50):
                assert client.get("/wsgi/x").status_code == 200
            wait_until(lambda: sum(feed.done() for feed in feeds) >= 34, "the others are refused")
        finally:
            enough.set()
        statuses = [feed.result() for feed in feeds]
    assert statuses.count(200) == 6, statuses
    assert statuses.count(503) == 34, statuses


def feed_status(url: str, enough: threading.Event) -> int:
    """Hold a stream until told to stop, if a slot is free, and return the status."""
    with httpx.stream("GET", url, timeout=30) as answer:
        for _ in answer.iter_lines():
            if enough.is_set():
                break
        return answer.status_code


def test_problems_logs_errors_slow_requests_and_a_sample(foreign: Stack) -> None:
    error = httpx.get(f"{foreign.url}/nothing").headers["x-request-id"]
    slow = httpx.get(f"{foreign.url}/asgi/slow").headers["x-request-id"]
    before = len(foreign.access_log())
    with Load(f"{foreign.url}/asgi/x") as load:
        wait_until(lambda: load.outcomes.total() >= 2000, "the load runs")
    logged = wait_until(lambda: log if len(log := foreign.access_log()) > before else None, "a sample is logged")
    assert {error, slow} <= {line["request_id"] for line in logged}
    assert len(logged) - before < 0.05 * load.outcomes.total()


@pytest.mark.parametrize("path", ["fails", "hollow"])
def test_an_application_that_fails_behind_its_head_gets_500_and_is_not_asked_again(
    foreign: Stack, service: str, path: str
) -> None:
    answer = httpx.get(f"{foreign.url}/{service}/{path}")
    assert answer.status_code == 500
    name = answer.headers["x-request-id"]
    (logged,) = wait_until(
        lambda: [line for line in foreign.access_log() if line["request_id"] == name], "it is logged"
    )
    assert logged["retries"] == "0"


def test_up_with_a_callable_that_does_not_import_says_so_and_leaves_nothing(any_stack: Stack, service: str) -> None:
    any_stack.down()
    variable = f"{service.upper()}_APP"
    result = run(*any_stack.up_command, env={variable: "nowhere:app"}, check=False)
    assert result.returncode == 1
    assert f"{variable}=nowhere:app cannot be served: ModuleNotFoundError: No module named 'nowhere'" in result.stderr
    with pytest.raises(httpx.ConnectError):
        httpx.get(any_stack.url)


def test_up_with_an_application_that_fails_to_start_says_why(any_stack: Stack) -> None:
    any_stack.down()
    result = run(*any_stack.up_command, env=FOREIGN | {"ASGI_APP": "foreign.asgi:unready"}, check=False)
    assert result.returncode == 1
    assert 'RuntimeError: "the database" has gone' in result.stderr


@pytest.mark.compose
def test_a_service_that_does_not_import_takes_only_itself_down(any_stack: Stack, service: str) -> None:
    any_stack.down()
    (other,) = set(SERVICES) - {service}
    run("docker", "compose", "up", "--build", "--detach", env={f"{service.upper()}_APP": "nowhere:app"})
    wait_until(lambda: status(f"{any_stack.url}/{other}/json") not in (0, 503), "the other service answers")
    answer = httpx.get(f"{any_stack.url}/{service}/json")
    assert answer.status_code == 503
    assert answer.json()["status"] == 503

    def last_line() -> str:
        return any_stack.log(service).strip().rpartition("\n")[2]

    wait_until(lambda: "cannot be served" in last_line(), "the cause is the last line")
    any_stack.down()
