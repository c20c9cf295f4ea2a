"""What a stack that runs here can do besides being loaded: be observed, restarted and harmed.

The tests have a class of their own for the running stack. They start it with other settings, freeze it and read its
logs; the load tests read what it uses during a measurement, through interfaces that cost it little.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping

import psutil

from handle import BACKEND, SERVICES, Row, StackError, run, servers_up, statistics, wait_until
from targets.target import Target

TIERS = ("haproxy", *SERVICES)
SETTINGS = ("ACCESS_LOG", "BALANCE", "WSGI_MAXCONN", "WSGI_STREAMS")
IDLE_SECONDS = 100  # HAProxy ends the last WebSocket of a lost client after 90 s (`timeout tunnel`)


class Stack(Target):
    """The stack that runs here."""

    replicas: Mapping[str, int]  # of each service, at the beginning

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """Return the environment that HAProxy was started with."""

    def addresses(self) -> dict[str, str]:
        """See Target. Raises StackError if a service is at a host: no load test asks for one."""
        found = {service: self.settings().get(f"{service.upper()}_AT") or f"/{service}/" for service in SERVICES}
        for service, address in found.items():
            if not address.startswith("/"):
                raise StackError(f"{service.upper()}_AT is {address}: for the load tests, set it to a path")
        return found

    @abstractmethod
    def show_stat(self) -> str:
        """Return what HAProxy answers to `show stat`."""

    @abstractmethod
    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return the processes of each tier that this machine can see."""

    @abstractmethod
    def memory(self) -> dict[str, int]:
        """Return the memory that each tier uses, in bytes."""

    @abstractmethod
    def restart(self) -> None:
        """Restart everything, so that no memory is left from earlier measurements."""

    @abstractmethod
    def kill(self, service: str) -> None:
        """Kill a replica, and have it come back some seconds later."""

    @abstractmethod
    def drain(self, service: str) -> None:
        """Stop another replica in order, and start it again."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """Return the versions of the software, and its settings."""

    def direct(self, service: str) -> str:
        """Return the URLs of the service's replicas, separated by commas, to load them past HAProxy."""
        return ",".join(f"http://{server['addr']}" for server in servers_up(statistics(self.show_stat()), service))

    def settle(self) -> None:
        """Wait until each service has all its replicas up, and serves nobody; raise StackError if that takes long."""
        what = "all replicas are up, and no other client holds a request or stream"
        wait_until(lambda: settled(statistics(self.show_stat()), self.replicas), what, IDLE_SECONDS)


def settled(rows: Iterable[Row], replicas: Mapping[str, int]) -> bool:
    """Tell whether each service has this many replicas up, or more, and no backend has a session."""
    rows = list(rows)
    busy = any(row["type"] == BACKEND and row["pxname"] != "admin" and int(row["scur"]) for row in rows)
    return not busy and all(len(servers_up(rows, service)) >= count for service, count in replicas.items())


def output(*command: str, seconds: float = 180) -> str:
    """Return what a command prints; Ctrl-C is for the runner alone."""
    return run(*command, seconds=seconds, detached=True).stdout.strip()
