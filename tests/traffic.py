"""What a fault or a replacement is to leave alone, requests and streams on both services, and what it must not cost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from held import Held
from journaled import Journaled
from ledger import Ledger
from stack import SERVICES, Stack


@dataclass
class Traffic:
    """What a fault is to leave alone, on one service."""

    gets: Ledger
    posts: Ledger
    held: Held


@contextmanager
def traffic(journaled: Journaled, entry: str = "entry/{id}") -> Iterator[dict[str, Traffic]]:
    """Send each service 60 GET and 40 POST a second, and hold streams, from a second before the fault to one after."""
    with sending(journaled.stack.url, entry, entry, posts_per_second=40) as seen:
        yield seen
        time.sleep(1)


@contextmanager
def sending(url: str, get: str, post: str, *, posts_per_second: int) -> Iterator[dict[str, Traffic]]:
    """Send each service 60 GET and so many POST a second, and hold streams, from a second before this yields."""
    with ExitStack() as beside:
        seen = {}
        for service in SERVICES:
            gets = Ledger(f"{url}/{service}/{get}", 60)
            posts = Ledger(f"{url}/{service}/{post}", posts_per_second, "POST")
            seen[service] = Traffic(gets, posts, Held(url, service))
            for each in (seen[service].held, gets, posts):
                beside.enter_context(each)
        time.sleep(1)
        yield seen


@contextmanager
def quick_traffic(journaled: Journaled) -> Iterator[dict[str, Traffic]]:
    """Send 60 GET a second to a quick route, none of which may fail or be sent more than twice, and 20 POST."""
    logged = len(journaled.stack.access_log())
    with sending(journaled.stack.url, "json", "entry/{id}", posts_per_second=20) as seen:
        yield seen
        journaled.stack.wait_whole()
    # What waited for a replica in vain took over a second, so it is logged.
    again = [int(line["retries"]) for line in journaled.stack.access_log()[logged:] if line["uri"].endswith("/json")]
    print(f"GETs that took long: {len(again)}, sent again: {sum(map(bool, again))}")
    assert set(again) <= {0, 1}
    assert any(again), "no GET was on its way to the replica"
    for sent in seen.values():
        found = journaled.account(sent.posts)
        assert not sent.gets.failures, sent.gets.failures
        assert not found.lost
        assert not found.doubled
        sent.held.assert_no_event_was_lost_or_repeated()


def assert_kept(journaled: Journaled, seen: dict[str, Traffic], in_flight: dict[str, int] | None = None) -> None:
    """Check the promises: no GET fails, no POST is lost or doubled, and of a service only so many in flight fail."""
    print(f"masked by HAProxy so far: {masked(journaled.stack)}")
    for service, sent in seen.items():
        gets, posts = journaled.account(sent.gets), journaled.account(sent.posts)
        count = len(sent.gets.sent) + len(sent.posts.sent)
        print(f"{service}: {count} sent, POST failed {sent.posts.failures}, p99 {sent.gets.percentile(0.99):.3f} s")
        if sent.held.outages:
            print(f"  {len(sent.held.outages)} streams came back within {max(sent.held.outages):.1f} s")
        failed = sent.gets.outcomes.keys() - sent.gets.acknowledged
        assert not failed, (sent.gets.failures, logged(journaled.stack, failed))
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


def logged(stack: Stack, entries: set[str]) -> list[dict[str, Any]]:
    """Return what HAProxy has logged of these requests."""
    return [line for line in stack.access_log() if path_of(line).rpartition("/")[2] in entries]


def path_of(line: dict[str, Any]) -> str:
    """Return the path of a line of the access log, without the query."""
    return str(line["uri"]).partition("?")[0]


def masked(stack: Stack, backend: str = "") -> dict[str, int]:
    """Return HAProxy's count of retries and redispatches since it started, of all backends or of one."""
    rows = [row for row in stack.statistics() if row["svname"] == "BACKEND" and backend in ("", row["pxname"])]
    return {name: sum(int(row[name] or 0) for row in rows) for name in ("wretr", "wredis")}


def cut_off(stack: Stack, service: str) -> set[str]:
    """Return what a client may see of a POST whose replica dies: a 502 or, from a reused connection, nothing."""
    if stack.haproxy_is_old():
        return {"502", "IncompleteReadError", "ConnectionResetError"}
    return {"502"} if service == "wsgi" else {"502", "IncompleteReadError"}
