"""The fault matrix: what a ledger counts while replicas are killed, frozen, cut off or slowed.

Unless a test says otherwise, a fault hits one replica of each service at once, under GET, POST and streams on both.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import product, starmap

import httpx
import pytest

from handle import SERVICES, run, servers_up, wait_until
from held import Held
from journaled import Journaled
from ledger import Ledger
from load import Load
from stack import KINDS, Stack
from traffic import assert_kept, assert_streams_stayed, cut_off, logged, masked, path_of, quick_traffic, traffic


def victims(stack: Stack) -> list[str]:
    """Return the name of one replica of each service."""
    return [min(stack.instances(service)) for service in SERVICES]


def is_given_up(stack: Stack) -> bool:
    """Return whether each service is down to two replicas, in the backends with and without retries."""
    return all(stack.up_servers(service, kind) == 2 for service in SERVICES for kind in ("retriable", "sent_once"))


def all_are_busy(stack: Stack, *kinds: tuple[str, str]) -> bool:
    """Return whether each replica has a request of these services and kinds in flight."""
    rows = stack.statistics()
    return all(row["scur"] != "0" for service, kind in kinds for row in servers_up(rows, service, kind))


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


# Long enough for some to be in flight on each replica, and short enough for two replicas to have slots for all, retries
# included: if they have none, the retry hits the dead replica again.
SLOW_ENTRY = "entry/{id}?seconds=0.02"
IN_FLIGHT = {"wsgi": 4, "asgi": 12}  # at most on one replica: WSGI's slots; for ASGI far more than these requests need


@pytest.mark.parametrize("process", ["first", "last"])
def test_killing_a_process_costs_only_the_posts_in_flight_there(journaled: Journaled, process: str) -> None:
    """The first process is gunicorn's master, whose end also ends a container; the last one serves."""
    stack = journaled.stack
    before = {service: stack.instances(service) for service in SERVICES}
    names = [min(instances) for instances in before.values()]
    with traffic(journaled, SLOW_ENTRY) as seen:
        killed = {stack.pids(name)[0 if process == "first" else -1] for name in names}
        stack.kill(*killed)
        wait_until(lambda: before == {service: stack.instances(service) for service in SERVICES}, "they are back")
    assert_kept(journaled, seen, IN_FLIGHT)
    stack.wait_whole()
    assert not killed & {pid for name in names for pid in stack.pids(name)}


@pytest.mark.compose
@pytest.mark.full
def test_killing_a_container_costs_only_the_posts_in_flight_there(journaled: Journaled) -> None:
    """To Docker, a kill from the host is a manual stop: the container is not restarted."""
    names = victims(journaled.stack)
    with traffic(journaled, SLOW_ENTRY) as seen:
        run("docker", "kill", *names)
        time.sleep(3)
    run("docker", "start", *names)
    assert_kept(journaled, seen, IN_FLIGHT)
    journaled.stack.wait_whole()


@pytest.mark.compose
@pytest.mark.full
def test_running_out_of_memory_costs_only_the_posts_in_flight_there(journaled: Journaled) -> None:
    """A POST takes more memory than its container may have, and the kernel kills the serving process."""
    stack = journaled.stack
    before = serving(stack)
    with traffic(journaled, SLOW_ENTRY) as seen:
        for service in SERVICES:
            with suppress(httpx.RemoteProtocolError):
                assert httpx.post(f"{stack.url}/{service}/entry/greedy?mib=4000", timeout=60).status_code == 502
        stack.wait_whole()
    assert_kept(journaled, seen, IN_FLIGHT)
    gone = before - serving(stack)
    assert len(gone) == 2, "one process of each service should have been ended"


def serving(stack: Stack) -> set[int]:
    """Return the processes that serve requests, of every replica."""
    return {stack.pids(name)[-1] for service in SERVICES for name in stack.instances(service)}


def test_a_frozen_replica_costs_no_get_on_a_quick_route(journaled: Journaled) -> None:
    stack = journaled.stack
    wsgi, asgi = victims(stack)
    with quick_traffic(journaled) as seen:
        frozen = time.monotonic()
        with stack.frozen(wsgi), stack.frozen(asgi):
            wait_until(partial(is_given_up, stack), "they are out of rotation", 10)  # 4 s plus noise
            print(f"out of rotation after {time.monotonic() - frozen:.1f} s; masked: {masked(stack)}")
            time.sleep(3)
    for sent in seen.values():
        assert not sent.posts.failures, "a POST is answered late, when its replica resumes"


