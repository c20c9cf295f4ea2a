"""The fault matrix: what a ledger counts while replicas are killed, frozen, cut off, slowed and replaced.

Unless a test says otherwise, a fault happens to a replica of each service at once, with GET, POST and streams on both.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import httpx
import pytest

from crowd import Crowd
from held import Held
from journaled import Journaled
from ledger import Ledger
from load import Load
from stack import ROOT, SERVICES, Stack, run, wait_until


@dataclass
class Traffic:
    """What a fault is to leave alone, on one service."""

    gets: Ledger
    posts: Ledger
    held: Held


@contextmanager
def traffic(journaled: Journaled, entry: str = "entry/{id}") -> Iterator[dict[str, Traffic]]:
    """Send each service 60 GET and 40 POST a second, and hold streams, from a second before the fault to one after."""
    with ExitStack() as beside:
        seen = {}
        for service in SERVICES:
            url = f"{journaled.stack.url}/{service}/{entry}"
            seen[service] = Traffic(Ledger(url, 60), Ledger(url, 40, "POST"), Held(journaled.stack.url, service))
            for each in (seen[service].held, seen[service].gets, seen[service].posts):
                beside.enter_context(each)
        time.sleep(1)
        yield seen
        time.sleep(1)


@contextmanager
def quick_traffic(journaled: Journaled) -> Iterator[dict[str, Traffic]]:
    """Send 60 GET a second to a quick route, none of which may fail or be sent more than twice, and 20 POST."""
    logged = len(journaled.stack.access_log())
    with ExitStack() as beside:
        seen = {}
        for service in SERVICES:
            base = f"{journaled.stack.url}/{service}"
            gets, posts = Ledger(f"{base}/json", 60), Ledger(f"{base}/entry/{{id}}", 20, "POST")
            seen[service] = Traffic(gets, posts, Held(journaled.stack.url, service))
            for each in (seen[service].held, gets, posts):
                beside.enter_context(each)
        time.sleep(1)
        yield seen
        journaled.stack.wait_whole()
    # What waited for a replica in vain took over a second, so it is logged.
    again = [int(line["retries"]) for line in journaled.stack.access_log()[logged:] if line["uri"].endswith("/json")]
    print(f"GETs that took long: {len(again)}, sent again: {sum(map(bool, again))}")
    assert set(again) <= {0, 1}
    assert any(again), "no GET was on its way to the replica"
    for sent in seen.values():
        found = journaled.account(sent.posts)
        assert not sent.gets.failures
        assert not found.lost
        assert not found.doubled
        sent.held.assert_no_event_was_lost_or_repeated()


def masked(stack: Stack) -> dict[str, int]:
    """Return HAProxy's count of retries and redispatches since it started."""
    rows = [row for row in stack.statistics() if row["svname"] == "BACKEND"]
    return {name: sum(int(row[name] or 0) for row in rows) for name in ("wretr", "wredis")}


def assert_kept(journaled: Journaled, seen: dict[str, Traffic], in_flight: dict[str, int] | None = None) -> None:
    """Check the promises: no GET fails, no POST is lost or doubled, and of a service only so many in flight fail."""
    print(f"masked by HAProxy so far: {masked(journaled.stack)}")
    for service, sent in seen.items():
        gets, posts = journaled.account(sent.gets), journaled.account(sent.posts)
        count = len(sent.gets.sent) + len(sent.posts.sent)
        print(f"{service}: {count} sent, POST failed {sent.posts.failures}, p99 {sent.gets.percentile(0.99):.3f} s")
        if sent.held.outages:
            print(f"  {len(sent.held.outages)} streams came back within {max(sent.held.outages):.1f} s")
        assert not sent.gets.failures
        assert gets.most_runs <= 2
        assert not posts.lost
        assert not posts.doubled
        assert sum(sent.posts.failures.values()) <= (in_flight or {}).get(service, 0), sent.posts.failures
        assert set(sent.posts.failures) <= cut_off(journaled.stack, service), sent.posts.failures
        sent.held.assert_no_event_was_lost_or_repeated()


def assert_streams_stayed(seen: dict[str, Traffic]) -> None:
    """Check that no stream has ended."""
    for sent in seen.values():
        assert not sent.held.closed
        assert not sent.held.outages


