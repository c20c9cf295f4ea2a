"""Requests and streams on both services that a fault or a replacement must not affect, and the checks for it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from handle import SERVICES
from held import Held
from journaled import Journaled
from ledger import Ledger
from stack import Stack


@dataclass
class Traffic:
    """The requests and streams on one service that a fault must not affect."""

    gets: Ledger
    posts: Ledger
    held: Held


@contextmanager
def traffic(journaled: Journaled, entry: str = "entry/{id}") -> Iterator[dict[str, Traffic]]:
    """Send each service 60 GET and 40 POST a second and keep streams open, from 1 s before the fault to 1 s after."""
    with sending(journaled.stack.url, entry, entry, posts_per_second=40) as seen:
        yield seen
        time.sleep(1)


@contextmanager
def sending(url: str, get: str, post: str, *, posts_per_second: int) -> Iterator[dict[str, Traffic]]:
    """Send each service 60 GET and some POST a second and keep streams open, from 1 s before this yields."""
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
    """Send 20 POST and 60 GET a second, the GETs to a quick route. None of them may fail or be sent more than twice."""
    logged = len(journaled.stack.access_log())
    with sending(journaled.stack.url, "json", "entry/{id}", posts_per_second=20) as seen:
        yield seen
        journaled.stack.wait_whole()
    # A request that waited in vain for a replica took over 1 s, so it is logged.
    again = [int(line["retries"]) for line in journaled.stack.access_log()[logged:] if line["uri"].endswith("/json")]
    print(f"slow GETs: {len(again)}, retried: {sum(map(bool, again))}")
    assert set(again) <= {0, 1}
    assert any(again), "no GET was in flight on the replica"
    for sent in seen.values():
        found = journaled.account(sent.posts)
        assert not sent.gets.failures, sent.gets.failures
        assert not found.lost
        assert not found.doubled
        sent.held.assert_no_event_was_lost_or_repeated()


def assert_kept(journaled: Journaled, seen: dict[str, Traffic], in_flight: dict[str, int] | None = None) -> None:
    """Check the promises: no GET fails, no POST is lost or doubled, and at most `in_flight` POSTs of a service fail."""
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
    """Return the access log's lines about these requests."""
    return [line for line in stack.access_log() if path_of(line).rpartition("/")[2] in entries]


def path_of(line: dict[str, Any]) -> str:
    """Return the path in a line of the access log, without the query."""
    return str(line["uri"]).partition("?")[0]


def masked(stack: Stack, service: str = "") -> dict[str, int]:
    """Return HAProxy's count of retries and redispatches since it started, for all services or one."""
    rows = [row for row in stack.statistics() if row["svname"] == "BACKEND" and row["pxname"].startswith(service)]
    return {name: sum(int(row[name] or 0) for row in rows) for name in ("wretr", "wredis")}


def cut_off(stack: Stack, service: str) -> set[str]:
    """Return what a client may see if a replica dies during its POST: a 502 or, on a reused connection, nothing."""
    if stack.haproxy_is_old():
        return {"502", "IncompleteReadError", "ConnectionResetError"}
    return {"502"} if service == "wsgi" else {"502", "IncompleteReadError"}
