"""The stack as local processes under supervisor (./scripts/up --local)."""

import socket
from contextlib import suppress
from pathlib import Path

import psutil

from deployment import ROOT, SERVICES, SETTINGS, TIERS, Elsewhere, LoadError, await_idle, run, servers, settled


class Local(Elsewhere):
    """The local processes of ./scripts/up --local."""

    name = "local processes"
    at_hand = ("nothing", "stack")

    def __init__(self) -> None:
        self.supervisor = psutil.Process(int((ROOT / ".run/supervisord.pid").read_text()))
        self.replicas = dict.fromkeys(SERVICES, 3)
        super().__init__(f"http://{self.supervisor.environ()['HTTP_BIND'].replace('0.0.0.0', '127.0.0.1')}")

    def hosts(self, service: str, *, direct: bool, balance: str) -> str:
        """See Elsewhere. The ports are those of scripts/supervisord.conf."""
        if not direct:
            return self.url
        return ",".join(
            f"http://127.0.0.1:{port + n}" for n in (1, 2, 3) for port in [8010 if service == "wsgi" else 8020]
        )

    def here(self) -> list[psutil.Process]:
        """See Elsewhere."""
        found = super().here()
        with suppress(psutil.Error):  # it has ended
            found += [self.supervisor, *self.supervisor.children(recursive=True)]
        return found

    def _control(self, *command: str) -> str:
        return run(".venv/local/bin/supervisorctl", "-c", "scripts/supervisord.conf", *command)

    def fresh(self) -> None:
        """See Elsewhere."""
        self._control("restart", "stack:*")

    def settle(self) -> None:
        """See Elsewhere."""
        await_idle(self._settled)

    def _settled(self) -> bool:
        try:
            return settled(self._ask("show stat"), self.replicas)
        except OSError:
            return False

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(ROOT / ".run/admin.sock"))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def processes(self) -> dict[str, list[psutil.Process]]:
        """See Elsewhere."""
        tiers: dict[str, list[psutil.Process]] = {tier: [] for tier in TIERS}
        for process in self.supervisor.children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                tiers[process.environ().get("SUPERVISOR_PROCESS_NAME", "").partition("-")[0]].append(process)
        return tiers

    def memory(self) -> dict[str, int]:
        """See Elsewhere. What no other process shares."""
        return {tier: sum(one.memory_full_info().uss for one in many) for tier, many in self.processes().items()}

    def served(self, balance: str = "") -> dict[str, int]:
        """See Elsewhere."""
        return servers(self._ask("show stat"))

    def kill(self, service: str) -> None:
        """See Elsewhere. Supervisor starts it again."""
        self._control("signal", "KILL", f"stack:{service}-1")

    def drain(self, service: str) -> None:
        """See Elsewhere."""
        self._control("restart", f"stack:{service}-2")

    def facts(self) -> dict[str, str]:
        """See Elsewhere."""
        settings = self.supervisor.environ()
        return (
            {name: settings[name] for name in SETTINGS if name in settings}
            | {"haproxy": run("haproxy", "-v").split()[2], "python": run(".venv/wsgi/bin/python", "-V").split()[1]}
            | versions(ROOT / ".venv/wsgi", "gunicorn", "flask")
            | versions(ROOT / ".venv/asgi", "uvicorn", "fastapi")
        )


def versions(environment: Path, *packages: str) -> dict[str, str]:
    """Return the versions of those of the packages that a virtual environment has."""
    found = {}
    for package in packages:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        with suppress(LoadError):  # somebody has replaced it
            found[package] = run(str(environment / "bin/python"), "-c", code)
    return found
