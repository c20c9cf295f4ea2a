"""Requests are spread over the replicas. No request fails when replicas start, die or stop."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from handle import run, wait_until
from load import Load
from stack import Stack


def test_requests_are_spread_over_all_replicas(client: httpx.Client, stack: Stack, service: str) -> None:
    answers = [client.get(f"/{service}/whoami").json()["instance"] for _ in range(90)]
    shares = {instance: answers.count(instance) for instance in answers}
    assert len(shares) == 3
    assert min(shares.values()) >= 15, shares


def test_requests_that_wait_overlap_in_each_replica(stack: Stack, service: str) -> None:
    def wait(count: int) -> float:
        began = time.monotonic()
        with ThreadPoolExecutor(count) as together:
            url = f"{stack.url}/{service}/wait?seconds=1"
            answers = [together.submit(httpx.get, url, timeout=30) for _ in range(count)]
        assert {answer.result().status_code for answer in answers} == {200}
        return time.monotonic() - began

    alone = wait(1)
    assert wait(12) < 3 * alone  # would be 4 times if each of three replicas ran its four one after the other


def test_a_replica_that_is_killed_costs_no_get_and_comes_back(stack: Stack, service: str) -> None:
    instances = stack.instances(service)
    assert len(instances) == 3
    victim = min(instances)
    before = stack.pids(victim)
    with Load(f"{stack.url}/{service}/json", clients=6) as load:  # the other replicas have slots for these
        wait_until(lambda: load.outcomes.total() > 100, "the load runs")
        stack.kill(*before)
        wait_until(lambda: stack.instances(service) == instances, "the replica is back")
    assert not load.failures
    assert stack.pids(victim) != before
    stack.wait_whole()


@pytest.mark.parametrize("process", ["master", "worker"])
def test_one_process_of_a_wsgi_replica_that_is_killed_costs_no_get(stack: Stack, process: str, often: bool) -> None:
    instances = stack.instances("wsgi")
    victims = sorted(instances) if often else [min(instances)]
    with Load(f"{stack.url}/wsgi/json", clients=6) as load:  # the other replicas have slots for these
        for victim in victims:
            master, worker = stack.pids(victim)[:2]
            stack.kill(master if process == "master" else worker)
            # A worker serves for up to a second after its master died; then two replicas would be down at once.
            for pid in (master, worker) if process == "master" else (worker,):
                wait_until(partial(has_ended, pid), "the process has ended")
            wait_until(lambda: stack.instances("wsgi") == instances, "all replicas answer")
            stack.wait_whole()
    assert not load.failures


@pytest.mark.compose
def test_a_new_replica_gets_work_once_it_is_ready(stack: Stack, service: str) -> None:
    old = stack.instances(service)
    run("docker", "compose", "up", "--detach", "--no-recreate", "--wait", f"--scale={service}=4")
    try:
        ready = time.monotonic()
        wait_until(lambda: stack.instances(service) > old, "the new replica answers")
        print(f"the new replica of {service} got work {time.monotonic() - ready:.1f} s after it was ready")
    finally:
        run("docker", "compose", "up", "--detach", "--no-recreate", f"--scale={service}=3")
    stack.wait_whole()


@pytest.mark.compose
def test_haproxy_starts_before_and_without_its_backends(stack: Stack) -> None:
    stack.down()
    run("docker", "compose", "up", "--detach", "--build", "--no-deps", "haproxy")
    wait_until(lambda: answers(stack, "/"), "HAProxy answers")
    for service in ("wsgi", "asgi"):
        answer = httpx.get(f"{stack.url}/{service}/json")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
    run("docker", "compose", "up", "--detach", "--build", "asgi")
    wait_until(lambda: answers(stack, "/asgi/json"), "the first service answers")
    assert httpx.get(f"{stack.url}/wsgi/json").status_code == 503
    run("docker", "compose", "up", "--detach", "--build", "wsgi")
    wait_until(lambda: answers(stack, "/wsgi/json"), "the second service answers")
    stack.wait_whole()


@pytest.mark.compose
def test_when_compose_up_returns_the_very_first_request_is_answered(stack: Stack) -> None:
    stack.down()
    run("docker", "compose", "up", "--build", "--wait")
    for service in ("wsgi", "asgi"):
        for path in ("json", "whoami"):
            assert httpx.get(f"{stack.url}/{service}/{path}").status_code == 200
        with httpx.stream("GET", f"{stack.url}/{service}/events") as answer:
            assert answer.status_code == 200
    stack.settings = {}


def has_ended(pid: int) -> bool:
    """Return whether the process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def answers(stack: Stack, path: str) -> bool:
    """Return whether the path returns 200."""
    try:
        return httpx.get(f"{stack.url}{path}").status_code == 200
    except httpx.TransportError:
        return False
