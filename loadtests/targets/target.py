"""What every target can do: say where it answers, and have the load generator run where it can be reached."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from targets.cores import cores, move

LOADTESTS = Path(__file__).resolve().parent.parent


class Target(ABC):
    """A deployment of the demonstration's routes."""

    name: str  # for the report
    tools: tuple[str, ...] = ("locust", "wrk") if shutil.which("wrk") else ("locust",)  # that generate load

    def __init__(self) -> None:
        self.stack_cores, self.generator_core = cores()

    @property
    def all_cores(self) -> list[int]:
        """The stack's cores and the generator's."""
        return self.stack_cores + ([] if self.generator_core is None else [self.generator_core])

    @abstractmethod
    def url(self) -> str:
        """Return where HAProxy answers, as the generator reaches it."""

    def addresses(self) -> dict[str, str]:
        """Return where each service is, if that is not where the scenarios have it."""
        return {}

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the target is there."""

    @contextmanager
    def generate(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a program of the load tests' environment, `python -m ...` or `wrk ...`; kill it afterwards."""
        with subprocess.Popen(
            self.generating(command),
            cwd=LOADTESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the runner alone
        ) as process:
            try:
                yield process
            finally:
                end(process)
                with suppress(OSError):  # what it has not read cannot be flushed
                    if process.stdin:
                        process.stdin.close()

    def generating(self, command: tuple[str, ...]) -> list[str]:
        """Return the command that runs this one where the load comes from."""
        program, *arguments = command
        return [sys.executable if program == "python" else program, *arguments]

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Keep everything but the generator off its core, if it has one.

        A process that is started meanwhile stays on the cores of the process that starts it.
        """
        if self.generator_core is None:
            yield
            return
        move(self.processes_here(), self.stack_cores)
        try:
            yield
        finally:
            move(self.processes_here(), self.all_cores)

    def processes_here(self) -> list[psutil.Process]:
        """Return this machine's processes that must stay off the generator's core."""
        return [psutil.Process()]


def accepts(url: str) -> bool:
    """Tell whether a server accepts connections at the URL."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), 5).close()
    except (OSError, ValueError):
        return False
    return True


def end(process: subprocess.Popen[str]) -> None:
    """Kill a generating process with its children; those in a container end with that."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
