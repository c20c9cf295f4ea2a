"""Whether the kernel has ended a process for want of memory. Its parent logs it, since the process itself cannot."""

from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")  # a container's own
REASON = "Out of memory: the kernel ended process %s (a container's limit is deploy.resources.limits.memory)"


def kills() -> int:
    """Return how many processes of this container the kernel has ended for want of memory."""
    for file in (CONTROL_GROUP / "memory.events", CONTROL_GROUP / "memory/memory.oom_control"):  # version 2, and 1
        for line in file.read_text().splitlines() if file.exists() else ():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
