"""The two servers by themselves, without a stack around them, as an image would start them."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from socket import create_server

import httpx
import pytest

from handle import ROOT, run, wait_until
from stack import status
from test_contract import assert_problem

BROKEN = {
    "no.such.module:app": "ModuleNotFoundError: No module named 'no'",
    "json:nothing": "AttributeError: module 'json' has no attribute 'nothing'",
    "json:__name__": "TypeError: json:__name__ is a str, which is not callable",
}
OTHERS = {
    "wsgi": ("foreign.asgi:application", "it takes three arguments, as an ASGI application does; name it in ASGI_APP"),
    "asgi": ("foreign.wsgi:application", "it takes two arguments, as a WSGI application does; name it in WSGI_APP"),
}


@pytest.mark.parametrize("target", BROKEN)
def test_a_callable_that_does_not_import_is_named_in_the_last_line(service: str, target: str) -> None:
    assert_not_served(service, target, BROKEN[target])


def test_a_callable_of_the_other_interface_is_refused(service: str) -> None:
    target, cause = OTHERS[service]
    assert_not_served(service, target, f"TypeError: {cause}")


def assert_not_served(service: str, target: str, cause: str) -> None:
    """Start the service with this callable, and see that it ends with the cause in its last line."""
    variable = f"{service.upper()}_APP"
    server, _ = start_server(service, **{variable: target})
    _, said = server.communicate(timeout=60)
    assert server.returncode != 0
    assert "Traceback" in said
    assert said.splitlines()[-1] == f"{variable}={target} cannot be served: {cause}"


def test_a_callable_that_takes_any_arguments_is_served(service: str) -> None:
    """A decorated application may hide how many it takes."""
    server, url = start_server(service, **{f"{service.upper()}_APP": "foreign.odd:any_arguments"})
    try:
        wait_until(lambda: status(f"{url}/livez") == 200, "it is up")
    finally:
        server.terminate()
        server.terminate()
        server.communicate(timeout=60)


def start_server(service: str, *arguments: str, **env: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server at a free port, with the tests' applications within its reach; return it and its address."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = {"wsgi": ["gunicorn", "-c", "gunicorn.conf.py"], "asgi": ["python", *(arguments or ["server.py"])]}[
        service
    ]
    command[0] = str(ROOT / f".venv/{service}/bin/{command[0]}")
    inherited = {name: value for name, value in os.environ.items() if value}
    server = subprocess.Popen(
        command,
        cwd=ROOT / f"{service}_service",
        env=inherited | {"PYTHONPATH": str(ROOT / "tests"), "PORT": str(port)} | env,
        stderr=subprocess.PIPE,
        text=True,
    )
    return server, f"http://127.0.0.1:{port}"


def test_a_server_that_is_told_to_stop_ends_in_order() -> None:
    server, url = start_server("asgi", ASGI_APP="foreign.asgi:application")
    try:
        wait_until(lambda: status(f"{url}/asgi/at-exit") == 200, "it is up")
    finally:
        server.terminate()
        server.terminate()  # a second one ends the drain
        _, said = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "said at exit" in said


@pytest.fixture
def small() -> Iterator[str]:
    """The address of an ASGI replica that takes four requests and two streams at a time."""
    server, url = start_server("asgi", ASGI_MAXCONN="2", ASGI_STREAMS="2")
    try:
        wait_until(lambda: status(f"{url}/livez") == 200, "it is up")
        yield url
    finally:
        server.terminate()
        server.terminate()
        server.communicate(timeout=60)


def test_no_header_lets_a_client_past_the_limits_of_an_asgi_replica(small: str) -> None:
    headers = {"Accept": "text/event-stream"}
    began = time.monotonic()
    with ThreadPoolExecutor(12) as clients:
        asked = [clients.submit(httpx.get, f"{small}/wait?seconds=0.5", headers=headers, timeout=30) for _ in range(12)]
        assert {one.result().status_code for one in asked} == {200}
        assert time.monotonic() - began >= 1.5, "more than four ran at a time"
        asked = [clients.submit(httpx.get, f"{small}/wait?seconds=4", headers=headers, timeout=30) for _ in range(12)]
        refused = [one.result() for one in asked if one.result().status_code != 200]
    assert len(refused) == 8
    assert all("twice ASGI_MAXCONN" in assert_problem(one, 503)["detail"] for one in refused)


@pytest.mark.compose  # since Python 3.12, wait_for cancels what has ended in the same turn of the loop
@pytest.mark.usefixtures("stack")
def test_a_slot_that_is_released_as_a_wait_for_it_ends_is_not_lost() -> None:
    code = """if True:
        import asyncio, time
        import inflight

        async def main() -> None:
            slots, loop = inflight.Slots(0, ""), asyncio.get_running_loop()
            waiting = asyncio.create_task(slots.wait())
            await asyncio.sleep(0)
            end = loop.time() + inflight.QUEUE_SECONDS
            loop.call_at(end - 0.01, slots.release)
            loop.call_at(end - 0.02, time.sleep, 0.1)  # so the release and the end come in the same turn of the loop
            await asyncio.wait([waiting])
            print(int(waiting.result()) + slots.free)

        asyncio.run(main())"""
    assert run("docker", "compose", "exec", "-T", "asgi", "python", "-c", code).stdout == "1\n"


def test_an_asgi_replica_has_as_many_event_streams_as_its_limit(small: str) -> None:
    """Whether the request has asked for one, or the response just is one."""
    url = f"{small}/events?interval_ms=100"
    with ExitStack() as opened:
        for accept in ("text/event-stream", "*/*"):
            stream = opened.enter_context(httpx.stream("GET", url, headers={"Accept": accept}, timeout=10))
            assert stream.status_code == 200
        assert "ASGI_STREAMS" in assert_problem(httpx.get(url), 503)["detail"]
        assert status(f"{small}/json") == 200
    wait_until(lambda: httpx.head(url).status_code == 200, "a slot is free again")


@pytest.mark.full
@pytest.mark.parametrize(
    ("seconds", "requests", "replaced"), [("600", 22, True), ("1", 96, False)], ids=["hang", "work"]
)
def test_a_worker_is_replaced_if_all_its_threads_hang_and_not_if_they_work(
    seconds: str, requests: int, replaced: bool
) -> None:
    server, url = start_server("wsgi", WSGI_APP="foreign.wsgi:application", GUNICORN_CMD_ARGS="--timeout 3")
    try:
        wait_until(lambda: status(f"{url}/livez") == 200, "it is up")
        with ThreadPoolExecutor(24) as background:
            answered = list(background.map(status, [f"{url}/sleeps/{seconds}"] * requests))
        wait_until(lambda: status(f"{url}/livez") == 200, "it answers again")
    finally:
        server.terminate()
        _, said = server.communicate(timeout=60)
    assert ("WORKER TIMEOUT" in said) == replaced
    assert ("foreign/wsgi.py" in said) == replaced, "it says where the threads hang"
    assert set(answered) == ({0} if replaced else {200})


def test_a_process_whose_event_loop_is_blocked_ends_and_says_where() -> None:
    code = "import server; server.HANG_SECONDS = 3; server.main()"
    server, url = start_server("asgi", "-c", code, ASGI_APP="foreign.odd:asgi")
    try:
        wait_until(lambda: status(f"{url}/livez") == 200, "it is up")
        assert status(f"{url}/asgi/hangs") == 0
        _, said = server.communicate(timeout=30)
    finally:
        server.kill()
    assert server.returncode == 1
    assert re.search(r'odd\.py", line \d+ in asgi', said)