@pytest.mark.compose
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_replica_answers_with_5xx_is_passed_on_and_not_sent_again(
    journaled: Journaled, service: str, method: str
) -> None:
    with Ledger(f"{journaled.stack.url}/{service}/entry/{{id}}?status=503", 40, method) as refused:
        time.sleep(1)
    found = journaled.account(refused)
    assert set(refused.failures) == {"503"}
    assert found.most_runs == 1
    assert found.unknown == set(refused.sent)


@pytest.mark.compose
def test_logs_that_nobody_reads_cost_nothing(journaled: Journaled) -> None:
    """A pipe holds 64 KiB: the load fills the pipes of HAProxy and of every replica at once."""
    url = journaled.stack.url
    floods = [Load(f"{url}{path}", clients=2) for path in ("/nothing", "/wsgi/entry/flood", "/asgi/entry/flood")]
    with traffic(journaled) as seen, journaled.stack.logs_blocked(), ExitStack() as load:
        for flood in floods:
            load.enter_context(flood)
        wait_until(lambda: all(flood.outcomes.total() > 1500 for flood in floods), "the pipes are full")
    assert_kept(journaled, seen)
    assert_streams_stayed(seen)
    logged = sum(line["uri"] == "/nothing" for line in journaled.stack.access_log())
    assert logged < floods[0].outcomes.total(), "no line was dropped, so the pipe was not full"


@pytest.mark.compose
def test_with_a_full_disk_nothing_is_acknowledged_that_is_not_committed(journaled: Journaled) -> None:
    if not journaled.folder.is_mount():
        pytest.skip("only root can mount a small disk to fill")
    filler = journaled.folder / "filler"
    quick = {service: Ledger(f"{journaled.stack.url}/{service}/json", 20) for service in SERVICES}
    with traffic(journaled) as seen, quick["wsgi"], quick["asgi"]:
        run("dd", "if=/dev/zero", f"of={filler}", "bs=64k", check=False)  # until the disk is full
        wait_until(lambda: all(sent.posts.failures for sent in seen.values()), "commits fail")
        filler.unlink()
    for service, sent in seen.items():
        found = journaled.account(sent.posts)
        assert not found.lost
        assert not found.doubled
        assert set(sent.posts.failures) == {"500"}
        assert set(sent.gets.failures) <= {"500"}, "a GET of the journal commits as well"
        assert not quick[service].failures
        assert sent.posts.outcomes[sent.posts.sent[-1]] == "200", "it commits again"


@pytest.mark.compose
def test_a_replica_whose_network_is_cut_costs_no_get_on_a_quick_route(journaled: Journaled) -> None:
    with quick_traffic(journaled) as seen, ExitStack() as cut:
        for container in victims(journaled.stack):
            cut.enter_context(dropped(container, "INPUT"))
            cut.enter_context(dropped(container, "OUTPUT"))
        wait_until(partial(is_given_up, journaled.stack), "they are out of rotation")
        time.sleep(3)
    for service, sent in seen.items():
        assert sum(sent.posts.failures.values()) <= IN_FLIGHT[service], sent.posts.failures


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


def unanswered_queries(haproxy: str) -> int:
    """Return how many of HAProxy's DNS queries failed or timed out since it started."""
    command = "echo 'show resolvers' | socat /var/lib/haproxy/admin.sock -"
    said = run("docker", "exec", haproxy, "sh", "-c", command).stdout
    return sum(map(int, re.findall(r"(?:snd_error|timeout): *(\d+)", said)))


@pytest.mark.compose
@pytest.mark.full
def test_a_dns_outage_costs_nothing(journaled: Journaled) -> None:
    haproxy = run("docker", "compose", "ps", "--quiet", "haproxy").stdout.strip()
    before = unanswered_queries(haproxy)
    with traffic(journaled) as seen, dropped(haproxy, "OUTPUT", "-d", "127.0.0.11"):
        time.sleep(60)
    assert unanswered_queries(haproxy) > before + 10, "names could be looked up all the time"
    assert_kept(journaled, seen)
    assert_streams_stayed(seen)


