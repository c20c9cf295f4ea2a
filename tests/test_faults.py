"""The fault matrix: what a ledger counts while replicas are killed, frozen, cut off, slowed and replaced."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from held import Held
from ledger import Account, Ledger, account
from stack import ROOT, Stack, run, wait_until

SETTINGS = {
    "WSGI_APP": "journal:wsgi",
    "ASGI_APP": "journal:asgi",
    "PYTHONPATH": str(ROOT / "tests/journal"),
    "COMPOSE_FILE": "compose.yaml:tests/journal/compose.yaml",
    "ACCESS_LOG": "problems",
}


@dataclass
class Journaled:
    """The stack with the journal on both sides, and the folder that it commits to."""

    stack: Stack
    folder: Path

    def account(self, ledger: Ledger) -> Account:
        """Compare the ledger with the journal, late commits included."""
        time.sleep(1)
        return account(ledger, self.folder)


@pytest.fixture(scope="module")
def journaled(any_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journaled]:
    folder = tmp_path_factory.mktemp("journal")
    folder.chmod(0o777)
    settings = SETTINGS | {"JOURNAL": str(folder)}
    any_stack.up(**settings)
    any_stack.wait_whole()
    with pytest.MonkeyPatch.context() as patch:  # what the tests call docker compose with
        for name, value in settings.items():
            patch.setenv(name, value)
        yield Journaled(any_stack, folder)
        any_stack.down()


@dataclass
class Traffic:
    """What a fault is to leave alone."""

    gets: Ledger
    posts: Ledger
    held: Held


@contextmanager
def traffic(journaled: Journaled, service: str, entry: str = "entry/{id}") -> Iterator[Traffic]:
    """Send 60 GET and 40 POST a second, and hold streams, from two seconds before the fault to two after it."""
    base = f"{journaled.stack.url}/{service}"
    with (
        Held(journaled.stack.url, service) as held,
        Ledger(f"{base}/{entry}", 60) as gets,
        Ledger(f"{base}/{entry}", 40, "POST") as posts,
    ):
        time.sleep(2)
        yield Traffic(gets, posts, held)
        time.sleep(2)


@contextmanager
def quick_traffic(journaled: Journaled, service: str) -> Iterator[Ledger]:
    """Send 60 GET a second to a quick route, none of which may fail, and 20 POST, none to be lost or doubled."""
    base = f"{journaled.stack.url}/{service}"
    with Ledger(f"{base}/json", 60) as gets, Ledger(f"{base}/entry/{{id}}", 20, "POST") as posts:
        time.sleep(2)
        yield posts
        journaled.stack.wait_whole()
    found = journaled.account(posts)
    assert not gets.failures
    assert not found.lost
    assert not found.doubled


def masked(stack: Stack) -> dict[str, int]:
    """Return HAProxy's count of retries and redispatches since it started."""
    rows = [row for row in stack.statistics() if row["svname"] == "BACKEND"]
    return {name: sum(int(row[name] or 0) for row in rows) for name in ("wretr", "wredis")}


def assert_kept(journaled: Journaled, seen: Traffic, in_flight: int = 0) -> None:
    """Check the promises: no GET fails, no POST is lost or doubled, and only those in flight at the fault fail."""
    gets, posts = journaled.account(seen.gets), journaled.account(seen.posts)
    print(f"masked by HAProxy so far: {masked(journaled.stack)}; p99 {seen.gets.percentile(0.99) * 1000:.0f} ms")
    assert not seen.gets.failures
    assert gets.most_runs <= 2
    assert not posts.lost
    assert not posts.doubled
    assert sum(seen.posts.failures.values()) <= in_flight, seen.posts.failures
    assert set(seen.posts.failures) <= cut_off(journaled.stack), seen.posts.failures
    seen.held.assert_no_event_was_lost_or_repeated()


def cut_off(stack: Stack) -> set[str]:
    """Return what a client may see of a POST whose replica dies: a 502 or, from a reused connection, nothing."""
    return {"RemoteProtocolError", "ReadError"} if stack.haproxy_is_old() else {"502", "RemoteProtocolError"}


