"""Which cores the stack and the generator run on."""

import os
from collections.abc import Iterable
from contextlib import suppress

import psutil


def cores() -> tuple[list[int], int | None]:
    """Return the stack's cores and the generator's: the last one, or None if there is only one for all."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[:-1], usable[-1]) if len(usable) > 1 else (usable, None)


def move(processes: Iterable[psutil.Process], to: list[int]) -> None:
    """Have every thread of the processes run on these cores only."""
    for process in processes:
        with suppress(psutil.Error):  # it has ended
            for thread in process.threads():
                with suppress(OSError):  # it has ended, or belongs to another user
                    os.sched_setaffinity(thread.id, to)
