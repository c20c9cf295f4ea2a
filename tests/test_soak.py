"""./scripts/soak: it runs, and it tells growth from settling."""

import re
import subprocess
import sys

import pytest

from handle import run
from soak import ended, growth
from stack import Process, Stack
from ways import PROCESSES, ComposeStack

IDLE = Process(memory=1000, threads=1, descriptors=10, started=1)


@pytest.mark.full
def test_a_minute_of_it_is_told_process_by_process(any_stack: Stack) -> None:
    any_stack.down()
    way = () if isinstance(any_stack, ComposeStack) else ("--local",)
    done = run("./scripts/soak", "--minutes", "1", *way, check=False)
    assert done.returncode in (0, 1), done.stderr  # in so short a run, growth may only be settling
    assert re.search(r"unexpected outcomes: \{('503': \d+)?\}", done.stdout)  # 503: a noisy machine
    for process in ("haproxy", "gunicorn", "python"):
        assert process in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("what", "values", "grows"),
    [
        ("memory", [30_000 + 200 * n for n in range(120)], True),
        ("memory", [30_000 + 20_000 * (n > 30) for n in range(120)], False),  # a step while it warms up
        ("memory", [21_000 + 5_000 * (n > 70) for n in range(120)], False),  # and one later: a burst's buffers
        ("memory", [21_000 + 5_000 * (n > 90) for n in range(120)], False),
        ("memory", [30_000 + 900 * (n % 7) for n in range(120)], False),
        ("descriptors", [40 + n // 3 for n in range(120)], True),
        ("descriptors", [40 + n % 6 for n in range(120)], False),
        ("threads", [12 + n // 10 for n in range(120)], True),
        ("threads", [12] * 120, False),
        ("threads", [12] * 20, False),
    ],
)
def test_what_grows_is_told_from_what_settles(what: str, values: list[int], grows: bool) -> None:
    samples = [{"wsgi-1": IDLE, "asgi-1": IDLE._replace(**{what: value})} for value in values]
    assert set(growth(samples)) == ({("asgi-1", what)} if grows else set())


@pytest.mark.parametrize(
    ("processes", "gone"),
    [
        ([{"wsgi-1": IDLE}, {"wsgi-1": IDLE}, {"wsgi-1": IDLE, "runc": IDLE}], set()),
        ([{"wsgi-1": IDLE, "asgi-1": IDLE}, {"wsgi-1": IDLE}, {"wsgi-1": IDLE}], {"asgi-1"}),
        ([{"wsgi-1": IDLE}, {"wsgi-1": IDLE}, {"wsgi-1": IDLE._replace(started=9)}], {"wsgi-1"}),
    ],
)
def test_a_process_that_ends_is_told_also_where_another_took_its_place(
    processes: list[dict[str, Process]], gone: set[str]
) -> None:
    assert ended(processes) == gone
    assert not growth(processes)


def test_a_process_is_read_right_while_its_state_changes() -> None:
    """Its lines shift meanwhile, as "R (running)" is shorter than "S (sleeping)"."""
    code = "import time\nprint(flush=True)\nwhile True: time.sleep(0.00002)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as restless:
        try:
            assert restless.stdout
            restless.stdout.readline()
            listed = run("bash", "-c", PROCESSES, "bash", *[f"/proc/{restless.pid}"] * 3000).stdout
        finally:
            restless.kill()
    seen = [Process(*map(int, line.split()[1:])) for line in listed.splitlines()]
    assert len(seen) == 3000
    assert {(one.threads, one.started) for one in seen} == {(1, seen[0].started)}
    assert all(one.memory > 1000 for one in seen)