def victim(stack: Stack, service: str) -> str:
    """Return the name of one of the service's replicas."""
    return min(stack.instances(service))


def test_the_ledger_finds_what_was_dropped_and_doubled_and_nothing_else(journaled: Journaled, service: str) -> None:
    base = f"{journaled.stack.url}/{service}/entry"
    with Ledger(f"{base}/{{id}}", 50, "POST") as ledger:
        time.sleep(1)
    for commits in (0, 2):
        for n in range(5):
            ledger.sent.append(entry := f"{service}-{commits}-{n}")
            ledger.outcomes[entry] = str(httpx.post(f"{base}/{entry}?commits={commits}").status_code)
    found = journaled.account(ledger)
    assert found.lost == {f"{service}-0-{n}" for n in range(5)}
    assert found.doubled == {f"{service}-2-{n}" for n in range(5)}
    assert not found.unknown
    assert not found.failed


@pytest.mark.parametrize(("service", "process"), [("wsgi", "first"), ("wsgi", "last"), ("asgi", "first")])
def test_killing_a_process_costs_only_the_posts_in_flight_there(
    journaled: Journaled, service: str, process: str
) -> None:
    """The first is gunicorn's master, in a container also what ends it; the last is the one that serves."""
    stack = journaled.stack
    instances = stack.instances(service)
    with traffic(journaled, service, "entry/{id}?seconds=0.05") as seen:
        stack.kill(stack.pids(min(instances))[0 if process == "first" else -1])
        wait_until(lambda: stack.instances(service) == instances, "the replica is back")
    assert_kept(journaled, seen, in_flight=12)
    stack.wait_whole()


def test_a_frozen_replica_costs_no_get_on_a_quick_route(journaled: Journaled, service: str) -> None:
    stack = journaled.stack
    name = victim(stack, service)
    with quick_traffic(journaled, service) as posts:
        frozen = time.monotonic()
        with stack.frozen(name):
            wait_until(lambda: stack.up_servers(service) == 2, "it is out of rotation")
            print(f"out of rotation after {time.monotonic() - frozen:.1f} s; masked: {masked(stack)}")
            time.sleep(4)
    assert not posts.failures, "a POST is answered late, once its replica goes on"


def test_what_a_replica_answers_with_5xx_is_passed_on_and_not_sent_again(journaled: Journaled, service: str) -> None:
    with Ledger(f"{journaled.stack.url}/{service}/entry/{{id}}?status=503", 40) as refused:
        time.sleep(2)
    found = journaled.account(refused)
    assert set(refused.failures) == {"503"}
    assert found.most_runs == 1
    assert found.unknown == set(refused.sent)


def test_a_reload_loses_nothing(journaled: Journaled, service: str, pytestconfig: pytest.Config) -> None:
    with traffic(journaled, service) as seen:
        for _ in range(100 if pytestconfig.getoption("--full") else 10):
            run("./scripts/reload")
    assert_kept(journaled, seen)
    assert not seen.held.closed


def test_a_reload_refuses_a_bad_configuration_and_the_old_one_serves_on(journaled: Journaled) -> None:
    config = ROOT / "haproxy/haproxy.cfg"
    good = config.read_text()
    try:
        config.write_text(good + "\nnonsense\n")
        refused = run("./scripts/reload", check=False)
    finally:
        config.write_text(good)
    assert refused.returncode == 2
    assert "nonsense" in refused.stderr
    assert "goes on serving" in refused.stderr
    assert httpx.get(f"{journaled.stack.url}/asgi/json").status_code == 200


def test_a_post_with_an_idempotency_key_is_not_sent_again_unless_the_operator_says_so(
    journaled: Journaled, service: str
) -> None:
    stack = journaled.stack
    with Ledger(f"{stack.url}/{service}/entry/{{id}}?seconds=0.2", 30, "POST", keyed=True) as posts:
        time.sleep(2)
        stack.kill(*stack.pids(victim(stack, service)))
        time.sleep(2)
    stack.wait_whole()
    assert 1 <= sum(posts.failures.values()) <= 12, posts.failures
    assert set(posts.failures) <= cut_off(stack), posts.failures


