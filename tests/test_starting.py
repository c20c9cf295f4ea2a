"""`up`, where something is in its way."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from handle import run
from stack import Stack, status


def call(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command there, with these settings beside the environment's."""
    return subprocess.run(command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=False)


@pytest.mark.compose
def test_docker_compose_up_says_at_once_that_haproxy_cannot_read_its_files(any_stack: Stack, copy: Path) -> None:
    any_stack.down()
    run("chmod", "-R", "go-rwx", str(copy / "haproxy"))  # umask 077
    try:
        done = call(copy, "docker", "compose", "up", "--wait", "haproxy")
        assert done.returncode == 1
        assert 'service "haproxy-can-read-its-files" didn\'t complete successfully' in done.stderr
        assert "haproxy.cfg : Permission denied" in call(copy, "docker", "compose", "logs").stdout
    finally:
        call(copy, "./scripts/down")


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
