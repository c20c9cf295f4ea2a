"""COMPRESSION: text is compressed, and nothing else is."""

import statistics

import httpx
import pytest

from stack import Stack
from test_odd_applications import ODD, gaps

GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture(scope="module")
def compressing(any_stack: Stack) -> Stack:
    """The stack with the odd applications, and compression."""
    any_stack.ensure(**ODD, COMPRESSION="on")
    return any_stack


def answer(
    stack: Stack, service: str, headers: dict[str, str], accepted: str = "gzip", size: int = 20_000
) -> httpx.Response:
    """Ask for so many letters, with these headers."""
    url = f"{stack.url}/{service}/letters"
    with httpx.stream(
        "GET", url, params=headers | {"bytes": str(size)}, headers={"Accept-Encoding": accepted}
    ) as found:
        found.headers["size"] = str(sum(map(len, found.iter_raw())))
    assert found.status_code == 200
    return found


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json", "image/svg+xml", "text/css"])
def test_text_is_compressed(compressing: Stack, service: str, kind: str) -> None:
    found = answer(compressing, service, {"content-type": kind}, accepted="br, gzip")
    assert found.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in found.headers["vary"].lower()
    assert int(found.headers["size"]) < 1000


@pytest.mark.parametrize(
    ("headers", "accepted", "size"),
    [
        ({"content-type": "image/png"}, "gzip", 20_000),
        ({"content-type": "text/event-stream"}, "gzip", 20_000),
        ({"content-type": "application/x-ndjson"}, "gzip", 20_000),
        ({"content-type": "text/html", "content-encoding": "br"}, "gzip", 20_000),
        ({"content-type": "text/html", "cache-control": "public, no-transform"}, "gzip", 20_000),
        ({"content-type": "text/html"}, "gzip", 500),
        ({"content-type": "text/html"}, "identity", 20_000),
    ],
)
def test_nothing_else_is(compressing: Stack, service: str, headers: dict[str, str], accepted: str, size: int) -> None:
    if size < 1000 and compressing.haproxy_is_old():
        pytest.skip("HAProxy 2 compresses small answers, too")
    found = answer(compressing, service, headers, accepted, size)
    assert found.headers.get("content-encoding") == headers.get("content-encoding")
    assert found.headers["size"] == str(size)


def test_each_chunk_passes_at_once(compressing: Stack, service: str) -> None:
    for kind in ("text/plain", "text/event-stream"):
        seen = gaps(f"{compressing.url}/{service}/chunks?type={kind}&count=16", "GET", GZIP)
        assert len(seen) >= 12, "chunks arrived together"
        assert 0.08 < statistics.median(seen) < 0.15


def test_a_compressed_answer_is_what_was_sent(compressing: Stack, service: str) -> None:
    text = httpx.get(f"{compressing.url}/{service}/chunks?type=text/plain&count=5&gap=0", headers=GZIP)
    assert text.headers["content-encoding"] == "gzip"
    assert text.text.count("data: ") == 5


def test_nothing_is_by_default(any_stack: Stack, service: str) -> None:
    any_stack.ensure(**ODD)
    assert "content-encoding" not in answer(any_stack, service, {"content-type": "text/html"}).headers