@pytest.mark.compose
def test_a_replica_whose_network_is_cut_costs_no_get_on_a_quick_route(journaled: Journaled, service: str) -> None:
    stack = journaled.stack
    container = victim(stack, service)
    with quick_traffic(journaled, service) as posts, dropped(container, "INPUT"), dropped(container, "OUTPUT"):
        wait_until(lambda: stack.up_servers(service) == 2, "it is out of rotation")
        time.sleep(3)
    assert sum(posts.failures.values()) <= 12, posts.failures


@contextmanager
def dropped(container: str, chain: str, *match: str) -> Iterator[None]:
    """Drop packets inside the container's network namespace."""
    (pid,) = run("docker", "inspect", "--format", "{{.State.Pid}}", container).stdout.split()
    rule = (chain, *(match or ("!", "-i" if chain == "INPUT" else "-o", "lo")), "-j", "DROP")
    prefix = (*(("sudo", "-n") if os.getuid() else ()), "nsenter", "-t", pid, "-n", "iptables", "-w")
    run(*prefix, "-A", *rule)
    try:
        yield
    finally:
        run(*prefix, "-D", *rule)


@pytest.mark.compose
def test_a_dns_outage_costs_nothing(journaled: Journaled, service: str, pytestconfig: pytest.Config) -> None:
    haproxy = run("docker", "compose", "ps", "--quiet", "haproxy").stdout.strip()
    with traffic(journaled, service) as seen, dropped(haproxy, "OUTPUT", "-d", "127.0.0.11"):
        time.sleep(60 if pytestconfig.getoption("--full") else 15)
    assert_kept(journaled, seen)
    assert not seen.held.closed


@pytest.mark.compose
def test_a_slow_replica_costs_nothing(journaled: Journaled, service: str) -> None:
    name = victim(journaled.stack, service)
    with traffic(journaled, service) as seen:
        run("docker", "update", "--cpus", "0.1", name)
        time.sleep(6)
        run("docker", "update", "--cpus", "1", name)
    journaled.stack.wait_whole()
    assert_kept(journaled, seen)


@pytest.mark.compose
def test_rolling_replacement_loses_nothing(journaled: Journaled, service: str) -> None:
    before = journaled.stack.instances(service)
    with traffic(journaled, service) as seen:
        told = run("./scripts/roll", service).stdout
    assert "all replicas are new" in told
    assert_kept(journaled, seen)
    assert set(seen.held.closed) <= {1012}
    journaled.stack.wait_whole()
    after = journaled.stack.instances(service)
    assert len(after) == 3
    assert not after & before


@pytest.mark.compose
def test_a_bad_image_is_not_rolled_out_and_costs_nothing(journaled: Journaled, service: str) -> None:
    before = journaled.stack.instances(service)
    image = run("docker", "compose", "images", "--quiet", service).stdout
    application = ROOT / f"{service}_service/serving.py"
    good = application.read_text()
    try:
        application.write_text('raise RuntimeError("a bad day")\n')
        with traffic(journaled, service) as seen:
            refused = run("./scripts/roll", service, check=False)
    finally:
        application.write_text(good)
    assert refused.returncode == 1
    assert "RuntimeError: a bad day" in refused.stderr
    assert_kept(journaled, seen)
    assert journaled.stack.instances(service) == before
    # What the next `up` would start is the old image still.
    run("docker", "compose", "up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
    assert set(run("docker", "compose", "images", "--quiet", service).stdout.split()) == set(image.split())
    journaled.stack.wait_whole()


def test_of_a_service_whose_replicas_fail_every_check_the_replicas_are_asked_all_the_same(
    journaled: Journaled, service: str
) -> None:
    """All are frozen until HAProxy has given them up; then they go on, and answer before a check finds that out."""
    stack = journaled.stack
    names = stack.instances(service)
    with Ledger(f"{stack.url}/{service}/whoami", 5) as asked:
        for name in names:
            stack.freeze(name)
        wait_until(lambda: stack.up_servers(service) == 0, "all are given up")
        time.sleep(1)
        for name in names:
            stack.thaw(name)
    assert "503" not in asked.failures
    stack.wait_whole()
