"""The load tests against the running stack: that they run, break off and clean up as they should."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from socket import inet_aton

import httpx
import pytest

from handle import ROOT, run, wait_until
from journaled import small_disk
from report.results import Results
from stack import Stack, load, locust_page
from users.histogram import Histogram
from ways import ComposeStack

SCENARIOS = [file for file in (ROOT / "loadtests/scenarios").glob("*.py") if file.stem != "__init__"]


def results_of(done: subprocess.CompletedProcess[str]) -> Path:
    """Return the folder of the run whose report the last line names."""
    return Path(done.stdout.splitlines()[-1].removeprefix("load: ")).parent


def test_some_scenarios_run(stack: Stack) -> None:
    """Also: an event is read when it comes, not when a kilobyte of them has."""
    done = load("--smoke", "latency", "events", "websockets")
    assert done.returncode in (0, 4), done.stdout + done.stderr  # a noisy machine may close a gate
    found = Results.read(results_of(done))
    assert found.conditions["partial"] == ""
    assert {cell["scenario"] for cell in found.cells} == {"latency", "events", "websockets"}
    for cell in found.cells:
        assert not any(series["failed"] for series in cell["series"].values()), cell
        assert not cell["overdue"]
        assert sum(cell["cpu"].values()) > 0
        generator = cell["generator"]
        if cell["scenario"] == "latency":
            assert generator["offered"] == generator["started"] > 50
        else:
            assert generator["wanted"] == generator["open"] == cell["point"]
        if cell["point"] == 100 and cell["scenario"] != "latency":
            assert cell["memory"]["asgi"] > 0
    events = [cell["series"]["SSE delivery"]["times"] for cell in found.cells if cell["scenario"] == "events"]
    assert Histogram.merged(events).percentile(0.5) < 300


def interrupted(*arguments: str, after: str, harm: Callable[[subprocess.Popen[str]], object]) -> tuple[int, str, str]:
    """Run ./scripts/load, do harm when it has printed so, and return its status, its output and its complaints."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and what it starts
    process = subprocess.Popen(
        ["./scripts/load", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if after in line:
            harm(process)
    assert process.stderr is not None
    return process.wait(), printed, process.stderr.read()


@pytest.mark.full
@pytest.mark.parametrize("arguments", [[], ["--target", Stack.url]])
def test_every_scenario_runs(stack: Stack, arguments: list[str]) -> None:
    done = load("--smoke", *arguments)
    assert done.returncode in (0, 4), done.stdout + done.stderr
    found = Results.read(results_of(done))
    in_containers = isinstance(stack, ComposeStack) and not arguments
    need_more = set() if in_containers else {"failover", "price", "balancing"} if arguments else {"balancing"}
    need_wrk = set() if in_containers or shutil.which("wrk") else {"cross-check"}
    assert set(found.conditions["left_out"]) == need_more | need_wrk
    assert {cell["scenario"] for cell in found.cells} | need_more == {file.stem for file in SCENARIOS}
    checks = [cell for cell in found.cells if cell["tool"] == "wrk"]
    if need_wrk:
        assert "load: cross-check is left out: needs wrk" in done.stdout
        assert not checks
    else:
        (checked,) = checks
        assert checked["rate"] > 0
        assert not checked["invalid"]


@pytest.mark.compose
@pytest.mark.full
def test_where_no_stack_runs_one_is_started_and_ended_afterwards(stack: Stack) -> None:
    stack.down()
    done = load("--smoke", "computing")
    assert done.returncode in (0, 4), done.stdout + done.stderr
    assert "load: no stack runs here, so it is started" in done.stdout
    assert run("docker", "compose", "ps", "--all", "--quiet").stdout == ""
    stack.up()


@pytest.mark.full
def test_a_full_disk_is_told_in_one_line_and_what_was_measured_is_kept(stack: Stack, copy: Path) -> None:
    for kept in (".venv", ".run"):  # of local processes; it is not there where there are none
        if (ROOT / kept).exists():
            (copy / kept).symlink_to(ROOT / kept)
    results = copy / "loadtests/results"
    results.mkdir(exist_ok=True)
    with small_disk(results, "12k"):  # two pages for what the run is, and one for what it has measured
        if not results.is_mount():
            pytest.skip("only root can mount a small disk to fill")
        command = [str(copy / "scripts/load"), "--smoke", "latency", "computing", "churn", "waiting", "isolation"]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "No space left on device" in line
        (folder,) = results.iterdir()
        found = Results.read(folder)
        assert found.conditions["partial"]
        assert 1 <= len(found.cells) < 12


@pytest.mark.compose
@pytest.mark.full
def test_locusts_own_page_loads_a_service_through_haproxy_and_past_it(stack: Stack) -> None:
    haproxy = "http://haproxy:8080"  # with which the page begins; who loads replicas goes past it all the same
    past = "/json, 10 a second per user, past HAProxy"
    for user, host in (
        ("ASGI: /json, as fast as it is answered", haproxy),
        (f"WSGI: {past}", "http://wsgi:8001"),
        (f"ASGI: {past}", haproxy),
    ):
        with locust_page() as url:
            assert user in httpx.get(url).text
            wait_until(lambda: len(httpx.get(f"{url}/stats/requests").json()["workers"]) == 2, "the workers join")
            form = {"user_count": "40", "spawn_rate": "40", "host": host, "user_classes": user}
            assert httpx.post(f"{url}/swarm", data=form).json()["success"]
            wait_until(lambda: answered(url) > 500, "it loads")
            seen = httpx.get(f"{url}/stats/requests").json()
            assert not seen["errors"]
            if user.endswith(past):
                replicas = stack.instances(user[:4].lower())
                assert all(map(connections_of_locust, replicas)), "a replica was not loaded"


def connections_of_locust(replica: str) -> int:
    """Return how many connections of Locust's workers the container has."""
    addresses = set[str]()
    for worker in run("docker", "compose", "--profile", "load", "ps", "--quiet", "locust-worker").stdout.split():
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        for address in run("docker", "inspect", "--format", networks, worker).stdout.split():
            addresses.add(inet_aton(address)[::-1].hex().upper())  # as /proc has it
    lines = run("docker", "exec", replica, "cat", "/proc/net/tcp").stdout.splitlines()[1:]
    return sum(line.split()[2].partition(":")[0] in addresses for line in lines)


@pytest.mark.compose
def test_the_port_of_locusts_master_is_published_only_where_a_variable_asks_for_it() -> None:
    config = ("docker", "compose", "--profile", "load", "config")
    assert "5557" not in run(*config).stdout
    assert 'published: "5557"' in run(*config, env={"LOCUST_MASTER_PUBLISH": "5557:5557"}).stdout


def answered(url: str) -> int:
    """Return how many requests Locust's page has counted."""
    (total,) = [row for row in httpx.get(f"{url}/stats/requests").json()["stats"] if row["name"] == "Aggregated"]
    return int(total["num_requests"])


@pytest.mark.full
def test_a_run_that_is_interrupted_keeps_what_it_has(stack: Stack) -> None:
    status, printed, complaints = interrupted(
        "computing",
        after="4 of",
        harm=lambda process: os.killpg(process.pid, signal.SIGINT),  # as a terminal does
    )
    assert status == 1
    assert complaints == "load: interrupted: the results are partial, of 3 measurements\n"
    folder = Path(printed.splitlines()[-1].removeprefix("load: ")).parent
    assert len(Results.read(folder).cells) == 3
    assert "Partial: interrupted" in (folder / "report.html").read_text()


@pytest.mark.full
def test_a_run_whose_stack_ends_keeps_what_it_has(stack: Stack) -> None:
    status, printed, complaints = interrupted("computing", after="4 of", harm=lambda _: stack.down())
    assert status == 1
    assert "the stack no longer answers: the results are partial" in complaints
    assert "Traceback" not in complaints
    folder = Path(printed.splitlines()[-1].removeprefix("load: ")).parent
    assert 3 <= len(Results.read(folder).cells) < 18
    stack.up()
