"""The endpoint contract: both services, same paths, same bodies, through HAProxy."""

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stack import Stack

MIB = 1024 * 1024


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that the answer is RFC 9457 problem details of this status, and return them."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert "Traceback" not in answer.text
    return problem


def test_whoami_tells_who_answers(client: httpx.Client, service: str) -> None:
    me = client.get(f"/{service}/whoami").json()
    assert me["service"] == service
    assert me["interface"] == service.upper()
    assert me["server"].startswith({"wsgi": "gunicorn ", "asgi": "uvicorn "}[service])
    assert me["framework"].startswith({"wsgi": "Flask ", "asgi": "FastAPI "}[service])
    assert me["python"] and me["instance"] and me["pid"] and me["request_id"]


def test_plaintext_and_json_are_techempowers(client: httpx.Client, service: str) -> None:
    plaintext = client.get(f"/{service}/plaintext")
    assert plaintext.text == "Hello, World!"
    assert plaintext.headers["content-type"].startswith("text/plain")
    assert client.get(f"/{service}/json").json() == {"message": "Hello, World!"}


@pytest.mark.parametrize(("query", "seconds"), [("?seconds=0.2", 0.2), ("", 0.1), ("?seconds=0", 0)])
def test_wait_waits_at_least_as_long_as_asked(client: httpx.Client, service: str, query: str, seconds: float) -> None:
    answer = client.get(f"/{service}/wait{query}")
    assert answer.json() == {"waited": seconds}
    assert answer.elapsed.total_seconds() >= seconds


@pytest.mark.parametrize("mode", ["async", "thread", "blocking"])
def test_asgi_can_wait_in_three_ways(client: httpx.Client, mode: str) -> None:
    assert client.get("/asgi/wait", params={"seconds": 0.1, "mode": mode}).json() == {"waited": 0.1}


@pytest.mark.parametrize("rounds", [0, 1, 1000, 1_000_000])
def test_work_computes_the_same_digest_on_both_services(client: httpx.Client, rounds: int) -> None:
    digest = b""
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    for service in ("wsgi", "asgi"):
        answer = client.get(f"/{service}/work", params={"rounds": rounds})
        assert answer.json() == {"rounds": rounds, "digest": digest.hex()}


def chunks(size: int) -> Iterator[bytes]:
    """Yield a body of `size` bytes that httpx sends without telling its length."""
    for start in range(0, size, 65536):
        yield b"x" * min(65536, size - start)


@pytest.mark.parametrize("size", [0, 1, 100_000, 10 * MIB])
@pytest.mark.parametrize("with_length", [True, False])
def test_echo_tells_size_and_digest_of_a_body(client: httpx.Client, service: str, size: int, with_length: bool) -> None:
    body = b"x" * size
    answer = client.post(f"/{service}/echo", content=body if with_length else chunks(size))
    assert answer.json() == {"size": size, "sha256": hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize("size", [10 * MIB + 1, 40 * MIB])
@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_over_the_limit_is_cut_off_with_413(
    client: httpx.Client, service: str, size: int, with_length: bool
) -> None:
    answer = client.post(f"/{service}/echo", content=b"x" * size if with_length else chunks(size))
    assert_problem(answer, 413)


def test_after_a_refused_body_the_service_goes_on(client: httpx.Client, service: str) -> None:
    for _ in range(20):
        client.post(f"/{service}/echo", content=chunks(11 * MIB))
        assert client.get(f"/{service}/json").status_code == 200


BAD_NUMBERS = ["", "abc", "-1", "16000000", "nan", "inf", "1e999", "0x10", "1;2", "%00", "%ff", "9" * 400]


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize(
    ("path", "field", "low", "high"),
    [("wait", "seconds", 0, 15), ("work", "rounds", 0, 1_000_000), ("events", "interval_ms", 100, 60_000)],
)
def test_a_value_out_of_range_or_no_number_gets_422_with_field_and_range(
    client: httpx.Client, path: str, field: str, low: int, high: int, value: str
) -> None:
    problems = []
    for service in ("wsgi", "asgi"):
        problem = assert_problem(client.get(f"/{service}/{path}?{field}={value}"), 422)
        assert (problem["field"], problem["minimum"], problem["maximum"]) == (field, low, high)
        assert f"from {low} to {high}" in str(problem["detail"])
        problems.append(problem)
    assert problems[0] == problems[1], "the services say it differently"


def test_an_unknown_mode_gets_422(client: httpx.Client) -> None:
    assert assert_problem(client.get("/asgi/wait?mode=sleepy"), 422)["field"] == "mode"


@pytest.mark.parametrize("path", ["", "nothing", "json/", "json/more", "%2e%2e/json"])
def test_an_unknown_path_gets_404(client: httpx.Client, service: str, path: str) -> None:
    assert_problem(client.get(f"/{service}/{path}"), 404)


@pytest.mark.parametrize(("method", "path"), [("DELETE", "json"), ("POST", "wait"), ("GET", "echo"), ("PUT", "events")])
def test_a_wrong_method_gets_405_and_the_right_ones(client: httpx.Client, service: str, method: str, path: str) -> None:
    answer = client.request(method, f"/{service}/{path}")
    assert_problem(answer, 405)
    assert ("POST" if path == "echo" else "GET") in answer.headers["allow"]


def test_websocket_on_wsgi_gets_501_that_says_why(client: httpx.Client) -> None:
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    for headers in ({}, handshake | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}):
        assert "WSGI has no WebSocket" in str(assert_problem(client.get("/wsgi/ws", headers=headers), 501)["detail"])


def test_websocket_path_without_upgrade_gets_426(client: httpx.Client) -> None:
    assert_problem(client.get("/asgi/ws"), 426)


def test_urls_that_an_application_makes_carry_the_prefix(client: httpx.Client, stack: Stack, service: str) -> None:
    assert client.get(f"/{service}/whoami").json()["url"] == f"{stack.url}/{service}/whoami"


def test_the_api_description_works_behind_the_prefix(client: httpx.Client) -> None:
    assert "url: '/asgi/openapi.json'" in client.get("/asgi/docs").text
    openapi = client.get("/asgi/openapi.json").json()
    assert {"url": "/asgi"} in openapi["servers"]
    assert "/json" in openapi["paths"]
