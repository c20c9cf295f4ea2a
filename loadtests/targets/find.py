"""Finds the stack that runs here, or starts one."""

import json
import subprocess
from contextlib import suppress

import psutil

from handle import ROOT, StackError
from targets.containers import Containers
from targets.processes import Processes
from targets.stack import Stack, output


def running() -> Stack | None:
    """Return the stack that runs here, or None."""
    with suppress(OSError, ValueError, KeyError, psutil.Error):
        return Processes()
    try:
        if not output("docker", "compose", "ps", "--quiet", "haproxy"):
            return None
        project = json.loads(output("docker", "compose", "config", "--format", "json"))["name"]
    except (StackError, OSError):
        return None
    return Containers(project)


def start() -> Stack:
    """Start the stack as ./scripts/up does, and return it; raise StackError if it does not start."""
    done = subprocess.run([str(ROOT / "scripts/up")], check=False, stdin=subprocess.DEVNULL)
    stack = running() if done.returncode == 0 else None
    if stack is None:
        raise StackError("the stack could not be started (see above)")
    return stack
