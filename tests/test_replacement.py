"""Reload, roll and scale cost nothing under load; and the cost of restarting HAProxy.

GET, POST and streams run on both services meanwhile, and a ledger counts their outcomes.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from crowd import Crowd
from handle import ROOT, SERVICES, run, wait_until
from held import Held
from journaled import Journaled
from ledger import Ledger
from stack import Stack
from traffic import assert_kept, assert_streams_stayed, traffic


def test_a_reload_loses_nothing(journaled: Journaled, often: bool) -> None:
    processes = haproxy_processes(journaled.stack)
    with traffic(journaled) as seen:
        for _ in range(100 if often else 3):
            run("./scripts/reload")
            time.sleep(0.5)  # else some twenty old processes, each with health checks, share one CPU
    assert_kept(journaled, seen)
    wait_until(lambda: haproxy_processes(journaled.stack) == processes, "the old processes have ended")
    if not often:  # 100 reloads outlast hard-stop-after
        assert_streams_stayed(seen)


@pytest.mark.full
def test_a_reload_under_saturation_costs_no_replica(journaled: Journaled) -> None:
    """The old process and the new one each send a replica as many requests as its limits allow."""
    stack = journaled.stack
    slow = [Ledger(f"{stack.url}/wsgi/entry/{{id}}?seconds=2", 7, method) for method in ("GET", "POST")]
    with slow[0], slow[1]:
        for _ in range(3):
            time.sleep(2)
            run("./scripts/reload")
            for _ in range(10):
                assert stack.up_servers("wsgi") == stack.up_servers("wsgi", "sent_once") == 3
                time.sleep(0.2)
    for ledger in slow:
        assert set(ledger.failures) <= {"503"}, ledger.failures
        assert len(ledger.acknowledged) > 20


def haproxy_processes(stack: Stack) -> int:
    """Return the number of HAProxy's processes: a master, a worker, and old workers after a reload."""
    return sum(name.endswith(" haproxy") for name in stack.processes())


def test_a_reload_refuses_a_bad_configuration_and_the_old_one_serves_on(journaled: Journaled) -> None:
    """The check uses the settings that HAProxy was started with, not the current environment."""
    bad = '\n.if streq("${ACCESS_LOG-all}",problems)\nnonsense\n.endif\n'
    with changed(ROOT / "haproxy/haproxy.cfg", by=lambda good: good + bad):
        refused = run("./scripts/reload", env={"ACCESS_LOG": "all"}, check=False)
    assert refused.returncode == 2
    assert "nonsense" in refused.stderr
    assert "keeps serving" in refused.stderr
    assert httpx.get(f"{journaled.stack.url}/asgi/json").status_code == 200


@contextmanager
def changed(*files: Path, by: Callable[[str], str]) -> Iterator[None]:
    """Change files of the repository during a `with` block."""
    texts = {file: file.read_text() for file in files}
    try:
        for file, good in texts.items():
            file.write_text(by(good))
        yield
    finally:
        for file, good in texts.items():
            file.write_text(good)


@pytest.mark.compose
def test_rolling_replacement_loses_nothing(journaled: Journaled, often: bool) -> None:
    stack = journaled.stack
    applications = [ROOT / f"{service}_service/app.py" for service in SERVICES]
    with traffic(journaled) as quiet:  # the baseline for response times
        time.sleep(20 if often else 3)
    assert_kept(journaled, quiet)
    with traffic(journaled) as seen:
        for number in range(5 if often else 1):
            before = {service: stack.instances(service) for service in SERVICES}
            greeting = f"Hello, {number}!"
            with changed(*applications, by=partial(re.sub, "Hello, World!", greeting)):
                assert "all replicas are new" in run("./scripts/roll").stdout
            for service in SERVICES:
                assert httpx.get(f"{stack.url}/{service}/plaintext").text == greeting
        run("./scripts/reload")  # the replicas are in other server slots now than after a start
    assert_kept(journaled, seen)
    assert set(seen["asgi"].held.closed) == {1012}, [
        line for line in stack.log("haproxy").splitlines() if "asgi_streams" in line
    ][-60:]
    stack.wait_whole()
    for service in SERVICES:
        after = stack.instances(service)
        assert len(after) == 3
        assert not after & before[service]


@pytest.mark.compose
@pytest.mark.full
def test_rolling_replacement_replaces_a_replica_that_is_down_as_well(journaled: Journaled) -> None:
    before = journaled.stack.instances("wsgi")
    run("docker", "kill", min(before))
    run("./scripts/roll", "wsgi")
    journaled.stack.wait_whole()
    after = {name[:12] for name in run("docker", "compose", "ps", "--all", "--quiet", "wsgi").stdout.split()}
    assert after == journaled.stack.instances("wsgi")
    assert not after & before


