"""`up`, where something is in its way: a slow or greedy application, a service that crashes or is left out, Ctrl-C."""

import os
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from handle import ROOT, RUN, run, wait_until
from stack import Stack, status
from test_any_application import FOREIGN
from test_scripts import PROJECT, assert_refused

SHOP = """
services:
  wsgi:
    build: {additional_contexts: {application: shop}}
    environment: {WSGI_APP: "till:application"}
"""
ADDED = """
services:
  worker:
    image: ${HAPROXY_IMAGE:-haproxy:3.2}
    command: [bash, -c, "%s"]
    restart: %s
    stop_grace_period: 1s
"""


def call(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command there, with these settings beside the environment's."""
    return subprocess.run(command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=False)


def application(service: str, module: str) -> dict[str, str]:
    """Return the settings with which the service has the foreign application of that module."""
    return FOREIGN | {f"{service.upper()}_APP": f"foreign.{module}:{service}"}


def left_running() -> str:
    """Return what is left of the stack."""
    project = f"label=com.docker.compose.project={PROJECT}"
    containers = run("docker", "ps", "--all", "--quiet", "--filter", project, check=False).stdout
    return containers + run("pgrep", "--full", f"{RUN}/|{ROOT}/.venv/(wsgi|asgi)/", check=False).stdout


@pytest.mark.compose
def test_docker_compose_up_says_at_once_that_haproxy_cannot_read_its_files(any_stack: Stack, copy: Path) -> None:
    any_stack.down()
    run("chmod", "-R", "go-rwx", str(copy / "haproxy"))  # umask 077
    try:
        done = call(copy, "docker", "compose", "up", "--wait", "haproxy")
        assert done.returncode == 1
        assert 'service "haproxy-can-read-its-files" didn\'t complete successfully' in done.stderr
        assert "haproxy : Permission denied" in call(copy, "docker", "compose", "logs").stdout
    finally:
        call(copy, "./scripts/down")


def test_an_application_in_a_folder_of_its_own_is_served_or_refused(any_stack: Stack, copy: Path) -> None:
    any_stack.down()
    (copy / "shop").mkdir()
    (copy / "shop/till.py").write_text((ROOT / "tests/foreign/wsgi.py").read_text())
    (copy / "shop/compose.yaml").write_text(SHOP)
    done = call(copy, *any_stack.up_command, COMPOSE_FILE="compose.yaml:shop/compose.yaml")
    if "--local" in any_stack.up_command:
        assert_refused(done, "not the application that shop/compose.yaml names")
        return
    try:
        assert done.returncode == 0, done.stderr
        assert f"{any_stack.url}/wsgi/ " in done.stdout
        assert f"{any_stack.url}/asgi/whoami " in done.stdout
    finally:
        call(copy, "./scripts/down")


def test_an_application_that_is_not_ready_in_time_is_named_with_the_setting(any_stack: Stack, service: str) -> None:
    any_stack.down()
    done = run(*any_stack.up_command, env=application(service, "slow") | {"START_SECONDS": "15"}, check=False)
    assert done.returncode == 1
    assert re.search(rf"^up: .*{service}.*: not ready after \d+ of 15 s \(START_SECONDS\)$", done.stdout, re.MULTILINE)
    assert re.search(rf"^up: .*{service}.*: not ready after 15 s \(START_SECONDS\)", done.stderr, re.MULTILINE)
    assert not left_running()


@pytest.mark.full
def test_an_application_that_is_imported_for_longer_than_the_defaults_allow_starts(any_stack: Stack) -> None:
    any_stack.down()
    slow = FOREIGN | {"WSGI_APP": "foreign.slow:wsgi", "ASGI_APP": "foreign.slow:asgi", "START_SECONDS": "240"}
    slow |= {"WSGI_REPLICAS": "1", "ASGI_REPLICAS": "1"}
    run(*any_stack.up_command, env=slow, seconds=300)
    try:
        for service in ("wsgi", "asgi"):
            assert status(f"{any_stack.url}/{service}/x") == 200
        assert "WORKER TIMEOUT" not in any_stack.log("wsgi")
        if "--local" not in any_stack.up_command:
            assert "all replicas are new" in run("./scripts/roll", "wsgi", env=slow, seconds=900).stdout
    finally:
        any_stack.down()


@pytest.mark.parametrize("restart", ['"no"', "always"])
@pytest.mark.parametrize("seconds", ["0", "2"])
@pytest.mark.compose
def test_a_service_that_the_user_has_added_and_that_crashes_fails_up(
    any_stack: Stack, copy: Path, restart: str, seconds: str
) -> None:
    any_stack.down()
    (copy / "worker.yaml").write_text(ADDED % (f"sleep {seconds}; echo the queue is gone >&2; exit 3", restart))
    done = call(copy, "./scripts/up", COMPOSE_FILE="compose.yaml:worker.yaml")
    assert done.returncode == 1
    assert "up: worker: the queue is gone" in done.stderr
    assert not left_running()


@pytest.mark.compose
def test_a_service_that_the_user_has_added_and_that_ends_in_order_does_not_fail_up(
    any_stack: Stack, copy: Path
) -> None:
    any_stack.down()
    (copy / "worker.yaml").write_text(ADDED % ("echo migrated", '"no"'))
    try:
        done = call(copy, "./scripts/up", COMPOSE_FILE="compose.yaml:worker.yaml")
        assert done.returncode == 0, done.stderr
    finally:
        call(copy, "./scripts/down")


def test_a_replica_that_is_out_of_memory_is_reported_as_such(any_stack: Stack, service: str) -> None:
    any_stack.down()
    if "--local" in any_stack.up_command:  # the machine's memory: nothing to be exhausted here
        done = run(*any_stack.up_command, env=application(service, "killed"), check=False)
        assert done.returncode == 1
        assert re.search(rf"^up: {service}-\d ended: .*[Oo]ut of memory", done.stderr, re.MULTILINE)
        return
    limit = {"wsgi": 512, "asgi": 768}[service]
    said = rf"{service}.*: out of memory: .* {limit} MiB \(deploy.resources.limits.memory"
    done = run("./scripts/up", env=application(service, "greedy"), check=False)
    assert done.returncode == 1
    assert re.search(f"^up: {said}", done.stderr, re.MULTILINE)
    any_stack.up(**FOREIGN)
    done = run("./scripts/roll", service, env=application(service, "greedy"), check=False)
    assert done.returncode == 1
    assert re.search(f"^roll: {said}", done.stderr, re.MULTILINE)
    assert "Out of memory: the kernel ended process" in done.stderr  # the end of its log
    any_stack.wait_whole()


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.8, 1.5, 3.0])
def test_an_interrupted_up_leaves_nothing(any_stack: Stack, moment: float) -> None:
    any_stack.down()
    up = subprocess.Popen(
        any_stack.up_command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | application("asgi", "slow"),  # it would start for longer
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # background jobs may ignore it
    )
    assert up.stdout is not None
    up.stdout.readline()
    time.sleep(moment)
    os.killpg(up.pid, signal.SIGINT)
    up.communicate()
    assert up.returncode
    assert not left_running()
    assert not RUN.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(any_stack.url)


