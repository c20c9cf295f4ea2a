"""The stack as the containers of compose.yaml."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import docker
import psutil
from docker.errors import DockerException
from docker.models.containers import Container

from deployment import (
    SERVICES,
    SETTINGS,
    TIERS,
    Elsewhere,
    LoadError,
    await_idle,
    run,
    servers,
    settled,
    wait_until,
)

PORTS = {"wsgi": 8001, "asgi": 8002}
SLOW_CPUS = 0.1
DEAD_SECONDS = 3.0  # a container that was killed by hand is not restarted by itself
ENGINE = ("dockerd", "containerd", "containerd-shim-runc-v2", "docker-proxy")


class Compose(Elsewhere):
    """The containers of compose.yaml, loaded from a container in their networks."""

    name = "containers"
    at_hand = ("nothing", "stack", "containers")
    tools = ("locust", "wrk")

    def __init__(self) -> None:
        self.project = json.loads(run("docker", "compose", "config", "--format", "json"))["name"]
        try:
            self.engine = docker.from_env()
        except DockerException as error:
            raise LoadError(f"the Docker engine that DOCKER_HOST names does not answer: {error}") from None
        self.balancers: dict[str, Container] = {}
        self.generator = ""  # the container's id
        super().__init__("http://haproxy:8080")
        self.replicas = {service: len(self.containers(service)) for service in SERVICES}

    def settle(self) -> None:
        """See Elsewhere."""
        await_idle(lambda: settled(self._statistics(""), self.replicas))

    def containers(self, service: str) -> list[Container]:
        """Return the service's running containers, the oldest first."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        found = self.engine.containers.list(filters={"label": [*labels, "com.docker.compose.oneoff=False"]})
        return sorted(found, key=lambda container: container.attrs["Created"])

    def _first(self, service: str) -> Container:
        """Return the service's oldest running container; raise LoadError where none runs."""
        found = self.containers(service)
        if not found:
            raise LoadError(f"no container of {service} runs any more")
        return found[0]

    def _address(self, container: Container, network: str) -> str:
        container.reload()
        return str(container.attrs["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"])

    def hosts(self, service: str, *, direct: bool, balance: str) -> str:
        """See Elsewhere. Addresses, so that no look-up is measured."""
        if direct:
            return ",".join(
                f"http://{self._address(one, 'backend')}:{PORTS[service]}" for one in self.containers(service)
            )
        balancer = self._balancer(balance)
        return f"http://{self._address(balancer, 'edge')}:8080"

    def _balancer(self, balance: str) -> Container:
        """Return the stack's HAProxy, or one of its own with this algorithm in front of the same replicas."""
        if not balance:
            return self._first("haproxy")
        if balance not in self.balancers:
            options = ["--detach", "--no-deps", "--env", f"BALANCE={balance}"]
            self.balancers[balance] = self.engine.containers.get(run("docker", "compose", "run", *options, "haproxy"))
            self._keep(self.balancers[balance], self.stack_cores)
            whole = f"the balancer with {balance} has its replicas"
            wait_until(lambda: settled(self._statistics(balance), self.replicas), whole)
        return self.balancers[balance]

    def _statistics(self, balance: str) -> str:
        container = self.balancers.get(balance) or self._balancer("")
        command = ["bash", "-c", "echo 'show stat' | socat /var/lib/haproxy/admin.sock -"]
        return str(container.exec_run(command).output.decode())

    def within(self, command: tuple[str, ...]) -> list[str]:
        """See Elsewhere."""
        return ["docker", "exec", "--interactive", self.generator, *command]

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """See Elsewhere. Also builds and starts the generator's container, and ends it and the extra balancers."""
        with ExitStack() as after:
            run("docker", "compose", "--profile", "load", "build", "locust-worker")
            options = ["--detach", "--no-deps", "--entrypoint", "sleep"]
            self.generator = run("docker", "compose", "--profile", "load", "run", *options, "locust-worker", "infinity")
            after.callback(remove, self.engine.containers.get(self.generator))
            after.callback(self.done)
            after.enter_context(super().prepared())
            if self.generator_core is not None:
                self._keep_all(self.stack_cores)
                after.callback(self._keep_all, self.all_cores)
            yield

    def here(self) -> list[psutil.Process]:
        """See Elsewhere. The engine's own processes, which write the logs; containers are kept by the engine."""
        engine = [process for process in psutil.process_iter(["name"]) if process.info["name"] in ENGINE]
        return super().here() + engine

    def _keep(self, container: Container, on: list[int]) -> None:
        if on:
            container.update(cpuset_cpus=",".join(map(str, on)))

    def _keep_all(self, on: list[int]) -> None:
        for tier in TIERS:
            for container in self.containers(tier):
                with suppress(DockerException):  # it has ended
                    self._keep(container, on)

    def done(self) -> None:
        """See Elsewhere: the extra balancers, whose checks cost the replicas something."""
        while self.balancers:
            remove(self.balancers.popitem()[1])

    @contextmanager
    def slowed(self, service: str) -> Iterator[str]:
        """See Elsewhere."""
        victim = self._first(service)
        before = victim.attrs["HostConfig"]["NanoCpus"] / 1e9
        run("docker", "update", "--cpus", str(SLOW_CPUS), str(victim.id))
        try:
            yield f"{self._address(victim, 'backend')}:{PORTS[service]}"
        finally:
            run("docker", "update", "--cpus", str(before or os.cpu_count()), str(victim.id))

    def fresh(self) -> None:
        """See Elsewhere."""
        run("docker", "compose", "restart", "--timeout", "1")

    def processes(self) -> dict[str, list[psutil.Process]]:
        """See Elsewhere. None where the engine runs in a virtual machine: its processes are not this system's."""
        tiers: dict[str, list[psutil.Process]] = {}
        for tier in TIERS:
            for container in self.containers(tier):
                pid = container.attrs["State"]["Pid"]
                with suppress(psutil.Error, OSError):
                    if str(container.id) in Path(f"/proc/{pid}/cgroup").read_text():
                        root = psutil.Process(pid)
                        tiers.setdefault(tier, []).extend([root, *root.children(recursive=True)])
        return tiers

    def memory(self) -> dict[str, int]:
        """See Elsewhere. With what the kernel keeps for their connections, without files that it could drop."""
        tiers = dict.fromkeys(TIERS, 0)
        for tier in TIERS:
            for container in self.containers(tier):
                seen = container.stats(stream=False, one_shot=True)["memory_stats"]
                stats = seen.get("stats", {})
                tiers[tier] += seen.get("usage", 0) - stats.get("total_inactive_file", stats.get("inactive_file", 0))
        return tiers

    def served(self, balance: str = "") -> dict[str, int]:
        """See Elsewhere."""
        return servers(self._statistics(balance))

    def kill(self, service: str) -> None:
        """See Elsewhere."""
        victim = self._first(service)
        victim.kill()
        time.sleep(DEAD_SECONDS)
        victim.start()

    def drain(self, service: str) -> None:
        """See Elsewhere."""
        self.containers(service)[-1].restart(timeout=30)

    def answers(self) -> bool:
        """See Elsewhere."""
        return len(self.containers("haproxy")) == 1 and all(self.containers(service) for service in SERVICES)

    def facts(self) -> dict[str, str]:
        """See Elsewhere."""
        haproxy, wsgi, asgi = (self._first(tier) for tier in TIERS)
        python = "python -c \"from importlib.metadata import version; print('{0}', 'is', version('{0}'))\""
        asked = {
            "haproxy": haproxy.exec_run("haproxy -v"),
            "python": wsgi.exec_run("python -c \"import platform; print('python is', platform.python_version())\""),
            **{package: wsgi.exec_run(python.format(package)) for package in ("gunicorn", "flask")},
            **{package: asgi.exec_run(python.format(package)) for package in ("uvicorn", "fastapi")},
        }
        settings = dict(pair.split("=", 1) for pair in haproxy.attrs["Config"]["Env"])
        return (
            {name: settings[name] for name in SETTINGS if name in settings}
            | {name: answer.output.decode().split()[2] for name, answer in asked.items() if answer.exit_code == 0}
            | {"docker": self.engine.version()["Version"]}
        )


def remove(container: Container) -> None:
    """Remove a container, running or not."""
    with suppress(DockerException):  # it has gone
        container.remove(force=True, v=True)
