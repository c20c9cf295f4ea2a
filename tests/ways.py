"""The two ways of running: they differ in how a replica is found, killed, stopped and started, and in nothing else."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from handle import RUN, container_pids, control, run
from stack import Process, Stack

# Prints of processes the name and what a Process is made of, and starts none itself. A status is read in one go: its
# lines move while they are read one by one, as the words for the process's state differ in length.
PROCESSES = r"""
pattern=$'^Name:\t([^\n]+).*\nVmRSS:[ \t]+([0-9]+).*\nThreads:\t([0-9]+)'
for process in ${@:-/proc/[0-9]*}; do
  status= stat=
  { read -rd '' status <$process/status; read -r stat <$process/stat; } 2>/dev/null
  after_name=(${stat##*) }) descriptors=($process/fd/*)
  [[ $status =~ $pattern && ${after_name[19]-} ]] || continue  # it has just ended
  case ${BASH_REMATCH[1]} in bash | runc*) continue ;; esac  # a health check, or this very script
  echo "${BASH_REMATCH[@]:1}" ${#descriptors[@]} ${after_name[19]}
done
"""


class LocalStack(Stack):
    """Processes under supervisor."""

    up_command = ("./scripts/up", "--local")
    defaults: ClassVar[dict[str, str]] = {"DRAIN_SECONDS": "3"}  # the fast loop; containers are tested with 5

    def _all(self, verb: str, service: str) -> None:
        with ThreadPoolExecutor() as together:  # supervisor takes several names one after the other
            for number in (1, 2, 3):
                together.submit(control, verb, self._name(f"{service}-{number}"), check=False)

    def _name(self, instance: str) -> str:
        return f"stack:{instance}"

    def pids(self, instance: str) -> list[int]:
        said = control("pid", self._name(instance), check=False).strip()
        assert said.isdigit() and said != "0", f"{instance} does not run"
        first = int(said)
        children = Path(f"/proc/{first}/task/{first}/children")
        found = children.read_text() if children.exists() else run("pgrep", "-P", str(first), check=False).stdout
        return [first, *map(int, found.split())]

    def processes(self) -> dict[str, Process]:
        found: dict[str, Process] = {}
        for line in control("status", check=False).splitlines():
            name = line.split()[0].partition(":")[2]
            pids = [f"/proc/{pid}" for pid in self.pids(name)]
            found |= self.named(name, run("bash", "-c", PROCESSES, "bash", *pids).stdout)
        return found

    def log_readers(self) -> set[int]:
        return {int((RUN / "supervisord.pid").read_text())}

    def freeze(self, instance: str) -> None:
        self.kill(*self.pids(instance), sig=signal.SIGSTOP)

    def thaw(self, instance: str) -> None:
        self.kill(*self.pids(instance), sig=signal.SIGCONT)

    def stop(self, instance: str) -> None:
        control("stop", self._name(instance), check=False)
        _, _, last = (RUN / "supervisord.log").read_text().rpartition(f"stopped: {instance} ")
        assert last.startswith("(exit status 0)"), last

    def start(self, instance: str) -> None:
        control("start", self._name(instance), check=False)

    def stop_service(self, service: str) -> None:
        self._all("stop", service)

    def start_service(self, service: str) -> None:
        self._all("start", service)

    def log(self, service: str) -> str:
        return "".join(path.read_text() for path in sorted(RUN.glob(f"{service}*.log")))


class ComposeStack(Stack):
    """Containers. An instance is a container's short id, which is its host name."""

    def pids(self, instance: str) -> list[int]:
        return container_pids(instance)

    def processes(self) -> dict[str, Process]:
        found: dict[str, Process] = {}
        for line in run("docker", "compose", "ps", "--format", "{{.ID}} {{.Name}}").stdout.splitlines():
            container, name = line.split()
            listed = run("docker", "exec", container, "bash", "-c", PROCESSES, check=False)  # it may just have ended
            found |= self.named(name, listed.stdout)
        return found

    def log_readers(self) -> set[int]:
        containers = run("docker", "compose", "ps", "--quiet").stdout.split()
        pids = run("docker", "inspect", "--format", "{{.State.Pid}}", *containers).stdout.split()
        return {int(run("ps", "-o", "ppid=", "-p", pid).stdout) for pid in pids}  # containerd's shims

    def freeze(self, instance: str) -> None:
        run("docker", "pause", instance)

    def thaw(self, instance: str) -> None:
        run("docker", "unpause", instance)

    def stop(self, instance: str) -> None:
        run("docker", "stop", instance)
        assert run("docker", "inspect", "--format", "{{.State.ExitCode}}", instance).stdout == "0\n"  # killed: 137

    def start(self, instance: str) -> None:
        run("docker", "start", instance)

    def stop_service(self, service: str) -> None:
        run("docker", "compose", "stop", service)

    def start_service(self, service: str) -> None:
        run("docker", "compose", "start", service)

    def log(self, service: str) -> str:
        result = run("docker", "compose", "logs", "--no-log-prefix", service)
        return result.stdout + result.stderr
