"""The stack as the containers of compose.yaml."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import docker
import psutil
from docker.errors import DockerException
from docker.models.containers import Container

from handle import SERVER, SERVICES, StackError, statistics, wait_until
from targets.stack import SETTINGS, TIERS, Stack, output, settled

BUILD_SECONDS = 900
SLOW_CPUS = 0.1
DEAD_SECONDS = 3.0  # a container that was killed by hand is not restarted by itself
ENGINE = ("dockerd", "containerd", "containerd-shim-runc-v2", "docker-proxy")


class Containers(Stack):
    """The containers, loaded from a container in their networks. Only here can a replica be slowed.

    It asks the engine's API: each `docker` command would take CPU time from what is measured.
    """

    name = "containers"
    tools = ("locust", "wrk")

    def __init__(self, project: str) -> None:
        super().__init__()
        self.project = project
        try:
            self.engine = docker.from_env()
        except DockerException as error:
            raise StackError(f"the Docker engine that DOCKER_HOST names does not answer: {error}") from None
        self.balancers: dict[str, Container] = {}  # extra ones, by their algorithm
        self.generator = ""  # the container's id
        self.replicas = {service: len(self.containers(service)) for service in SERVICES}

    def containers(self, service: str) -> list[Container]:
        """Return the service's running containers, oldest first."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        found = self.engine.containers.list(filters={"label": [*labels, "com.docker.compose.oneoff=False"]})
        return sorted(found, key=lambda container: container.attrs["Created"])

    def _first(self, service: str) -> Container:
        """Return the service's oldest running container; raise StackError if none runs."""
        found = self.containers(service)
        if not found:
            raise StackError(f"no container of {service} runs any more")
        return found[0]

    def _address(self, container: Container, network: str) -> str:
        container.reload()
        return str(container.attrs["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"])

    def _front(self, haproxy: Container) -> str:
        """Return the URL of an HAProxy, which is one of HTTPS if it speaks that."""
        secure = any(variable.startswith("HTTPS_PORT=") for variable in haproxy.attrs["Config"]["Env"])
        return f"{'https' if secure else 'http'}://{self._address(haproxy, 'edge')}:{8443 if secure else 8080}"

    def url(self) -> str:
        """See Target. An address, so that no name lookup is measured."""
        return self._front(self._first("haproxy"))

    def settings(self) -> dict[str, str]:
        """See Stack."""
        return dict(pair.split("=", 1) for pair in self._first("haproxy").attrs["Config"]["Env"])

    def answers(self) -> bool:
        """See Target."""
        return len(self.containers("haproxy")) == 1 and all(self.containers(service) for service in SERVICES)

    def show_stat(self) -> str:
        """See Stack."""
        return self._show_stat(self._first("haproxy"))

    def _show_stat(self, haproxy: Container) -> str:
        command = ["bash", "-c", "echo 'show stat' | socat /var/lib/haproxy/admin.sock -"]
        return str(haproxy.exec_run(command).output.decode())

    def balanced(self, algorithm: str) -> str:
        """Return the URL of an extra HAProxy with this algorithm, in front of the same replicas."""
        if algorithm not in self.balancers:
            options = ["--detach", "--no-deps", "--env", f"BALANCE={algorithm}"]
            extra = self.engine.containers.get(output("docker", "compose", "run", *options, "haproxy"))
            self.balancers[algorithm] = extra
            self._keep(extra, self.stack_cores)
            whole = f"the HAProxy with {algorithm} has all replicas"
            wait_until(lambda: settled(statistics(self._show_stat(extra)), self.replicas), whole)
        return self._front(self.balancers[algorithm])

    def served(self, algorithm: str) -> dict[str, int]:
        """Return how many requests each replica has got from the extra HAProxy with this algorithm, by its address."""
        served: dict[str, int] = {}
        for row in statistics(self._show_stat(self.balancers[algorithm])):
            if row["type"] == SERVER:
                served[row["addr"]] = served.get(row["addr"], 0) + int(row["stot"] or 0)
        return served

    def end_balancers(self) -> None:
        """Remove the extra HAProxies, whose health checks cost the replicas CPU time."""
        while self.balancers:
            remove(self.balancers.popitem()[1])

    @contextmanager
    def slowed(self, service: str) -> Iterator[str]:
        """Leave one replica a tenth of a CPU, and yield its address."""
        victim = self._first(service)
        address = self._address(victim, "backend")
        before = victim.attrs["HostConfig"]["NanoCpus"] / 1e9
        output("docker", "update", "--cpus", str(SLOW_CPUS), str(victim.id))
        try:
            yield next(one for one in self.direct(service).split(",") if f"//{address}:" in one).removeprefix("http://")
        finally:
            output("docker", "update", "--cpus", str(before or os.cpu_count()), str(victim.id))

    def generating(self, command: tuple[str, ...]) -> list[str]:
        """See Target."""
        return ["docker", "exec", "--interactive", self.generator, *command]

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """See Target. Also starts the generator's container, and removes it and the extra HAProxies afterwards."""
        compose = ("docker", "compose", "--profile", "load")
        with ExitStack() as after:
            output(*compose, "build", "locust-worker", seconds=BUILD_SECONDS)
            options = ["--detach", "--no-deps", "--entrypoint", "sleep"]
            self.generator = output(*compose, "run", *options, "locust-worker", "infinity")
            after.callback(remove, self.engine.containers.get(self.generator))
            after.callback(self.end_balancers)
            after.enter_context(super().prepared())
            if self.generator_core is not None:
                self._keep_all(self.stack_cores)
                after.callback(self._keep_all, self.all_cores)
            yield

    def processes_here(self) -> list[psutil.Process]:
        """See Target. The engine's own processes, which write the logs; the engine keeps the containers' on cores."""
        engine = [process for process in psutil.process_iter(["name"]) if process.info["name"] in ENGINE]
        return super().processes_here() + engine

    def _keep(self, container: Container, on: list[int]) -> None:
        if on:
            container.update(cpuset_cpus=",".join(map(str, on)))

    def _keep_all(self, on: list[int]) -> None:
        for tier in TIERS:
            for container in self.containers(tier):
                with suppress(DockerException):  # it has ended
                    self._keep(container, on)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """See Stack. None if the engine runs in a virtual machine, since its processes are not this system's."""
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
        """See Stack. Includes what the kernel keeps for connections, but no file cache that it could drop."""
        tiers = dict.fromkeys(TIERS, 0)
        for tier in TIERS:
            for container in self.containers(tier):
                seen = container.stats(stream=False, one_shot=True)["memory_stats"]
                stats = seen.get("stats", {})
                tiers[tier] += seen.get("usage", 0) - stats.get("total_inactive_file", stats.get("inactive_file", 0))
        return tiers

    def restart(self) -> None:
        """See Stack."""
        output("docker", "compose", "restart", "--timeout", "1")

    def kill(self, service: str) -> None:
        """See Stack."""
        victim = self._first(service)
        victim.kill()
        time.sleep(DEAD_SECONDS)
        victim.start()

    def drain(self, service: str) -> None:
        """See Stack."""
        self.containers(service)[-1].restart(timeout=30)

    def facts(self) -> dict[str, str]:
        """See Stack."""
        haproxy, wsgi, asgi = (self._first(tier) for tier in TIERS)
        python = "python -c \"from importlib.metadata import version; print('{0}', 'is', version('{0}'))\""
        asked = {
            "haproxy": haproxy.exec_run("haproxy -v"),
            "python": wsgi.exec_run("python -c \"import platform; print('python is', platform.python_version())\""),
            **{package: wsgi.exec_run(python.format(package)) for package in ("gunicorn", "flask")},
            **{package: asgi.exec_run(python.format(package)) for package in ("uvicorn", "fastapi")},
        }
        settings = self.settings()
        return (
            {name: settings[name] for name in SETTINGS if name in settings}
            | {name: answer.output.decode().split()[2] for name, answer in asked.items() if answer.exit_code == 0}
            | {"docker": self.engine.version()["Version"]}
        )


def remove(container: Container) -> None:
    """Remove a container, running or not."""
    with suppress(DockerException):  # it has gone
        container.remove(force=True, v=True)
