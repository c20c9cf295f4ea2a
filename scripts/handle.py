"""A handle on a running stack: what the tests, the load tests and the measurements share.

It uses the standard library alone, since the three run in different environments, and the measurements in none.
"""

import csv
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".run"  # of local processes: sockets, logs, supervisor's pid
SERVICES = ("wsgi", "asgi")

Row = dict[str, str]  # of HAProxy's statistics
BACKEND, SERVER = "1", "2"  # values of its column `type`


class StackError(Exception):
    """The stack did not do what it was asked to. The message is one line; a failed command's output is in the notes."""


def run(
    *command: str,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    text: str = "",
    seconds: float = 180,
    detached: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command at the root of the repository, with `text` as its input; raise StackError if it fails.

    `detached`: Ctrl-C on the terminal does not reach it.
    """
    name = " ".join(command[:4])
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | (env or {}),
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            start_new_session=detached,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"{name} took more than {seconds:.0f} s") from None
    if check and done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        error = StackError(f"{name} failed: {last[0]}")
        error.add_note(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        raise error
    return done


def wait_until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Return what `true()` returns once that is true; raise StackError after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > end:
            raise StackError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)
    return value


def control(*arguments: str, check: bool = True, detached: bool = False) -> str:
    """Return what the supervisor of the local processes answers."""
    return run("scripts/local/control", *arguments, check=check, detached=detached).stdout


def container_pids(container: str) -> list[int]:
    """Return the container's processes as this machine numbers them, its first process first; no health checks."""
    first = int(run("docker", "inspect", "--format", "{{.State.Pid}}", container).stdout)
    listed = run("docker", "top", container, "-eo", "pid,comm").stdout.splitlines()[1:]
    found = [int(pid) for pid, *name in map(str.split, listed) if not is_passing(name)]
    return sorted(found, key=lambda pid: (pid != first, pid))  # a machine's numbers start again at some point


def is_passing(name: list[str]) -> bool:
    """Tell from a container's process's name in `ps` whether it is a health check's, or has ended."""
    return name[0].startswith(("bash", "runc")) or "<defunct>" in name


def statistics(listed: str) -> list[Row]:
    """Parse HAProxy's statistics, `show stat` on its socket or `/stats;csv` on its admin port."""
    return list(csv.DictReader(listed.removeprefix("# ").splitlines()))


def servers_up(rows: Iterable[Row], service: str, kind: str = "retriable") -> list[Row]:
    """Return the servers to which HAProxy sends the service's requests of this kind, which have a backend."""
    servers = (row for row in rows if row["pxname"] == f"{service}_{kind}" and row["type"] == SERVER)
    return [row for row in servers if row["status"].startswith("UP")]  # `UP 1/2` has failed a check