@pytest.mark.compose
@pytest.mark.full
@pytest.mark.parametrize(
    ("service", "code", "says"),
    [
        ("wsgi", 'raise RuntimeError("a bad day")', "RuntimeError: a bad day"),
        ("asgi", 'raise RuntimeError("a bad day")', "RuntimeError: a bad day"),
        ("asgi", 'import time\nprint("never ready", flush=True)\ntime.sleep(600)', "never ready"),
    ],
)
def test_a_bad_image_is_not_rolled_out_and_costs_nothing(
    journaled: Journaled, service: str, code: str, says: str
) -> None:
    before = journaled.stack.instances(service)
    image = run("docker", "compose", "images", "--quiet", service).stdout
    with changed(ROOT / f"{service}_service/serving.py", by=lambda _: code + "\n"), traffic(journaled) as seen:
        refused = run("./scripts/roll", service, check=False, seconds=400)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert_kept(journaled, seen)
    assert_streams_stayed(seen)
    assert journaled.stack.instances(service) == before
    # The next `up` would still start the old image.
    run("docker", "compose", "up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
    assert set(run("docker", "compose", "images", "--quiet", service).stdout.split()) == set(image.split())
    journaled.stack.wait_whole()


@pytest.mark.compose
@pytest.mark.full
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("when", ["starting", "1 of 3"])
def test_a_rolling_replacement_that_is_interrupted_costs_nothing_and_says_what_it_leaves(
    journaled: Journaled, when: str, sent: signal.Signals
) -> None:
    """Before the new replicas are ready, roll removes them. Later, the next one drains the old ones that are left."""
    before = journaled.stack.instances("wsgi")
    with traffic(journaled) as seen:
        roll = subprocess.Popen(
            ["./scripts/roll", "wsgi"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=partial(signal.signal, sent, signal.SIG_DFL),  # nohup and background jobs may ignore it
        )
        assert roll.stdout is not None
        next(line for line in roll.stdout if when in line)
        os.killpg(roll.pid, sent)
        _, complaints = roll.communicate()
        if when != "starting":
            assert complaints.rpartition(": ")[2] == "./scripts/roll wsgi\n"
            assert "an interrupted roll has left" in run("./scripts/roll", "wsgi").stdout
    assert roll.returncode == 1
    assert_kept(journaled, seen)
    journaled.stack.wait_whole()
    after = journaled.stack.instances("wsgi")
    assert after == before if when == "starting" else len(after) == 3 and not after & before


@pytest.mark.compose
@pytest.mark.full
def test_scaling_out_and_in_loses_nothing(journaled: Journaled) -> None:
    stack = journaled.stack
    with traffic(journaled) as seen:
        scale(6)
        wait_until(lambda: all(len(stack.instances(service)) == 6 for service in SERVICES), "six of each answer")
        # Whichever replicas are removed must hold streams. The new ones have the fewest, so these streams open there.
        with Held(stack.url, "wsgi") as wsgi, Held(stack.url, "asgi") as asgi:
            wait_until(lambda: all(map(all, (wsgi.events, asgi.events))), "they are open")
            scale(3)
            time.sleep(1)
    assert_kept(journaled, seen)
    for held in (wsgi, asgi):
        held.assert_no_event_was_lost_or_repeated()
    assert {*seen["asgi"].held.closed, *asgi.closed} == {1012}
    assert wsgi.outages + seen["wsgi"].held.outages, "no stream was on a removed replica"
    stack.wait_whole()


@pytest.mark.compose
@pytest.mark.full
def test_roll_refuses_more_replicas_than_haproxy_has_slots_for_twice(stack: Stack) -> None:
    compose = ("docker", "compose", "up", "--no-recreate", "--no-deps")
    try:
        run(*compose, "--no-start", "--scale=wsgi=9", "wsgi")
        refused = run("./scripts/roll", "wsgi", check=False)
    finally:
        run(*compose, "--detach", "--scale=wsgi=3", "wsgi")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "wsgi has 9 replicas; a roll needs twice as many slots, but HAProxy has 16" in refused.stderr


def scale(replicas: int) -> None:
    """Scale each service to that many replicas, and return when all are healthy."""
    run("docker", "compose", "up", "--detach", "--wait", *(f"--scale={service}={replicas}" for service in SERVICES))


@pytest.mark.compose
@pytest.mark.full
def test_a_restart_of_haproxy_loses_nothing_that_was_acknowledged(journaled: Journaled) -> None:
    """There is only one HAProxy, so clients notice. The test prints for how long."""
    url = f"{journaled.stack.url}/asgi"
    with Crowd(f"{url}/json", 100) as gets, Ledger(f"{url}/entry/{{id}}", 40, "POST") as posts:
        time.sleep(1)
        run("docker", "compose", "restart", "haproxy")
        wait_until(lambda: gets.outcomes.get(gets.sent[-20]) == "200", "it answers again")
    found = journaled.account(posts)
    print(f"{sum(gets.failures.values()) / 100:.1f} s without an answer: {gets.failures}")
    assert not found.lost
    assert not found.doubled
    assert httpx.get(f"{url}/json").status_code == 200
    journaled.stack.wait_whole()
