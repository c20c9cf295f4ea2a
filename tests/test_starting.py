"""`up`, where something is in its way."""

import os
import subprocess
from pathlib import Path

import pytest

from handle import run
from stack import Stack


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
