"""The running stack, as the tests see it: its addresses, and what can be done to its replicas.

The load tests have a class of their own for it. They load and read it during a measurement, cheaply; the tests start
it, harm it and read its logs. What both need is in scripts/handle.py.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import httpx

from handle import ROOT, SERVICES, Row, StackError, run, servers_up, statistics, wait_until

KINDS = ("retriable", "sent_once", "streams")  # each service has a backend for each kind of request
LOAD_PYTHON = ROOT / ".venv/load/bin/python"


def status(url: str) -> int:
    """Return the status of a GET, 0 for none."""
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0


def load(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ./scripts/load."""
    return run("./scripts/load", *map(str, arguments), check=False, seconds=900)


def python(code: str, *arguments: str) -> str:
    """Return what the code prints in the load tests' environment."""
    paths = f"{ROOT / 'loadtests'}:{ROOT / 'scripts'}"
    return run(str(LOAD_PYTHON), "-c", code, *arguments, env={"PYTHONPATH": paths}).stdout


@contextmanager
def locust_page() -> Iterator[str]:
    """Start Locust's own page and two workers for the time of a `with`; yield its address."""
    load = ("docker", "compose", "--profile", "load")
    scale = ("--scale", "locust-worker=2")
    run(*load, "up", "--detach", "--build", "--no-recreate", "--wait", *scale, "locust", "locust-worker", seconds=600)
    try:
        yield f"http://127.0.0.1:{os.environ.get('LOCUST_PORT', '8089')}"
    finally:
        run(*load, "rm", "--stop", "--force", "locust", "locust-worker")


class Process(NamedTuple):
    """What the kernel says of a process: resident memory in KiB, and its start in clock ticks after the machine's."""

    memory: int
    threads: int
    descriptors: int
    started: int


class Stack:
    """What both ways of running have in common."""

    url = f"http://127.0.0.1:{os.environ.get('HTTP_PORT', '8080')}"
    admin = f"http://127.0.0.1:{os.environ.get('ADMIN_PORT', '8404')}"
    up_command: tuple[str, ...] = ("./scripts/up",)
    defaults: ClassVar[dict[str, str]] = {}
    settings: dict[str, str] | None = None  # what it runs with, beside the defaults; None: it does not run

    def up(self, **env: str) -> None:
        """Start with these settings; what ran before is ended."""
        self.down()
        run(*self.up_command, env=self.defaults | env)
        self.settings = env

    def ensure(self, **env: str) -> None:
        """Have it run with these settings, and whole; it is started where a failed test has left it otherwise."""
        if self.settings != env:
            self.up(**env)
        try:
            self.wait_whole()
        except (StackError, httpx.TransportError):
            self.up(**env)
            self.wait_whole()

    def down(self) -> None:
        """End, and leave nothing but volumes."""
        run("./scripts/down")
        self.settings = None

    def instances(self, service: str) -> set[str]:
        """Return the replicas that answered 30 requests."""
        found: set[str] = set()
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for _ in range(30):
                answer = client.get(f"/{service}/whoami")
                if answer.status_code == 200:
                    found.add(answer.json()["instance"])
        return found

    def up_servers(self, service: str, kind: str = "retriable") -> int:
        """Return how many replicas HAProxy sends the service's requests of this kind to."""
        return len(servers_up(self.statistics(), service, kind))

    def statistics(self) -> list[Row]:
        """Return HAProxy's statistics."""
        return statistics(httpx.get(f"{self.admin}/stats;csv", timeout=30).text)

    def is_whole(self, service: str, kind: str = "retriable") -> bool:
        """Tell whether the service has its three replicas up."""
        return self.up_servers(service, kind) == 3

    def haproxy_is_old(self) -> bool:
        """Tell whether this is HAProxy 2: it knows no 431, and answers what is no HTTP with a page of its own."""
        return "HAProxy version 2." in httpx.get(f"{self.admin}/stats").text

    def wait_whole(self) -> None:
        """Wait until three replicas are up in every backend."""
        for service, kind in product(SERVICES, KINDS):
            wait_until(partial(self.is_whole, service, kind), f"{service}_{kind} has 3 replicas up")

    def pids(self, instance: str) -> list[int]:
        """Return the replica's processes, the one that was started first."""
        raise NotImplementedError

    def kill(self, *pids: int, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send processes a signal from outside; SIGKILL, as a crash would."""
        for pid in pids:
            try:
                os.kill(pid, sig)
            except PermissionError:
                run("sudo", "-n", "kill", f"-{sig.value}", str(pid))
            except ProcessLookupError:
                pass

    def processes(self) -> dict[str, Process]:
        """Return every process of the stack, by a name that one started in its place has as well."""
        raise NotImplementedError

    def named(self, where: str, listed: str) -> dict[str, Process]:
        """Read what PROCESSES printed; a process is named by where it is, its program and its turn."""
        found: dict[str, Process] = {}
        for number, line in enumerate(listed.splitlines(), 1):
            program, *figures = line.rsplit(maxsplit=len(Process._fields))
            found[f"{where} {number} {program}"] = Process(*map(int, figures))
        return found

    def log_readers(self) -> set[int]:
        """Return the processes that read what HAProxy and the replicas log."""
        raise NotImplementedError

    @contextmanager
    def logs_blocked(self) -> Iterator[None]:
        """Let nobody read the logs for the time of a `with`: the pipes fill."""
        readers = self.log_readers()
        self.kill(*readers, sig=signal.SIGSTOP)
        try:
            yield
        finally:
            self.kill(*readers, sig=signal.SIGCONT)

    def freeze(self, instance: str) -> None:
        """Let the replica do nothing from now on, while its kernel goes on accepting."""
        raise NotImplementedError

    def thaw(self, instance: str) -> None:
        """Let it go on."""
        raise NotImplementedError

    @contextmanager
    def frozen(self, instance: str) -> Iterator[None]:
        """Freeze the replica for the time of a `with`."""
        self.freeze(instance)
        try:
            yield
        finally:
            self.thaw(instance)

    def stop(self, instance: str) -> None:
        """Stop the replica as an operator would, and see that it ends by itself, and in order."""
        raise NotImplementedError

    def start(self, instance: str) -> None:
        """Start it again."""
        raise NotImplementedError

    def stop_service(self, service: str) -> None:
        """Stop every replica of the service."""
        raise NotImplementedError

    def start_service(self, service: str) -> None:
        """Start them again."""
        raise NotImplementedError

    def log(self, service: str) -> str:
        """Return what the service, or `haproxy`, has logged."""
        raise NotImplementedError

    def log_lines(self, service: str) -> list[dict[str, Any]]:
        """Return those lines of the log of the service, or `haproxy`, that are JSON, parsed."""
        return [json.loads(line) for line in self.log(service).splitlines() if line.startswith("{")]

    def access_log(self) -> list[dict[str, Any]]:
        """Return HAProxy's access log, parsed."""
        return self.log_lines("haproxy")