def cut_off(stack: Stack, service: str) -> set[str]:
    """Return what a client may see of a POST whose replica dies: a 502 or, from a reused connection, nothing."""
    if stack.haproxy_is_old():
        return {"502", "IncompleteReadError", "ConnectionResetError"}
    return {"502"} if service == "wsgi" else {"502", "IncompleteReadError"}


def victims(stack: Stack) -> list[str]:
    """Return the name of a replica of each service."""
    return [min(stack.instances(service)) for service in SERVICES]


def is_given_up(stack: Stack) -> bool:
    """Tell whether each service is down to two replicas."""
    return all(stack.up_servers(service) == 2 for service in SERVICES)


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


IN_FLIGHT = {"wsgi": 4, "asgi": 12}  # the most on one replica: its places; far more than so few requests take


@pytest.mark.parametrize("process", ["first", "last"])
def test_killing_a_process_costs_only_the_posts_in_flight_there(journaled: Journaled, process: str) -> None:
    """The first is gunicorn's master, in a container also what ends it; the last is the one that serves."""
    stack = journaled.stack
    before = {service: stack.instances(service) for service in SERVICES}
    names = [min(instances) for instances in before.values()]
    with traffic(journaled, "entry/{id}?seconds=0.05") as seen:
        killed = {stack.pids(name)[0 if process == "first" else -1] for name in names}
        stack.kill(*killed)
        wait_until(lambda: before == {service: stack.instances(service) for service in SERVICES}, "they are back")
    assert_kept(journaled, seen, IN_FLIGHT)
    stack.wait_whole()
    assert not killed & {pid for name in names for pid in stack.pids(name)}


@pytest.mark.compose
@pytest.mark.full
def test_killing_a_container_costs_only_the_posts_in_flight_there(journaled: Journaled) -> None:
    """To Docker a kill from the host is a stop by hand: nothing starts it again."""
    names = victims(journaled.stack)
    with traffic(journaled, "entry/{id}?seconds=0.05") as seen:
        run("docker", "kill", *names)
        time.sleep(3)
    assert_kept(journaled, seen, IN_FLIGHT)
    run("docker", "start", *names)
    journaled.stack.wait_whole()


def test_a_frozen_replica_costs_no_get_on_a_quick_route(journaled: Journaled) -> None:
    stack = journaled.stack
    wsgi, asgi = victims(stack)
    with quick_traffic(journaled) as seen:
        frozen = time.monotonic()
        with stack.frozen(wsgi), stack.frozen(asgi):
            wait_until(partial(is_given_up, stack), "they are out of rotation")
            print(f"out of rotation after {time.monotonic() - frozen:.1f} s; masked: {masked(stack)}")
            time.sleep(3)
    for sent in seen.values():
        assert not sent.posts.failures, "a POST is answered late, once its replica goes on"


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


def test_a_reload_loses_nothing(journaled: Journaled, pytestconfig: pytest.Config) -> None:
    often = pytestconfig.getoption("--full")
    processes = haproxy_processes(journaled.stack)
    with traffic(journaled) as seen:
        for _ in range(100 if often else 5):
            run("./scripts/reload")
            time.sleep(0.5)  # else some twenty old processes, with checks of their own, share a processor
    assert_kept(journaled, seen)
    wait_until(lambda: haproxy_processes(journaled.stack) == processes, "the old processes have ended")
    if not often:  # a hundred take longer than hard-stop-after lets an old process live
        assert_streams_stayed(seen)


def haproxy_processes(stack: Stack) -> int:
    """Return how many processes HAProxy has: a master, a worker, and those that end after a reload."""
    return sum(name.endswith(" haproxy") for name in stack.processes())


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


