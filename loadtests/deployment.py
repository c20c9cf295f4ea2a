"""What is loaded. Here: somebody else's deployment, and what those that are at hand have in common with it.

Each can say where it answers and start the process that generates the load. Those that are at hand (processes.py,
containers.py) can also say what they use and whom they served, be kept off the generator's core, and have a replica
killed, drained or slowed.
"""

import csv
import io
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("wsgi", "asgi")
TIERS = ("haproxy", *SERVICES)


class LoadError(Exception):
    """The load tests cannot go on, for a reason to be told in one line."""


def run(*command: str) -> str:
    """Return what the command printed; raise LoadError with its last complaint where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for run.py alone
        )
    except subprocess.CalledProcessError as error:
        complaint = (error.stderr or error.stdout).strip().splitlines()[-1:] or [f"exit status {error.returncode}"]
        raise LoadError(f"{' '.join(command[:4])} failed: {complaint[0]}") from None
    return done.stdout.strip()


def cores() -> tuple[list[int], int | None]:
    """Return the processors for the stack, and one for the generator: None where there is only one for all."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[:-1], usable[-1]) if len(usable) > 1 else (usable, None)


SETTINGS = ("ACCESS_LOG", "BALANCE", "WSGI_MAXCONN", "WSGI_STREAMS")


class Elsewhere:
    """A deployment of somebody else's: all that is known of it is where it answers."""

    name = "elsewhere"
    at_hand: tuple[str, ...] = ("nothing",)
    replicas: Mapping[str, int] = {}  # of each service
    tools: tuple[str, ...] = ("locust", "wrk") if shutil.which("wrk") else ("locust",)  # what generates load

    def __init__(self, url: str) -> None:
        self.url = url
        self.stack_cores, self.generator_core = cores()

    @property
    def all_cores(self) -> list[int]:
        """The stack's, and the generator's."""
        return self.stack_cores + ([] if self.generator_core is None else [self.generator_core])

    def hosts(self, service: str, *, direct: bool, balance: str) -> str:
        """Return where requests for the service go."""
        return self.url

    @contextmanager
    def generate(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a program of the load tests' environment, `python cell.py` or `wrk ...`; end it afterwards."""
        with subprocess.Popen(
            self.within(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for run.py alone
        ) as process:
            try:
                yield process
            finally:
                end(process)
                with suppress(OSError):  # what was not read any more cannot be flushed
                    if process.stdin:
                        process.stdin.close()

    def within(self, command: tuple[str, ...]) -> list[str]:
        """Return the command that runs this one where the load comes from."""
        if command[0] == "python":
            return [str(ROOT / ".venv/load/bin/python"), str(ROOT / "loadtests" / command[1])]
        return list(command)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Keep stack and generator apart, where that can be done, for as long as this lasts.

        A process that is started meanwhile stays where the one is that starts it.
        """
        if self.generator_core is None:
            yield
            return
        move(self.here(), self.stack_cores)
        try:
            yield
        finally:
            move(self.here(), self.all_cores)

    def here(self) -> list[psutil.Process]:
        """Return what is to be kept off the generator's core, as far as it is on this machine."""
        return [psutil.Process()]

    @contextmanager
    def slowed(self, service: str) -> Iterator[str]:
        """Leave one replica a tenth of its processor, and yield its address."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until each service has as many replicas up as at the beginning, and serves nobody any more."""

    def done(self) -> None:
        """End what one scenario alone has needed."""

    def fresh(self) -> None:
        """Start everything anew, so that memory can be told from what was used before."""

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return the processes of each tier, as far as they can be seen from here."""
        return {}

    def memory(self) -> dict[str, int]:
        """Return the memory that each tier uses, in bytes."""
        return {}

    def served(self, balance: str = "") -> dict[str, int]:
        """Return how many requests each replica has got, by its address."""
        return {}

    def kill(self, service: str) -> None:
        """Kill a replica, and have it come back some seconds later."""

    def drain(self, service: str) -> None:
        """Tell another replica to stop, and start it again."""

    def answers(self) -> bool:
        """Tell whether something answers there, with whatever status."""
        try:
            url = urlsplit(self.url)
            socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), 5).close()
        except (OSError, ValueError):
            return False
        return True

    def facts(self) -> dict[str, str]:
        """Return what is known of the software, and of its settings."""
        return {}


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process of `generate` and what it has started; what it has started in a container ends with that."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def servers(statistics: str) -> dict[str, int]:
    """Return the requests that each address has got, from HAProxy's `show stat`."""
    served: Counter[str] = Counter()
    for row in csv.DictReader(io.StringIO(statistics.lstrip("# "))):
        if row["svname"] not in ("FRONTEND", "BACKEND"):
            served[row["addr"]] += int(row["stot"] or 0)
    return dict(served)


def settled(statistics: str, replicas: Mapping[str, int]) -> bool:
    """Tell from HAProxy's `show stat` whether each service has so many replicas up, or more, and none a session."""
    rows = list(csv.DictReader(io.StringIO(statistics.lstrip("# "))))
    busy = any(row["svname"] == "BACKEND" and row["pxname"] != "admin" and int(row["scur"]) for row in rows)
    return not busy and all(
        sum(row["pxname"] == service and row["svname"] != "BACKEND" and row["status"] == "UP" for row in rows) >= many
        for service, many in replicas.items()
    )


def await_idle(holds: Callable[[], bool]) -> None:
    """Return when `holds()`: each service is whole, and serves nobody; raise LoadError where that does not come."""
    what = "all replicas are up, and hold no stream or request of anybody else's"
    wait_until(holds, what, 100)  # HAProxy ends the last WebSocket whose client has gone after 90 s (`timeout tunnel`)


def move(processes: Iterable[psutil.Process], cores: list[int]) -> None:
    """Let every thread of the processes run on these cores alone."""
    for process in processes:
        with suppress(psutil.Error):  # it has ended
            for thread in process.threads():
                with suppress(OSError):  # it has ended, or is somebody else's
                    os.sched_setaffinity(thread.id, cores)


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Return when it holds; raise LoadError where it does not within so many seconds."""
    patience = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > patience:
            raise LoadError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.1)
