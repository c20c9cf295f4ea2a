"""The conditions of a run, which its results keep: the machine, the software, the settings."""

import datetime
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from handle import StackError
from report.results import FORMAT
from runner.plan import REPETITIONS
from targets.stack import Stack, output
from targets.target import Target


def now() -> str:
    """Return the time in UTC, as the results keep it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def conditions(target: Target, size: str, seed: int) -> dict[str, Any]:
    """Return what is known of a run before it begins."""
    return {
        "format": FORMAT,
        "began": now(),
        "partial": "not ended",
        "size": size,
        "repetitions": REPETITIONS[size],
        "seed": seed,
        "commit": commit(),
        "loaded": target.name,
        "generator_core": target.generator_core,
        "machine": {
            "cores": os.cpu_count(),
            "processor": processor(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
        },
        "software": {"locust": version("locust"), "python of the runner": platform.python_version()}
        | (software(target) if isinstance(target, Stack) else {}),
    }


def commit() -> str:
    """Return the commit of this repository."""
    try:
        return output("git", "describe", "--always", "--dirty")
    except (StackError, OSError):
        return "unknown"


def processor() -> str:
    """Return the model of the processor, or else its architecture."""
    try:
        model = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = []
    return model[0] if model else platform.machine()


def software(stack: Stack) -> dict[str, str]:
    """Return the stack's versions and settings."""
    return {f"{service} replicas": str(count) for service, count in stack.replicas.items()} | stack.facts()