def test_a_service_with_no_replicas_is_left_out(any_stack: Stack, service: str) -> None:
    any_stack.down()
    (other,) = {"wsgi", "asgi"} - {service}
    said = run(*any_stack.up_command, env={f"{service.upper()}_REPLICAS": "0"}).stdout
    try:
        assert f"{any_stack.url}/{other}/whoami " in said
        assert f"{any_stack.url}/{service}/" not in said
        assert status(f"{any_stack.admin}/readyz") == 200
        assert status(f"{any_stack.url}/{other}/json") == 200
        answer = httpx.get(f"{any_stack.url}/{service}/json")
        assert (answer.status_code, answer.json()["detail"]) == (503, "no replica is available; try again")
    finally:
        any_stack.down()


@pytest.mark.compose
def test_another_clone_does_not_replace_the_stack_that_runs(stack: Stack, copy: Path) -> None:
    for script in ("up", "roll"):
        assert_refused(call(copy, f"./scripts/{script}"), f"was started in {ROOT}:", "COMPOSE_PROJECT_NAME")
    stack.wait_whole()


@pytest.mark.compose
@pytest.mark.full
def test_more_replicas_than_haproxy_has_slots_are_reported(stack: Stack) -> None:
    scaled = ("docker", "compose", "up", "--no-recreate", "--no-deps", "--no-start", "--scale=wsgi=17", "wsgi")
    run(*scaled)
    refused = run("./scripts/roll", "wsgi", check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "wsgi has 17 replicas; a roll needs twice as many slots, but HAProxy has 16" in refused.stderr
    assert "wsgi has 17 replicas; HAProxy has slots for 16" in run("./scripts/up").stderr
    wait_until(
        lambda: len(run("docker", "compose", "ps", "--all", "--quiet", "wsgi").stdout.split()) == 3, "3 are left"
    )
    stack.wait_whole()