@pytest.mark.compose
def test_logs_that_nobody_reads_cost_nothing(journaled: Journaled) -> None:
    """The pipes hold 64 KiB: the load fills those of HAProxy and of every replica at once."""
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
        run("dd", "if=/dev/zero", f"of={filler}", "bs=64k", check=False)  # until there is no space
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
    """Return how many of HAProxy's DNS queries were not sent, or not answered in time, since it started."""
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
def test_rolling_replacement_loses_nothing(journaled: Journaled, pytestconfig: pytest.Config) -> None:
    stack = journaled.stack
    with traffic(journaled) as quiet:
        time.sleep(3)
    assert_kept(journaled, quiet)
    with traffic(journaled) as seen:
        for _ in range(5 if pytestconfig.getoption("--full") else 1):
            before = {service: stack.instances(service) for service in SERVICES}
            assert "all replicas are new" in run("./scripts/roll").stdout
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
    application = ROOT / f"{service}_service/serving.py"
    good = application.read_text()
    try:
        application.write_text(code + "\n")
        with traffic(journaled) as seen:
            refused = run("./scripts/roll", service, check=False, seconds=400)
    finally:
        application.write_text(good)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert_kept(journaled, seen)
    assert_streams_stayed(seen)
    assert journaled.stack.instances(service) == before
    # What the next `up` would start is the old image still.
    run("docker", "compose", "up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
    assert set(run("docker", "compose", "images", "--quiet", service).stdout.split()) == set(image.split())
    journaled.stack.wait_whole()


@pytest.mark.compose
@pytest.mark.full
def test_scaling_out_and_in_loses_nothing(journaled: Journaled) -> None:
    stack = journaled.stack
    with traffic(journaled) as seen:
        scale(6)
        wait_until(lambda: all(len(stack.instances(service)) == 6 for service in SERVICES), "six of each answer")
        scale(3)
    assert_kept(journaled, seen)
    assert set(seen["asgi"].held.closed) <= {1012}
    stack.wait_whole()


def scale(replicas: int) -> None:
    """Run so many replicas of each service, and leave HAProxy alone."""
    scales = [f"--scale={service}={replicas}" for service in SERVICES]
    run("docker", "compose", "up", "--detach", "--no-recreate", *scales)


@pytest.mark.compose
@pytest.mark.full
def test_a_restart_of_haproxy_loses_nothing_that_was_acknowledged(journaled: Journaled) -> None:
    """There is one HAProxy, so clients notice; how long is printed."""
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


@pytest.mark.compose
def test_of_a_service_whose_replicas_fail_every_check_the_replicas_are_asked_all_the_same(journaled: Journaled) -> None:
    """All are frozen until HAProxy has given them up; then they go on, and answer before a check finds that out."""
    stack = journaled.stack
    names = [name for service in SERVICES for name in stack.instances(service)]
    with ExitStack() as frozen:
        for name in names:
            frozen.enter_context(stack.frozen(name))
        wait_until(lambda: not any(stack.up_servers(service) for service in SERVICES), "all are given up")
        gets = [Ledger(f"{stack.url}/{service}/whoami", 5) for service in SERVICES]
        posts = [Ledger(f"{stack.url}/{service}/entry/{{id}}", 5, "POST") for service in SERVICES]
        with ExitStack() as asking:
            for ledger in (*gets, *posts):
                asking.enter_context(ledger)
            time.sleep(1)
            frozen.close()
    for ledger in (*gets, *posts):
        assert not ledger.failures
    for ledger in posts:
        found = journaled.account(ledger)
        assert not found.lost
        assert not found.doubled
    told = {line["backend"] for line in stack.access_log()}
    assert told >= {"wsgi_fail_open", "asgi_fail_open"}
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
    entry = "entry/{id}?seconds=0.4"  # so long that some are in flight on each replica
    with (
        Ledger(f"{stack.url}/{honoured}/entry/{{id}}?seconds=0.1", 30, "POST", keyed=True) as safe,
        Ledger(f"{stack.url}/{other}/{entry}", 20, "POST", keyed=True) as unsafe,
        Ledger(f"{stack.url}/{honoured}/{entry}", 20, "POST") as keyless,
    ):
        time.sleep(1)
        stack.kill(*(pid for name in victims(stack) for pid in stack.pids(name)))
        time.sleep(1)
    for ledger in (safe, unsafe, keyless):
        found = journaled.account(ledger)
        assert not found.lost
        assert not found.doubled
    assert not safe.failures
    for service, ledger in ((other, unsafe), (honoured, keyless)):
        assert 1 <= sum(ledger.failures.values()) <= 12, ledger.failures
        assert set(ledger.failures) <= cut_off(stack, service), ledger.failures
    stack.wait_whole()