@pytest.mark.compose
@pytest.mark.full
def test_a_slow_replica_costs_nothing(journaled: Journaled) -> None:
    names = victims(journaled.stack)
    with traffic(journaled) as seen:
        run("docker", "update", "--cpus", "0.1", *names)
        time.sleep(6)
        run("docker", "update", "--cpus", "1", *names)
    journaled.stack.wait_whole()
    assert_kept(journaled, seen)


@pytest.mark.compose
def test_of_a_service_whose_replicas_fail_every_check_the_replicas_are_asked_all_the_same(journaled: Journaled) -> None:
    """All are frozen until HAProxy marks them down. Then they resume, and respond before a check succeeds."""
    stack = journaled.stack
    # The WSGI replicas freeze last and so resume first, because their few slots fill meanwhile.
    names = [name for service in reversed(SERVICES) for name in stack.instances(service)]
    with ExitStack() as frozen:
        for name in names:
            frozen.enter_context(stack.frozen(name))
        wait_until(lambda: not any(starmap(stack.up_servers, product(SERVICES, KINDS))), "all are given up")
        gets = [Ledger(f"{stack.url}/{service}/whoami", 2) for service in SERVICES]
        posts = [Ledger(f"{stack.url}/{service}/entry/{{id}}", 2, "POST") for service in SERVICES]
        streams = [Held(stack.url, service) for service in SERVICES]
        with ExitStack() as asking:
            for client in (*gets, *posts, *streams):
                asking.enter_context(client)
            time.sleep(1)
            frozen.close()
    for ledger in (*gets, *posts):
        assert not ledger.failures
    for ledger in posts:
        found = journaled.account(ledger)
        assert not found.lost
        assert not found.doubled
    for held in streams:
        held.assert_no_event_was_lost_or_repeated()
    paths = ("/wsgi/whoami", "/wsgi/events", "/asgi/whoami", "/asgi/events", "/asgi/ws")
    told = {(f"{path[1:5]}_fail_open", path) for path in paths}
    wait_until(
        lambda: told <= {(line["backend"], path_of(line)) for line in stack.access_log()},
        "its log says that it failed open",
    )
    stack.wait_whole()


@pytest.mark.compose
@pytest.mark.parametrize("honoured", SERVICES)
def test_a_post_is_sent_again_only_with_a_key_that_the_operator_says_is_honoured(
    journaled: Journaled, honoured: str
) -> None:
    (other,) = set(SERVICES) - {honoured}
    journaled.start(
        **{f"{honoured.upper()}_IDEMPOTENCY_KEY": "honoured", f"{other.upper()}_IDEMPOTENCY_KEY": "ignored"}
    )
    stack = journaled.stack
    entry = "entry/{id}?seconds=0.4"  # at 12 a second, one or two are in flight on each replica
    retried = sum(masked(stack, honoured).values())
    with (
        Ledger(f"{stack.url}/{honoured}/entry/{{id}}?seconds=0.3", 12, "POST", keyed=True) as safe,
        Ledger(f"{stack.url}/{other}/{entry}", 12, "POST", keyed=True) as unsafe,
        Ledger(f"{stack.url}/{honoured}/{entry}", 12, "POST") as keyless,
    ):
        pids = [pid for name in victims(stack) for pid in stack.pids(name)]
        kinds = ((honoured, "retriable"), (honoured, "sent_once"), (other, "sent_once"))
        wait_until(partial(all_are_busy, stack, *kinds), "each replica runs a POST of each ledger")
        stack.kill(*pids)
        time.sleep(1)
    for ledger in (safe, unsafe, keyless):
        found = journaled.account(ledger)
        assert not found.lost
        assert not found.doubled
    assert not safe.failures, logged(stack, safe.outcomes.keys() - safe.acknowledged)
    assert sum(masked(stack, honoured).values()) > retried
    for service, ledger in ((other, unsafe), (honoured, keyless)):
        assert sum(ledger.failures.values()) <= 12, ledger.failures
        assert set(ledger.failures) <= cut_off(stack, service), ledger.failures
    assert unsafe.failures or keyless.failures, "no POST was in flight on a replica"
    stack.wait_whole()
