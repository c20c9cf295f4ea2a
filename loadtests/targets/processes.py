"""The stack as local processes under supervisor (./scripts/up --local)."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from handle import ROOT, RUN, SERVICES, StackError, control
from targets.stack import SETTINGS, TIERS, Stack, output
from targets.target import accepts


class Processes(Stack):
    """The local processes. Raises OSError, ValueError, KeyError or psutil.Error if none run here."""

    name = "local processes"

    def __init__(self) -> None:
        super().__init__()
        # After a reboot the number may be another program's, which has no such variable.
        self.supervisor = psutil.Process(int((RUN / "supervisord.pid").read_text()))
        settings = self.settings()
        front = f"https://{settings['HTTPS_BIND']}" if "HTTPS_BIND" in settings else f"http://{settings['HTTP_BIND']}"
        self._url = front.partition(",")[0].replace("0.0.0.0", "127.0.0.1")  # the IPv4 socket
        names = {name for name, _ in self._programs()}
        self.replicas = {service: sum(name.startswith(f"{service}-") for name in names) for service in SERVICES}

    def settings(self) -> dict[str, str]:
        """See Stack."""
        return dict(self.supervisor.environ())

    def url(self) -> str:
        """See Target."""
        return self._url

    def answers(self) -> bool:
        """See Target."""
        return accepts(self._url)

    def processes_here(self) -> list[psutil.Process]:
        """See Target."""
        found = super().processes_here()
        with suppress(psutil.Error):  # it has ended
            found += [self.supervisor, *self.supervisor.children(recursive=True)]
        return found

    def show_stat(self) -> str:
        """See Stack. Nothing while HAProxy restarts."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(RUN / "admin.sock"))
                connection.sendall(b"show stat\n")
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
            except OSError:
                return ""

    def _programs(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield supervisor's processes with the name of their program, as `wsgi-1`."""
        for process in self.supervisor.children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                yield process.environ().get("SUPERVISOR_PROCESS_NAME", ""), process

    def processes(self) -> dict[str, list[psutil.Process]]:
        """See Stack."""
        tiers: dict[str, list[psutil.Process]] = {tier: [] for tier in TIERS}
        for name, process in self._programs():
            if (tier := name.rpartition("-")[0] or name) in tiers:  # there may be other services
                tiers[tier].append(process)
        return tiers

    def memory(self) -> dict[str, int]:
        """See Stack. Only what no other process shares."""
        return {tier: sum(one.memory_full_info().uss for one in many) for tier, many in self.processes().items()}

    def restart(self) -> None:
        """See Stack."""
        control("restart", "stack:*", detached=True)

    def kill(self, service: str) -> None:
        """See Stack. Supervisor starts it again."""
        control("signal", "KILL", f"stack:{service}-1", detached=True)

    def drain(self, service: str) -> None:
        """See Stack."""
        control("restart", f"stack:{service}-2", detached=True)

    def facts(self) -> dict[str, str]:
        """See Stack."""
        settings = self.settings()
        return (
            {name: settings[name] for name in SETTINGS if name in settings}
            | {
                "haproxy": output("haproxy", "-v").split()[2],
                "python": output(".venv/wsgi/bin/python", "-V").split()[1],
            }
            | versions(ROOT / ".venv/wsgi", "gunicorn", "flask")
            | versions(ROOT / ".venv/asgi", "uvicorn", "fastapi")
        )


def versions(environment: Path, *packages: str) -> dict[str, str]:
    """Return the versions of the packages that a virtual environment has."""
    found = {}
    for package in packages:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        with suppress(StackError):  # the application does without it
            found[package] = output(str(environment / "bin/python"), "-c", code)
    return found
