"""The admin port and the access log."""

import re

import httpx

from handle import SERVER, run, wait_until
from stack import Stack
from test_contract import assert_problem
from test_edge import raw


def test_the_admin_port_has_health_readiness_metrics_and_statistics(stack: Stack) -> None:
    for path in ("/healthz", "/readyz"):
        assert httpx.get(f"{stack.admin}{path}").status_code == 200
    metrics = httpx.get(f"{stack.admin}/metrics").text
    for backend in ("wsgi_retriable", "wsgi_streams", "asgi_retriable", "asgi_streams"):
        assert re.search(
            rf'^haproxy_server_status{{proxy="{backend}",server="{backend[:4]}-1",state="UP"}} 1$',
            metrics,
            re.MULTILINE,
        )
    page = httpx.get(f"{stack.admin}/", follow_redirects=True)
    assert str(page.url) == f"{stack.admin}/stats;no-maint"
    assert "Statistics Report" in page.text


def test_the_statistics_that_are_linked_to_and_the_metrics_list_replicas_and_no_empty_slots(stack: Stack) -> None:
    servers = [row for row in stack.statistics() if row["type"] == SERVER and row["status"].startswith("UP")]
    replicas = {(row["pxname"], row["svname"]) for row in servers}
    assert replicas
    page = httpx.get(f"{stack.admin}/", follow_redirects=True).text
    assert set(re.findall(r'<a name="(\w+)/(\w+-\d+)"', page)) == replicas
    metrics = httpx.get(f"{stack.admin}/metrics?no-maint").text
    assert (
        set(re.findall(r'^haproxy_server_status\{proxy="(\w+)",server="([\w-]+)"', metrics, re.MULTILINE)) == replicas
    )


def test_the_admin_port_answers_404_for_what_is_not_there(stack: Stack) -> None:
    assert_problem(httpx.get(f"{stack.admin}/nothing"), 404)


def test_the_admin_port_is_open_on_loopback_alone(stack: Stack) -> None:
    address = stack.admin.removeprefix("http://")
    listening = run("ss", "-Hltn", f"sport = :{address.partition(':')[2]}").stdout.splitlines()
    assert [line.split()[3] for line in listening] == [address]


def test_the_access_log_has_a_line_of_json_for_each_request(client: httpx.Client, stack: Stack, service: str) -> None:
    request_id = client.get(f"/{service}/wait?seconds=0.2&quote=%22'\\").headers["x-request-id"]
    (line,) = wait_until(
        lambda: [line for line in stack.access_log() if line["request_id"] == request_id], "it is logged"
    )
    assert (line["method"], line["status"], line["backend"]) == ("GET", 200, f"{service}_retriable")
    assert line["uri"].startswith(f"/{service}/wait?seconds=0.2&quote=")
    assert re.fullmatch(rf"{service}-\d+", line["server"])
    assert line["ms"]["response"] >= 200
    assert line["ms"]["total"] >= line["ms"]["response"]
    assert set(line["ms"]) == {"request", "queue", "connect", "response", "total"}
    assert {"time", "client", "bytes", "retries", "end", "in_flight"} <= set(line)


def test_a_hostile_path_does_not_break_the_log(stack: Stack) -> None:
    path = '/asgi/"},{"status":200,"x":"\\'
    assert raw(stack, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).startswith(b"HTTP/1.1 404 ")
    assert wait_until(lambda: [line for line in stack.access_log() if line["uri"] == path], "it is logged")
