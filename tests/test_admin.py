"""The admin port and the access log."""

import re

import httpx

from load import Load
from stack import Stack, run, wait_until


def test_the_admin_port_has_health_readiness_metrics_and_statistics(stack: Stack) -> None:
    for path in ("/healthz", "/readyz"):
        assert httpx.get(f"{stack.admin}{path}").status_code == 200
    metrics = httpx.get(f"{stack.admin}/metrics").text
    for backend in ("wsgi", "wsgi_streams", "asgi", "asgi_streams"):
        assert re.search(
            rf'^haproxy_server_status{{proxy="{backend}",server="{backend[:4]}-1",state="UP"}} 1$',
            metrics,
            re.MULTILINE,
        )
    page = httpx.get(f"{stack.admin}/", follow_redirects=True)
    assert str(page.url) == f"{stack.admin}/stats"
    assert "Statistics Report" in page.text


def test_the_admin_port_is_open_on_loopback_alone(stack: Stack) -> None:
    addresses = [line.split()[3] for line in run("ss", "-Hltn", "sport = :8404").stdout.splitlines()]
    assert addresses == ["127.0.0.1:8404"]


def test_the_access_log_has_a_line_of_json_for_each_request(client: httpx.Client, stack: Stack, service: str) -> None:
    request_id = client.get(f"/{service}/wait?seconds=0.2&quote=%22'\\").headers["x-request-id"]
    (line,) = wait_until(lambda: [line for line in stack.access_log() if line["id"] == request_id], "it is logged")
    assert (line["method"], line["status"], line["backend"]) == ("GET", 200, service)
    assert line["uri"].startswith(f"/{service}/wait?seconds=0.2&quote=")
    assert re.fullmatch(rf"{service}-\d+", line["server"])
    assert line["ms"]["response"] >= 200
    assert line["ms"]["total"] >= line["ms"]["response"]
    assert set(line["ms"]) == {"request", "queue", "connect", "response", "total"}
    assert {"time", "client", "bytes", "retries", "end", "in_flight"} <= set(line)


def test_a_hostile_path_does_not_break_the_log(client: httpx.Client, stack: Stack) -> None:
    url = client.base_url.copy_with(raw_path=b'/asgi/"},{"status":200,"x":"\\')
    request_id = client.get(url).headers["x-request-id"]
    (line,) = wait_until(lambda: [line for line in stack.access_log() if line["id"] == request_id], "it is logged")
    assert (line["uri"], line["status"]) == ('/asgi/"},{"status":200,"x":"\\', 404)


def test_problems_logs_errors_slow_requests_and_a_sample(any_stack: Stack) -> None:
    any_stack.up(ACCESS_LOG="problems")
    any_stack.wait_whole()
    with httpx.Client(base_url=any_stack.url) as client:
        error = client.get("/asgi/nothing").headers["x-request-id"]
        slow = client.get("/wsgi/wait?seconds=1.1").headers["x-request-id"]
    with Load(f"{any_stack.url}/asgi/json") as load:
        wait_until(lambda: load.outcomes.total() >= 2000, "the load runs")
    logged = wait_until(lambda: sample if len(sample := any_stack.access_log()) > 2 else None, "something is logged")
    assert {error, slow} <= {line["id"] for line in logged}
    share = sum(line["uri"] == "/asgi/json" for line in logged) / load.outcomes.total()
    assert 0 < share < 0.05
